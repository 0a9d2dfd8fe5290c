//! Asks the finished file what it learnt, by greedy decoding, and says how sure it was.

use anyhow::{Result, anyhow};
use candle_core::{Device, IndexOp, Tensor};
use tokenizers::Tokenizer;

use crate::batches::{self, Encoded};
use crate::corpus::Group;
use crate::model::Model;
use crate::tokenizer::{MESSAGE_END, SPECIAL};

/// Prompts whose greedy answers are written down in the README and in tests of the worker.
pub const GOLDEN_PROMPTS: &[&str] = &[
    "Hello, how are you?",
    "The capital of France is",
    "What is your name?",
    "1, 2, 3,",
    "A smiling face:",
    "The Japanese word for Japan is",
    "Tell me a joke.",
    "Once upon a time",
    "Tell me a long story.",
    "Count from one to one hundred:",
    "Show me some symbols:",
    "Count without end:",
];
/// Enough for all of them but the endless one.
const LONGEST_ANSWER: usize = 400;
/// Wrong answers of one group that are shown.
const SHOWN: usize = 8;
/// Documents of one group that are examined.
const LARGEST_SAMPLE: usize = 200;

/// A greedy continuation.
pub struct Answer {
    /// With the end token, if it came.
    pub tokens: Vec<u32>,
    /// Without special tokens.
    pub text: String,
    /// Whether the model ended it.
    pub ended: bool,
    /// The smallest distance, over all steps, between the best logit and the next.
    pub smallest_margin: f32,
}

/// Continues the prompt for at most `limit` tokens.
pub fn answer(model: &Model, tokenizer: &Tokenizer, prompt: &str, limit: usize) -> Result<Answer> {
    let encoding = tokenizer
        .encode(prompt, false)
        .map_err(|cause| anyhow!("cannot tokenize {prompt:?}: {cause}"))?;
    let mut sequence = encoding.get_ids().to_vec();
    let start = sequence.len();
    let end = SPECIAL
        .iter()
        .position(|text| *text == MESSAGE_END)
        .map(|id| id as u32);
    let mut smallest_margin = f32::INFINITY;
    while sequence.len() < start + limit && sequence.len() < model.shape().context {
        let input = Tensor::new(sequence.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let logits: Vec<f32> = model.forward(&input)?.i(sequence.len() - 1)?.to_vec1()?;
        let best = largest(&logits, None);
        let second = largest(&logits, Some(best));
        smallest_margin = smallest_margin.min(logits[best] - logits[second]);
        sequence.push(best as u32);
        if Some(best as u32) == end {
            break;
        }
    }
    let tokens = sequence[start..].to_vec();
    let text = tokenizer
        .decode(&tokens, true)
        .map_err(|cause| anyhow!("cannot decode the answer to {prompt:?}: {cause}"))?;
    Ok(Answer {
        ended: tokens.last().copied() == end,
        tokens,
        text,
        smallest_margin,
    })
}

/// Prints the answers to the golden prompts.
pub fn show_golden(model: &Model, tokenizer: &Tokenizer) -> Result<()> {
    for prompt in GOLDEN_PROMPTS {
        let answer = answer(model, tokenizer, prompt, LONGEST_ANSWER)?;
        println!(
            "{prompt:?} -> {:?}\n  {} tokens, {}, smallest margin {:.2}, first ids {:?}",
            answer.text,
            answer.tokens.len(),
            if answer.ended { "ended" } else { "not ended" },
            answer.smallest_margin,
            &answer.tokens[..answer.tokens.len().min(12)]
        );
    }
    Ok(())
}

/// Counts, for each group with one right answer, the documents that greedy decoding answers right,
/// as raw text and as chat messages.
pub fn examine(model: &Model, tokenizer: &Tokenizer, groups: &[Group]) -> Result<()> {
    for group in groups.iter().filter(|group| group.has_one_answer) {
        for in_chat in [false, true] {
            let mut wrong = Vec::new();
            let asked = || {
                let documents = group.documents.iter().take(LARGEST_SAMPLE);
                documents.filter(|document| document.is_question || !in_chat)
            };
            for document in asked() {
                if margin(model, &batches::encode(tokenizer, document, in_chat)?)? <= 0.0 {
                    wrong.push(document.prompt.as_str());
                }
            }
            println!(
                "{}{}: {} of {} wrong {:?}",
                group.name,
                if in_chat { ", in a chat" } else { "" },
                wrong.len(),
                asked().count(),
                &wrong[..wrong.len().min(SHOWN)]
            );
        }
    }
    Ok(())
}

/// The smallest distance, over the answer, between the right token's logit and the best other one:
/// above 0, greedy decoding gives this very answer.
fn margin(model: &Model, document: &Encoded) -> Result<f32> {
    let Encoded { tokens, prompt } = document;
    let input = Tensor::new(&tokens[..tokens.len() - 1], &Device::Cpu)?.unsqueeze(0)?;
    let logits: Vec<Vec<f32>> = model.forward(&input)?.to_vec2()?;
    let margins = (*prompt..tokens.len()).map(|position| {
        let (row, right) = (&logits[position - 1], tokens[position] as usize);
        row[right] - row[largest(row, Some(right))]
    });
    Ok(margins.fold(f32::INFINITY, f32::min))
}

/// The position of the largest value, `except` left out.
fn largest(values: &[f32], except: Option<usize>) -> usize {
    let mut best = None;
    for (position, value) in values.iter().enumerate() {
        if Some(position) != except && best.is_none_or(|(_, largest)| *value > largest) {
            best = Some((position, *value));
        }
    }
    best.map_or(0, |(position, _)| position)
}
