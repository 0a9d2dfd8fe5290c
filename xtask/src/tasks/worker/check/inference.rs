//! Inference, plain and streamed.

use anyhow::Result;

use super::{Check, Evidence, Need, ensure_kept};
use crate::tasks::worker::record::event::{Level, Suite};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Completion, FinishReason, InferenceRequest};

/// The sample prompt, both ways.
pub const CHECKS: &[Check] = &[
    Check {
        id: "inference.answers",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "answers a prompt with text, true token counts and a finish reason",
        contract: "`tokens` equals `usage.completion_tokens`; `prompt_tokens` includes the begin-of-text token, if the model has one.",
        explanation: "No text, no tokens, counts that disagree, or `length` before max_tokens fails it.",
        by_hand: |by| by.infer("-s", &InferenceRequest::greedy("Hello, how are you?", 20)),
        needs: &[Need::Ready],
        run: answers,
    },
    Check {
        id: "streaming.answers",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "streams the same text token by token, with exactly one end",
        contract: "The last event is exactly one `event: end` (`data:` is the answer in one piece without its `text`) or one `event: error` (`data:` is an error). Concatenated, the texts equal what the same request answers in one piece.",
        explanation: "A stream that breaks a rule of streams, or whose text differs from the plain answer's, fails it.",
        by_hand: |by| by.stream("-sN", &InferenceRequest::greedy("Hello, how are you?", 20)),
        needs: &[Need::Ready],
        run: streams,
    },
];

pub fn answers(subject: &Subject) -> Result<Evidence> {
    let request = sample_request(subject);
    let completion = subject.infer(&request)?;
    let text = completion.text.clone().unwrap_or_default();
    ensure_kept(!text.is_empty(), "inference, `text`", "some text", "none")?;
    adds_up(&completion, &request)?;
    Ok(format!("{} tokens", completion.tokens()?))
}

pub fn streams(subject: &Subject) -> Result<Evidence> {
    let request = sample_request(subject);
    let streamed = subject.infer_streamed(&request)?;
    adds_up(&streamed.completion, &request)?;
    let plain = subject.infer(&request)?.text.unwrap_or_default();
    let text = streamed.text();
    ensure_kept(
        text == plain,
        "stream",
        format!("the text of the same request without streaming, `{plain}`"),
        format!("`{text}`"),
    )?;
    let first_token_ms = (streamed.pieces[0].at - streamed.sent).as_secs_f64() * 1e3;
    let rate = match streamed.decode_tokens_per_s() {
        Some(rate) => format!(", {rate:.1} tokens/s"),
        None => String::new(),
    };
    let count = streamed.pieces.len();
    Ok(format!(
        "{count} tokens{rate}, first after {first_token_ms:.1} ms"
    ))
}

/// The sample prompt, greedy, so that asking twice may be compared.
fn sample_request(subject: &Subject) -> InferenceRequest {
    let config = subject.context.config;
    InferenceRequest::greedy(&config.prompt, config.max_tokens)
}

/// Counts agree with each other, with what was asked for, and with the reason of the end.
fn adds_up(completion: &Completion, request: &InferenceRequest) -> Result<()> {
    let place = "inference, counts";
    let tokens = completion.tokens()?;
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
