//! What a model says and how it counts, by an engine that isn't the one under test: short prefixes with
//! the token that follows, and texts with their numbers of tokens. `.test-models/references` has one for
//! models of the catalog, whose script describes the format; `--save-reference` writes the same.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The references of models in the catalog, so that they are at hand wherever this program is.
const EMBEDDED: [&str; 3] = [
    include_str!("../../../../../.test-models/references/tiny.json"),
    include_str!("../../../../../.test-models/references/smollm2-135m.json"),
    include_str!("../../../../../.test-models/references/gemma3-270m.json"),
];

/// Engines round in their own ways, which moves a token's log-probability by up to 0.8 nats: what is
/// further ahead of the second than this is first in every right one.
const CLEAR_NATS: f64 = 1.0;

/// Prefixes of more tokens than this are long,
const LONG_TOKENS: usize = 100;

/// of which the shortest are asked for, so many, and the longest: a slow worker reads each from its
/// beginning.
const LONG_PREFIXES: usize = 3;

/// Workers may read the names of special tokens as such or as text: what has one isn't counted.
const MARKUP: char = '<';

/// A prompt, and the text of the one token that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix<'reference> {
    /// What is asked.
    pub prompt: &'reference str,
    /// What has to be answered.
    pub next: &'reference str,
    /// Whether several of its kind may not fit into a context at once.
    pub is_long: bool,
}

/// A text, and how many tokens it has, the one that begins texts included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count<'reference> {
    /// What is asked.
    pub prompt: &'reference str,
    /// What has to be counted.
    pub tokens: u64,
}

/// What a worker said after a prefix, clearly.
#[derive(Debug, Clone)]
pub struct NextToken {
    /// Which passage the prefix begins.
    pub passage: usize,
    /// Its length in bytes,
    pub bytes: usize,
    /// and in tokens.
    pub tokens: usize,
    /// The token's text.
    pub text: String,
}

/// What is known of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelReference {
    /// The model's name.
    pub model: String,
    /// The engine that was asked, and how it was run.
    pub made_with: String,
    passages: Vec<Tokenized>,
    positions: Vec<Position>,
    strings: Vec<Tokenized>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tokenized {
    text: String,
    /// Where the tokens themselves are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ids: Vec<u32>,
    /// Where only their number is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Position {
    passage: usize,
    /// The prefix, in bytes of the passage.
    bytes: usize,
    /// The same in tokens.
    tokens: usize,
    /// The likeliest tokens, best first: number and log-probability where they are known, and text
    /// where it is whole.
    top: Vec<(Option<u32>, Option<f64>, Option<String>)>,
    /// What the first is ahead of the second, in nats; none where it was found clear otherwise.
    #[serde(default)]
    margin: Option<f64>,
}

impl ModelReference {
    /// The reference of a model of the catalog, if there is one.
    pub fn of_catalog(name: &str) -> Result<Option<Self>> {
        for text in EMBEDDED {
            let reference = Self::parse(text)?;
            if reference.model == name {
                return Ok(Some(reference));
            }
        }
        Ok(None)
    }

    /// Texts in which to look for prefixes, and awkward ones to be counted: whatever the model.
    pub fn texts() -> Result<(Vec<String>, Vec<String>)> {
        let known = Self::parse(EMBEDDED[0])?;
        let texts = |list: Vec<Tokenized>| list.into_iter().map(|text| text.text).collect();
        Ok((texts(known.passages), texts(known.strings)))
    }

    /// What a worker said: the numbers of tokens of these texts, and what followed the first `bytes`
    /// bytes of a passage.
    pub fn of_answers(
        model: &str,
        made_with: &str,
        passages: Vec<(String, u64)>,
        nexts: Vec<NextToken>,
        strings: Vec<(String, u64)>,
    ) -> Self {
        let counted = |texts: Vec<(String, u64)>| {
            let texts = texts.into_iter();
            texts
                .map(|(text, tokens)| Tokenized {
                    text,
                    ids: Vec::new(),
                    tokens: Some(tokens),
                })
                .collect()
        };
        let position = |next: NextToken| Position {
            passage: next.passage,
            bytes: next.bytes,
            tokens: next.tokens,
            top: vec![(None, None, Some(next.text))],
            margin: None,
        };
        Self {
            model: model.to_owned(),
            made_with: made_with.to_owned(),
            passages: counted(passages),
            positions: nexts.into_iter().map(position).collect(),
            strings: counted(strings),
        }
    }

