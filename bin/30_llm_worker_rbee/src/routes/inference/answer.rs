//! The wire form of a finished generation, which is the same in one piece and at a stream's end.

use serde::Serialize;

use crate::engine::{Completion, Timings};

/// The body of an answer in one piece.
#[derive(Serialize)]
pub(crate) struct Answer {
    pub(crate) text: String,
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

/// What is known at the end; the whole of `event: end`.
#[derive(Serialize)]
pub(crate) struct Summary {
    tokens: u32,
    finish_reason: &'static str,
    usage: Usage,
    timings: TimingsMs,
    /// Only for those who gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    prompt_tokens_details: PromptTokensDetails,
}

/// As OpenAI's clients know it.
#[derive(Serialize)]
struct PromptTokensDetails {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct TimingsMs {
    queue_ms: f64,
    prefill_ms: f64,
    decode_ms: f64,
}

impl Summary {
    /// The client's own name for the request goes with it.
    pub(crate) fn new(completion: Completion, correlation_id: Option<String>) -> Self {
        let Timings {
            queue_ms,
            prefill_ms,
            decode_ms,
        } = completion.timings;
        Self {
            tokens: completion.completion_tokens,
            finish_reason: completion.finish_reason.name(),
            usage: Usage {
                prompt_tokens: completion.prompt_tokens,
                completion_tokens: completion.completion_tokens,
                prompt_tokens_details: PromptTokensDetails {
                    cached_tokens: completion.cached_tokens,
                },
            },
            timings: TimingsMs {
                queue_ms: to_microseconds(queue_ms),
                prefill_ms: to_microseconds(prefill_ms),
                decode_ms: to_microseconds(decode_ms),
            },
            correlation_id,
        }
    }
}

/// Finer digits are noise of the clock and of the format.
fn to_microseconds(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
