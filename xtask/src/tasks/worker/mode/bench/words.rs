//! Prompts of an exact length in tokens, for any model: made of words of which the worker itself says
//! that each is one token.

use anyhow::{Result, bail};

use crate::tasks::worker::record::random::Random;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::InferenceRequest;

/// Frequent words, of which any English vocabulary has most as a token.
const WORDS: [&str; 64] = [
    "the", "and", "was", "for", "that", "with", "his", "her", "they", "had", "not", "you", "one",
    "day", "time", "said", "from", "all", "this", "have", "were", "there", "what", "when", "man",
    "out", "big", "up", "little", "can", "will", "some", "then", "saw", "she", "but", "very",
    "like", "them", "old", "new", "see", "now", "down", "two", "way", "could", "did", "made",
    "good", "over", "into", "him", "went", "go", "get", "so", "would", "home", "back", "water",
    "people", "who", "long",
];

/// How many words are tried at once.
const TRIED_AT_ONCE: usize = 8;

/// Fewer words than these would make prompts that are hard to tell apart.
const FEWEST: usize = 8;

/// What every prompt begins with.
const BEGIN: &str = "Once";

/// Makes prompts. No two of them are the same, as far as chance allows.
#[derive(Debug, Clone)]
pub struct Prompts {
    words: Vec<&'static str>,
    /// Tokens of the begin alone, with whatever the model puts before it.
    begin_tokens: u64,
    random: Random,
}

impl Prompts {
    /// Asks the worker how it counts.
    ///
    /// Fails where no words of one token are found, or where it doesn't answer.
    pub fn calibrate(subject: &Subject, seed: u64) -> Result<Self> {
        let count = |text: &str| -> Result<u64> {
            let completion = subject.worker.infer(&InferenceRequest::greedy(text, 1))?;
            completion.prompt_tokens()
        };
        let begin_tokens = count(BEGIN)?;
        let mut words = Vec::new();
        for group in WORDS.chunks(TRIED_AT_ONCE) {
            if count(&joined(group))? == begin_tokens + group.len() as u64 {
                words.extend_from_slice(group);
                continue;
            }
            for word in group {
                // Twice, so that a word that melts with its neighbour is found out.
                if count(&joined(&[word, word]))? == begin_tokens + 2 {
                    words.push(*word);
                }
            }
        }
        if words.len() < FEWEST {
            bail!(
                "only {} of {} frequent English words are a single token for this model, so prompts \
                 of an exact length can't be made\n  try: --prompts FILE.jsonl",
                words.len(),
                WORDS.len()
            );
        }
        Ok(Self {
            words,
            begin_tokens,
            random: Random::new(seed),
        })
    }

    /// The shortest length that a prompt can have and still differ from others.
    pub fn shortest(&self) -> u64 {
        self.begin_tokens + 4
    }

    /// A text that goes on with so many tokens more.
    pub fn go_on(&mut self, text: &str, tokens: u64) -> String {
        let mut text = text.to_owned();
        for _ in 0..tokens {
            text.push(' ');
            text.push_str(self.words[self.random.index(self.words.len())]);
        }
        text
    }

    /// A prompt of so many tokens that is made of blocks: what has the same numbers begins alike.
    pub fn of_blocks(&mut self, blocks: &[u64], block_tokens: u64, tokens: u64) -> String {
        let mut left = tokens.max(self.shortest()) - self.begin_tokens;
        let mut text = BEGIN.to_owned();
        for block in blocks {
            let mut same = Self {
                random: Random::new(*block),
                ..self.clone()
            };
            let part = block_tokens.min(left);
            text = same.go_on(&text, part);
            left -= part;
        }
        self.go_on(&text, left)
    }

    /// A prompt of so many tokens, or of the shortest possible length.
    pub fn make(&mut self, tokens: u64) -> String {
        let count = tokens.max(self.shortest()) - self.begin_tokens;
        let mut word = || self.words[self.random.index(self.words.len())];
        let drawn: Vec<&str> = (0..count).map(|_| word()).collect();
        joined(&drawn)
    }
}

fn joined(words: &[&str]) -> String {
    let mut text = BEGIN.to_owned();
    for word in words {
        text.push(' ');
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(seed: u64) -> Prompts {
        Prompts {
            words: WORDS.to_vec(),
            begin_tokens: 2,
            random: Random::new(seed),
        }
    }

    #[test]
    fn a_prompt_has_the_length_that_was_asked_for() {
        let mut prompts = prompts(1);
        for tokens in [6, 32, 512] {
            // Each word is a token, and the begin is two.
            let words = prompts.make(tokens).split(' ').count() as u64;
            assert_eq!(words + 1, tokens);
        }
        assert_eq!(prompts.make(1).split(' ').count(), 5);
    }

    #[test]
    fn prompts_of_the_same_blocks_begin_alike() {
        let mut prompts = prompts(1);
        let (one, other) = (
            prompts.of_blocks(&[7, 8], 16, 40),
            prompts.of_blocks(&[7, 9], 16, 40),
        );
        assert_eq!(one.split(' ').count() + 1, 40);
        let alike = one
            .split(' ')
            .zip(other.split(' '))
            .take_while(|(one, other)| one == other);
        assert!((17..22).contains(&alike.count()), "{one}\n{other}");
        // Fewer tokens than its blocks would have: the last is cut.
        assert_eq!(
            prompts.of_blocks(&[7, 8], 16, 20).split(' ').count() + 1,
            20
        );
    }

    #[test]
    fn prompts_differ_and_can_be_made_again() {
        let (first, second) = (prompts(1).make(32), prompts(2).make(32));
        assert_ne!(first, second);
        assert_eq!(first, prompts(1).make(32));
    }
}