    /// Writes it for `--reference`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text)
            .with_context(|| format!("cannot write the reference {}", path.display()))
    }

    /// Reads a file that `--save-reference` or the script has written.
    pub fn load(path: &Path) -> Result<Self> {
        std::fs::read_to_string(path)
            .map_err(anyhow::Error::from)
            .and_then(|text| Self::parse(&text))
            .with_context(|| format!("cannot read the reference {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let reference: Self = serde_json::from_str(text)?;
        for position in &reference.positions {
            let passage = reference.passages.get(position.passage);
            ensure!(
                passage.is_some_and(|passage| passage.text.is_char_boundary(position.bytes)),
                "there is no passage {} with a character at byte {}",
                position.passage,
                position.bytes
            );
        }
        Ok(reference)
    }

    /// Prefixes after which every right engine says the same, the long ones last.
    pub fn prefixes(&self) -> Vec<Prefix<'_>> {
        let is_clear = |position: &&Position| position.margin.is_none_or(|by| by >= CLEAR_NATS);
        let clear = self.positions.iter().filter(is_clear);
        let (long, short): (Vec<_>, Vec<_>) =
            clear.partition(|position| position.tokens > LONG_TOKENS);
        let asked = short
            .into_iter()
            .chain(long.into_iter().rev().take(LONG_PREFIXES));
        asked.filter_map(|position| self.prefix(position)).collect()
    }

    fn prefix<'r>(&'r self, position: &'r Position) -> Option<Prefix<'r>> {
        let (_, _, next) = position.top.first()?;
        Some(Prefix {
            prompt: &self.passages[position.passage].text[..position.bytes],
            next: next.as_deref()?,
            is_long: position.tokens > LONG_TOKENS,
        })
    }

    /// Texts whose number of tokens is known.
    pub fn counts(&self) -> Vec<Count<'_>> {
        let texts = self.strings.iter().chain(&self.passages);
        let plain = texts.filter(|text| !text.text.contains(MARKUP));
        plain
            .map(|text| Count {
                prompt: &text.text,
                tokens: text.tokens.unwrap_or(text.ids.len() as u64),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_with_a_reference_has_prefixes_and_counts_enough() {
        for name in ["tiny", "smollm2-135m", "gemma3-270m"] {
            let reference = ModelReference::of_catalog(name).unwrap().unwrap();
            let (prefixes, counts) = (reference.prefixes(), reference.counts());
            assert!(prefixes.len() >= 80, "{name}: {}", prefixes.len());
            assert!(counts.len() >= 50, "{name}: {}", counts.len());
            assert!(prefixes.iter().all(|prefix| !prefix.next.is_empty()));
            assert!(counts.iter().all(|count| count.tokens > 0));
        }
        assert!(ModelReference::of_catalog("unheard-of").unwrap().is_none());
    }

    #[test]
    fn a_prefix_that_cuts_a_character_or_has_no_passage_is_refused() {
        let with = |position: &str| {
            let text = format!(
                r#"{{"model": "m", "made_with": "e", "passages": [{{"text": "ü b", "tokens": 3}}],
                    "positions": [{position}], "strings": []}}"#
            );
            ModelReference::parse(&text)
        };
        let position = |passage, bytes| {
            format!(
                r#"{{"passage": {passage}, "bytes": {bytes}, "tokens": 1, "top": [[null, null, " b"]]}}"#
            )
        };
        let reference = with(&position(0, 2)).unwrap();
        let next = " b";
        let is_long = false;
        let prefix = Prefix {
            prompt: "ü",
            next,
            is_long,
        };
        assert_eq!(reference.prefixes(), [prefix]);
        assert_eq!(reference.counts()[0].tokens, 3);
        assert!(with(&position(0, 1)).is_err());
        assert!(with(&position(1, 0)).is_err());
    }
}
