//! Inference in pieces.

use anyhow::Result;

use super::inference::{adds_up, sample_request};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;

/// The sample prompt, streamed.
pub const CHECKS: &[Check] = &[
    Check::isolation("streaming.answers", streams)
        .promise("streams the same text token by token, with exactly one end")
        .quote("The last event is exactly one `event: end` (`data:` is the answer in one piece without its `text`) or one `event: error` (`data:` is an error). Concatenated, the texts equal what the same request answers in one piece.")
        .explanation("A stream that breaks a rule of streams, or whose text differs from the plain answer's, fails it.")
        .by_hand(r#"curl -sN http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello, how are you?","max_tokens":20,"temperature":0,"stream":true}'"#)
        .needs(&[Need::Ready]),
];

fn streams(subject: &Subject) -> Result<Evidence> {
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
    let first_token_ms = (streamed.tokens[0].0 - streamed.sent).as_secs_f64() * 1e3;
    let rate = match streamed.decode_tokens_per_s() {
        Some(rate) => format!(", {rate:.1} tokens/s"),
        None => String::new(),
    };
    let count = streamed.tokens.len();
    Ok(format!(
        "{count} tokens{rate}, first after {first_token_ms:.1} ms"
    ))
}
