//! Requests whose answers are known, and how long they took a worker that had nothing else to do.

use std::time::Duration;

use super::dialect::InferenceRequest;
use crate::tasks::worker::record::event::Mismatch;

/// An answer may take so many times as long beside other work, on a busy machine.
const SLACK_FACTOR: u32 = 5;

/// And this much longer for what doesn't scale with the model.
const SLACK: Duration = Duration::from_secs(8);

/// What is known about a worker once it has answered a few requests alone.
#[derive(Debug, Clone)]
pub struct Pace {
    /// A short greedy request.
    pub golden: KnownRequest,
    /// One that keeps a worker busy for about four seconds, or as long as its context allows.
    pub long: KnownRequest,
}

/// A request whose answer is known.
#[derive(Debug, Clone)]
pub struct KnownRequest {
    /// What is asked for.
    pub request: InferenceRequest,
    /// What every worker with this model answers.
    pub text: String,
    /// How many tokens that is.
    pub tokens: u64,
    /// How long it took a worker that had nothing else to do.
    pub took: Duration,
}

impl Pace {
    /// Fails with a [`Mismatch`] unless this is the beginning of the long request's text.
    pub fn expect_beginning(&self, place: &str, got: &str) -> Result<(), Mismatch> {
        // Where a character is cut by the last token, what stands for it isn't in the longer text.
        let whole = got.trim_end_matches('\u{fffd}');
        if !whole.is_empty() && self.long.text.starts_with(whole) {
            return Ok(());
        }
        let expected = format!("the beginning of `{}`", self.long.text);
        Err(Mismatch::new(place, expected, format!("`{got}`")))
    }

    /// The long request, cut so that it takes about this long.
    pub fn lasting(&self, time: Duration) -> InferenceRequest {
        let tokens = (self.long.tokens_per_s() * time.as_secs_f64()).max(2.0) as u64;
        InferenceRequest {
            max_tokens: Some(tokens.min(self.long.tokens) as u32),
            ..self.long.request.clone()
        }
    }
}

impl KnownRequest {
    /// Output tokens a second, alone.
    pub fn tokens_per_s(&self) -> f64 {
        self.tokens as f64 / self.took.as_secs_f64().max(1e-4)
    }

    /// The longest that it may take beside `others` of its kind.
    pub fn limit_beside(&self, others: u32) -> Duration {
        self.took * SLACK_FACTOR * (others + 1) + SLACK
    }

    /// Fails with a [`Mismatch`] unless this is the text.
    pub fn expect_text(&self, place: &str, got: &str) -> Result<(), Mismatch> {
        if got == self.text {
            return Ok(());
        }
        let expected = format!("the same text as before, `{}`", self.text);
        Err(Mismatch::new(place, expected, format!("`{got}`")))
    }
}
