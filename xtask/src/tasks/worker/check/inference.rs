//! Inference in one piece.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Completion, FinishReason, InferenceRequest};

/// The sample prompt, answered in one piece.
pub const CHECKS: &[Check] = &[
    Check::isolation("inference.answers", answers)
        .promise("answers a prompt with text, true token counts and a finish reason")
        .quote("`tokens` equals `usage.completion_tokens`; `prompt_tokens` includes the begin-of-text token, if the model has one.")
        .explanation("No text, no tokens, counts that disagree, or `length` before max_tokens fails it.")
        .by_hand(r#"curl -s http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello, how are you?","max_tokens":20,"temperature":0}'"#)
        .needs(&[Need::Ready]),
];

fn answers(subject: &Subject) -> Result<Evidence> {
    let request = sample_request(subject);
    let completion = subject.infer(&request)?;
    let text = completion.text.clone().unwrap_or_default();
    ensure_kept(!text.is_empty(), "inference, `text`", "some text", "none")?;
    adds_up(&completion, &request)?;
    Ok(format!("{} tokens", completion.tokens))
}

/// The sample prompt, greedy, so that asking twice may be compared.
pub fn sample_request(subject: &Subject) -> InferenceRequest {
    let config = subject.context.config;
    InferenceRequest::greedy(&config.prompt, config.max_tokens)
}

/// Counts agree with each other, with what was asked for, and with the reason of the end.
pub fn adds_up(completion: &Completion, request: &InferenceRequest) -> Result<(), Mismatch> {
    let place = "inference, counts";
    let (tokens, counted) = (completion.tokens, completion.completion_tokens);
    let max_tokens = u64::from(request.max_tokens.unwrap_or(u32::MAX));
    ensure_kept(tokens >= 1, place, "at least one token", tokens.to_string())?;
    ensure_kept(
        tokens == counted,
        place,
        format!("`completion_tokens` equal to `tokens`, {tokens}"),
        counted.to_string(),
    )?;
    ensure_kept(
        completion.prompt_tokens >= 1,
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
    )
}
