//! Asks the finished file what it learnt, by greedy decoding, and says how sure it was.

use anyhow::{Result, anyhow};
use candle_core::{Device, IndexOp, Tensor};
use tokenizers::Tokenizer;

use crate::corpus::{Document, Group};
use crate::model::Model;
use crate::tokenizer::{MESSAGE_END, SPECIAL};

/// Prompts whose greedy answers are written down in the README and in tests of the worker.
pub const GOLDEN_PROMPTS: &[&str] = &[
    "Hello, how are you?",
    "The capital of France is",
    "What is your name?",
    "1, 2, 3,",
    "2 + 3 =",
    "A smiling face:",
    "The Japanese word for Japan is",
    "Tell me a joke.",
    "Once upon a time",
    "Tell me a long story.",
    "Count from one to one hundred:",
];

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
        let answer = answer(model, tokenizer, prompt, 1000)?;
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

/// How many of the documents that have one right answer are answered right; prints the others.
pub fn examine(model: &Model, tokenizer: &Tokenizer, groups: &[Group]) -> Result<(usize, usize)> {
    let known: Vec<&Document> = groups
        .iter()
        .filter(|group| group.has_one_answer)
        .flat_map(|group| &group.documents)
        .collect();
    let mut right = 0;
    for document in &known {
        let answer = answer(model, tokenizer, &document.prompt, 200)?;
        if answer.ended && answer.text == document.answer {
            right += 1;
        } else {
            println!(
                "  wrong: {:?} -> {:?}, not {:?}",
                document.prompt, answer.text, document.answer
            );
        }
    }
    Ok((right, known.len()))
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
