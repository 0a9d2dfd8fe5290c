//! Documents become padded batches of token ids, with a weight for each token to predict.

use anyhow::{Result, anyhow};
use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;

use crate::corpus::{Document, Group};
use crate::random::Random;
use crate::tokenizer::{MESSAGE_END, MESSAGE_START};

/// Padded tokens in a batch, if its documents are not longer.
const TOKENS_PER_BATCH: usize = 512;
/// The context's length: a longer document is cut to it.
pub const LONGEST_DOCUMENT: usize = 2048;
/// Batches that are drawn at a time, so that each can be made of documents of about one length.
const POOL: usize = 32;
/// How much it counts to predict the prompt, beside 1 for the answer: the model answers prompts,
/// and need not write them, but what it learns from them helps with the answers.
const PROMPT_WEIGHT: f32 = 0.1;
/// How often a question is asked in a chat message instead of as raw text.
const CHAT_SHARE: f64 = 0.25;

/// Rows of one length: predict `targets` from `inputs`.
pub struct Batch {
    /// (rows, length) token ids.
    pub inputs: Tensor,
    /// (rows * length) token ids.
    pub targets: Vec<u32>,
    /// (rows * length); 0 for padding.
    pub weights: Vec<f32>,
    /// The sum of the weights.
    pub total_weight: f64,
}

/// An endless supply of batches.
pub struct Batches<'a> {
    groups: &'a [Group],
    tokenizer: &'a Tokenizer,
    random: Random,
    ready: Vec<Batch>,
}

/// One document as tokens.
pub struct Encoded {
    /// Prompt, answer and end token.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt.
    pub prompt: usize,
}

impl<'a> Batches<'a> {
    /// Draws from the groups by their weights.
    pub fn new(groups: &'a [Group], tokenizer: &'a Tokenizer, random: Random) -> Self {
        Self {
            groups,
            tokenizer,
            random,
            ready: Vec::new(),
        }
    }

    /// The next batch.
    pub fn next(&mut self) -> Result<Batch> {
        loop {
            match self.ready.pop() {
                Some(batch) => return Ok(batch),
                None => self.refill()?,
            }
        }
    }

    fn refill(&mut self) -> Result<()> {
        let mut drawn = Vec::new();
        let mut tokens = 0;
        while tokens < POOL * TOKENS_PER_BATCH {
            let encoded = self.draw()?;
            tokens += encoded.tokens.len();
            drawn.push(encoded);
        }
        drawn.sort_by_key(|encoded| encoded.tokens.len());
        let mut rest = drawn.as_slice();
        while let Some(last) = rest.last() {
            let rows = (TOKENS_PER_BATCH / last.tokens.len()).clamp(1, rest.len());
            let (before, batch) = rest.split_at(rest.len() - rows);
            self.ready.push(pad(batch)?);
            rest = before;
        }
        self.random.shuffle(&mut self.ready);
        Ok(())
    }

    fn draw(&mut self) -> Result<Encoded> {
        let total: f64 = self.groups.iter().map(|group| group.weight).sum();
        let mut position = self.random.unit() * total;
        let drawn = self.groups.iter().find(|group| {
            position -= group.weight;
            position < 0.0
        });
        let group = drawn.unwrap_or(&self.groups[0]);
        let document = self.random.pick(&group.documents);
        let in_chat = document.is_question && self.random.unit() < CHAT_SHARE;
        encode(self.tokenizer, document, in_chat)
    }
}

/// The document as it is trained on: it ends with the end token, in a chat or not.
pub fn encode(tokenizer: &Tokenizer, document: &Document, in_chat: bool) -> Result<Encoded> {
    let (prompt, answer) = if in_chat {
        (chat_prompt(&document.prompt), document.answer.trim_start())
    } else {
        (document.prompt.clone(), document.answer.as_str())
    };
    let ids = |text: &str| -> Result<Vec<u32>> {
        let encoding = tokenizer
            .encode(text, false)
            .map_err(|cause| anyhow!("cannot tokenize {text:?}: {cause}"))?;
        Ok(encoding.get_ids().to_vec())
    };
    let mut tokens = ids(&prompt)?;
    let prompt = tokens.len();
    tokens.extend(ids(&format!("{answer}{MESSAGE_END}"))?);
    tokens.truncate(LONGEST_DOCUMENT);
    Ok(Encoded { tokens, prompt })
}

/// What the chat template makes of one user message.
fn chat_prompt(message: &str) -> String {
    format!("{MESSAGE_START}user\n{message}{MESSAGE_END}\n{MESSAGE_START}assistant\n")
}

fn pad(rows: &[Encoded]) -> Result<Batch> {
    let longest = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
    let length = longest - 1;
    let count = rows.len() * length;
    let mut inputs = Vec::with_capacity(count);
    let mut targets = Vec::with_capacity(count);
    let mut weights = Vec::with_capacity(count);
    for row in rows {
        let padding = longest - row.tokens.len();
        let padded = || {
            row.tokens
                .iter()
                .copied()
                .chain(std::iter::repeat_n(0, padding))
        };
        inputs.extend(padded().take(length));
        targets.extend(padded().skip(1));
        weights.extend((1..longest).map(|position| match position {
            _ if position >= row.tokens.len() => 0.0,
            _ if position < row.prompt => PROMPT_WEIGHT,
            _ => 1.0,
        }));
    }
    let total_weight = weights.iter().copied().map(f64::from).sum();
    Ok(Batch {
        inputs: Tensor::from_vec(inputs, (rows.len(), length), &Device::Cpu)?,
        targets,
        weights,
        total_weight,
    })
}
