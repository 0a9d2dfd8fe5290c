//! Tokens that are found in a prompt before anything else, such as `<|im_start|>`.

use std::cmp::Reverse;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use anyhow::{Context, Result};

/// The special tokens of a vocabulary.
#[derive(Debug)]
pub struct Specials {
    /// The longest first.
    texts: Vec<(String, u32)>,
    /// Finds which of them a prompt holds at all, in one go: some vocabularies have thousands.
    finder: Option<AhoCorasick>,
}

/// A part of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment<'text> {
    /// Text without special tokens.
    Text(&'text str),
    /// A special token.
    Special(u32),
}

impl Specials {
    /// All special tokens with their texts.
    pub fn new<'a>(specials: impl Iterator<Item = (&'a str, u32)>) -> Result<Self> {
        let mut texts: Vec<_> = specials
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, token)| (text.to_owned(), token))
            .collect();
        texts.sort_by_key(|(text, _)| Reverse(text.len()));
        let finder = match texts.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .kind(Some(AhoCorasickKind::ContiguousNFA))
                    .build(texts.iter().map(|(text, _)| text))
                    .context("the special tokens are too many")?,
            ),
        };
        Ok(Self { texts, finder })
    }

    /// The parts of a prompt. Longer tokens are found before shorter ones, wherever they are.
    pub fn split<'text>(&self, prompt: &'text str) -> Vec<Fragment<'text>> {
        let mut fragments = Vec::new();
        if !prompt.is_empty() {
            fragments.push(Fragment::Text(prompt));
        }
        for number in self.held_by(prompt) {
            let (special, token) = &self.texts[number];
            fragments = fragments
                .into_iter()
                .flat_map(|fragment| refine(fragment, special, *token))
                .collect();
        }
        fragments
    }

    /// Which of the tokens are somewhere in the prompt, in their order.
    fn held_by(&self, prompt: &str) -> Vec<usize> {
        let Some(finder) = &self.finder else {
            return Vec::new();
        };
        let mut is_held = vec![false; self.texts.len()];
        for found in finder.find_overlapping_iter(prompt) {
            is_held[found.pattern().as_usize()] = true;
        }
        (0..is_held.len())
            .filter(|&number| is_held[number])
            .collect()
    }
}

fn refine<'text>(fragment: Fragment<'text>, special: &str, token: u32) -> Vec<Fragment<'text>> {
    let Fragment::Text(text) = fragment else {
        return vec![fragment];
    };
    let mut parts = Vec::new();
    for (number, part) in text.split(special).enumerate() {
        if number > 0 {
            parts.push(Fragment::Special(token));
        }
        if !part.is_empty() {
            parts.push(Fragment::Text(part));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::Fragment::{Special, Text};
    use super::*;

    #[test]
    fn longer_tokens_are_found_before_shorter_ones() {
        let specials = [("ab", 1), ("abc", 2), ("<s>", 3), ("", 4), ("s", 5)];
        let specials = Specials::new(specials.into_iter()).unwrap();
        assert_eq!(
            specials.split("x<s>abcab s"),
            [
                Text("x"),
                Special(3),
                Special(2),
                Special(1),
                Text(" "),
                Special(5)
            ]
        );
        assert_eq!(specials.split("x"), [Text("x")]);
        assert_eq!(specials.split(""), []);
    }

    #[test]
    fn thousands_of_tokens_cost_a_long_prompt_little() {
        let texts: Vec<_> = (0..6000)
            .map(|number| format!("<unused{number}>"))
            .collect();
        let specials = texts.iter().map(String::as_str).zip(0..);
        let specials = Specials::new(specials).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(specials.split(&"<unused".repeat(100_000)).len(), 1);
        let spent = begun.elapsed();
        assert!(spent.as_secs() < 10, "{spent:?}");
    }
}
