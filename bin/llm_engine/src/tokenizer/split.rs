//! Cutting a text into the words inside which a byte-level tokenizer merges.
//!
//! Models name their rule in `tokenizer.ggml.pre`. The rules are published as patterns with a
//! look-ahead, `\s+(?!\S)`: of some spaces before a word, the last one belongs to the word. Here
//! the patterns do without it and [`Pattern::matches`] gives the last space back, so that the time
//! stays in proportion to the text whatever the text is.

use anyhow::{Result, bail};
use regex::Regex;

const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3_WORDS: &str = concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);
/// As Llama 3 does it, except that each digit is a word of its own.
const QWEN2_WORDS: &str = concat!(
    r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
);

/// A model family's way to cut a text into words.
#[derive(Debug)]
pub struct Splitter {
    /// Each cuts further what those before it left.
    patterns: Vec<Pattern>,
    whole_words: bool,
    begins_texts: bool,
}

impl Splitter {
    /// The rule with this name in `tokenizer.ggml.pre`.
    pub fn new(pre: &str) -> Result<Self> {
        let plain = |pattern| Pattern::new(pattern, GiveBack::Nothing);
        let gpt2 = || Pattern::new(GPT2_WORDS, GiveBack::LastSpace);
        let patterns = match pre {
            "default" => vec![
                plain(r"[\p{P}$+<=>^~|]+"),
                gpt2(),
                plain(r"\p{N}+"),
                plain("[0-9][0-9][0-9]"),
            ],
            "gpt-2" => vec![gpt2()],
            "smollm" => vec![plain(r"\p{N}"), gpt2()],
            "llama-bpe" | "llama3" | "llama-v3" => {
                vec![Pattern::new(LLAMA3_WORDS, GiveBack::LastSpaceOfLine)]
            }
            "qwen2" => vec![Pattern::new(QWEN2_WORDS, GiveBack::LastSpaceOfLine)],
            _ => bail!(
                "unsupported `tokenizer.ggml.pre` `{}`: this worker knows default, gpt-2, smollm, \
                 llama-bpe and qwen2",
                pre.escape_debug()
            ),
        };
        let llama3 = pre.starts_with("llama");
        Ok(Self {
            patterns,
            whole_words: llama3,
            begins_texts: llama3,
        })
    }

    /// Whether a word that is a token stays whole, whatever the merges would make of it.
    pub fn takes_whole_words(&self) -> bool {
        self.whole_words
    }

    /// Whether prompts begin with the begin token unless the metadata says otherwise.
    pub fn begins_texts(&self) -> bool {
        self.begins_texts
    }

    /// The words of a text; together they are the text.
    pub fn split<'text>(&self, text: &'text str) -> Vec<&'text str> {
        let mut words = vec![text];
        for pattern in &self.patterns {
            words = words
                .into_iter()
                .flat_map(|word| pattern.split(word))
                .collect();
        }
        words
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GiveBack {
    Nothing,
    /// The last of several white-space characters, if something follows.
    LastSpace,
    /// The same, except that a line's end stays with what precedes it.
    LastSpaceOfLine,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    give_back: GiveBack,
}

impl Pattern {
    fn new(pattern: &str, give_back: GiveBack) -> Self {
        let regex = Regex::new(pattern).expect("the patterns are constants that a test builds");
        Self { regex, give_back }
    }

    /// What matches and what lies between, in order.
    fn split<'text>(&self, text: &'text str) -> Vec<&'text str> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            let end = found.end() - self.given_back(text, found.as_str(), found.end());
            if found.start() > at {
                parts.push(&text[at..found.start()]);
            }
            parts.push(&text[found.start()..end]);
            at = end;
        }
        if at < text.len() {
            parts.push(&text[at..]);
        }
        parts
    }

    /// How many of the found bytes belong to the next word.
    fn given_back(&self, text: &str, found: &str, end: usize) -> usize {
        let Some(last) = found.chars().next_back() else {
            return 0;
        };
        let wants = match self.give_back {
            GiveBack::Nothing => false,
            GiveBack::LastSpace => true,
            GiveBack::LastSpaceOfLine => !matches!(last, '\r' | '\n'),
        };
        let is_part = found.len() > last.len_utf8();
        // A match that ends in white space is white space throughout, or ends a line.
        if wants && is_part && end < text.len() && found.chars().all(char::is_whitespace) {
            last.len_utf8()
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split<'text>(pre: &str, text: &'text str) -> Vec<&'text str> {
        Splitter::new(pre).unwrap().split(text)
    }

    #[test]
    fn the_last_of_several_spaces_goes_with_the_word() {
        assert_eq!(split("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(split("gpt-2", "a  "), ["a", "  "]);
        assert_eq!(split("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(split("llama-bpe", "a \n\n  b"), ["a", " \n\n", " ", " b"]);
    }

    #[test]
    fn smollm_takes_digits_one_by_one() {
        assert_eq!(
            split("smollm", "in 1984!"),
            ["in", " ", "1", "9", "8", "4", "!"]
        );
        assert_eq!(split("gpt-2", "in 1984!"), ["in", " 1984", "!"]);
        assert_eq!(split("llama-bpe", "in 1984!"), ["in", " ", "198", "4", "!"]);
        assert_eq!(split("default", "in 1984!"), ["in", " ", "198", "4", "!"]);
        assert_eq!(
            split("qwen2", "in 1984!"),
            ["in", " ", "1", "9", "8", "4", "!"]
        );
    }

    #[test]
    fn an_unknown_rule_is_refused_by_name() {
        let error = Splitter::new("poro").unwrap_err().to_string();
        assert!(
            error.contains("`poro`") && error.contains("smollm"),
            "{error}"
        );
    }

    #[test]
    fn hostile_texts_take_no_longer_than_their_length_explains() {
        // A backtracking engine gives up on this, or takes minutes.
        let spaces = " ".repeat(1 << 20) + "x";
        assert_eq!(split("smollm", &spaces).len(), 2);
        let newlines = "\n ".repeat(1 << 19) + "x";
        assert_eq!(split("llama-bpe", &newlines).concat(), newlines);
    }
}
