//! Inference in pieces.

use anyhow::Result;

use super::inference::{adds_up, telling_answer};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::InferenceRequest;

/// The sample prompt, streamed.
pub const CHECKS: &[Check] = &[Check::isolation("streaming.answers", streams)
    .promise("streams the same text token by token, with exactly one end")
    .holds(&["P1", "P4", "P7", "P9", "A1"])
    .explanation("Fails if the stream is invalid, or its text differs from the plain answer's.")
    .by_hand(|by| by.stream("-sN", &InferenceRequest::greedy("Hello, how are you?", 20)))
    .needs(&[Need::Ready])];

fn streams(subject: &Subject) -> Result<Evidence> {
    let (request, plain) = telling_answer(subject)?;
    let streamed = subject.worker.infer_streamed(&request)?;
    adds_up(&streamed.completion, &request)?;
    let plain = plain.text.unwrap_or_default();
    let text = streamed.text();
    ensure_kept(
        text == plain,
        "stream",
        format!("the text of the same request without streaming, `{plain}`"),
        format!("`{text}`"),
    )?;
    let first = streamed
        .pieces
        .first()
        .map_or(streamed.ended, |piece| piece.at);
    let first_token_ms = (first - streamed.sent).as_secs_f64() * 1e3;
    let rate = match streamed.decode_tokens_per_s() {
        Some(rate) => format!(", {rate:.1} tokens/s"),
        None => String::new(),
    };
    let count = streamed.tokens();
    Ok(format!(
        "{count} tokens{rate}, first after {first_token_ms:.1} ms"
    ))
}
