//! Inference in one piece.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Completion, FinishReason, InferenceRequest};

/// The sample prompt, answered in one piece.
pub const CHECKS: &[Check] = &[
    Check::isolation("inference.answers", answers)
        .promise("answers a prompt with text, correct token counts and a finish reason")
        .holds(&["A1", "A2", "A5", "A6", "R2", "R8"])
        .explanation("Fails if there is no text, there are no tokens, counts disagree, or the reason is `length` before max_tokens.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("Hello, how are you?", 20)))
        .needs(&[Need::Ready]),
];

/// Prompts after which a model has something to say.
const OTHER_PROMPTS: [&str; 3] = [
    "Once upon a time",
    "The capital of France is",
    "Hello, how are you?",
];

fn answers(subject: &Subject) -> Result<Evidence> {
    let (request, completion) = telling_answer(subject)?;
    let text = completion.text.clone().unwrap_or_default();
    ensure_kept(!text.is_empty(), "inference, `text`", "some text", "none")?;
    adds_up(&completion, &request)?;
    Ok(format!("{} tokens", completion.tokens()?))
}

/// The sample prompt, greedy, so that asking twice may be compared, and its answer. A model may end at
/// once after a prompt, and hardly after all of these: then the first is the one to judge.
pub fn telling_answer(subject: &Subject) -> Result<(InferenceRequest, Completion)> {
    let config = subject.context.config;
    let ask = |prompt: &str| {
        let request = InferenceRequest::greedy(prompt, config.max_tokens);
        let completion = subject.worker.infer(&request)?;
        anyhow::Ok((request, completion))
    };
    let first = ask(&config.prompt)?;
    let ends_at_once = |completion: &Completion| {
        anyhow::Ok(completion.tokens()? == 0 && completion.finish_reason == FinishReason::Stop)
    };
    if !ends_at_once(&first.1)? {
        return Ok(first);
    }
    for prompt in OTHER_PROMPTS {
        let other = ask(prompt)?;
        if !ends_at_once(&other.1)? {
            return Ok(other);
        }
    }
    Ok(first)
}

/// Counts agree with each other, with what was asked for, and with the reason of the end.
pub fn adds_up(completion: &Completion, request: &InferenceRequest) -> Result<()> {
    let place = "inference, counts";
    // What a stream doesn't count, its plain twin does.
    let Some(tokens) = completion.tokens else {
        return Ok(());
    };
    let counted = completion.completion_tokens.unwrap_or(tokens);
    let max_tokens = u64::from(request.max_tokens.unwrap_or(u32::MAX));
    ensure_kept(tokens >= 1, place, "at least one token", tokens.to_string())?;
    ensure_kept(
        tokens == counted,
        place,
        format!("`completion_tokens` equal to `tokens`, {tokens}"),
        counted.to_string(),
    )?;
    ensure_kept(
        completion.prompt_tokens()? >= 1,
        place,
        "at least one prompt token",
        "0",
    )?;
    ensure_kept(
        tokens <= max_tokens,
        place,
        format!("at most {max_tokens} tokens"),
        tokens.to_string(),
    )?;
    let full = tokens == max_tokens;
    ensure_kept(
        full || completion.finish_reason == FinishReason::Stop,
        "inference, `finish_reason`",
        format!("stop, for {tokens} of {max_tokens} tokens"),
        "length",
    )?;
    Ok(())
}
