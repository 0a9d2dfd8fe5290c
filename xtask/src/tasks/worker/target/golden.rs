//! What the worker answers when nothing disturbs it: the text that later answers are held against,
//! and the pace that scales requests and waits to fast and slow models.

use std::time::Duration;

use anyhow::Result;

use super::dialect::{Completion, InferenceRequest};
use super::subject::Subject;
use crate::tasks::worker::net::stream::StreamedAnswer;
use crate::tasks::worker::record::event::Mismatch;

/// Tokens that are asked for.
const TOKENS: u32 = 24;

/// An answer with so many tokens is long enough to be cut and searched.
const LONG_ENOUGH: usize = 10;

/// Tokens of the canary, which is asked for again and again.
const CANARY_TOKENS: u32 = 4;

/// What follows the user's prompt where its answer is too short. All in ASCII.
const PROMPTS: [&str; 3] = [
    "Once upon a time",
    "The capital of France is",
    "1, 2, 3, 4, 5,",
];

/// The longest wait for an answer while the pace isn't known.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(120);

/// A request may take so many times as long as an undisturbed one, on a busy machine,
const SLACK_FACTOR: f64 = 15.0;

/// and this much longer for what doesn't scale with the model.
const SLACK_S: f64 = 5.0;

/// A greedy answer, token by token, and how long it took.
#[derive(Debug)]
pub struct Golden {
    /// What was asked.
    pub request: InferenceRequest,
    /// The text of each token.
    pub tokens: Vec<String>,
    /// The end of the answer.
    pub completion: Completion,
    /// How long it took.
    pub took: Duration,
    /// A short request, and what belongs to it.
    pub canary: Canary,
}

/// A short request whose answer shows whether the worker is still what it was.
#[derive(Debug)]
pub struct Canary {
    /// What is asked.
    pub request: InferenceRequest,
    /// What is answered.
    pub text: String,
    /// How long that takes.
    pub took: Duration,
}

impl Subject<'_> {
    /// What the worker answers when nothing disturbs it.
    pub fn golden(&self) -> Result<&Golden> {
        self.seen.of(|| Golden::ask(self))
    }
}

impl Golden {
    /// Asks until an answer is long enough, or else takes the longest.
    pub fn ask(subject: &Subject) -> Result<Golden> {
        let own = subject.context.config.prompt.as_str();
        let mut longest: Option<(InferenceRequest, StreamedAnswer)> = None;
        for prompt in [own].into_iter().chain(PROMPTS) {
            let request = InferenceRequest::greedy(prompt, TOKENS);
            let answer = subject.infer_streamed_within(&request, UNKNOWN_LIMIT)?;
            let length = answer.pieces.len();
            if longest
                .as_ref()
                .is_none_or(|(_, longest)| length > longest.pieces.len())
            {
                longest = Some((request, answer));
            }
            if length >= LONG_ENOUGH {
                break;
            }
        }
        let Some((request, answer)) = longest else {
            unreachable!("there is at least one prompt");
        };
        Ok(Golden {
            took: answer.ended - answer.sent,
            canary: Canary::ask(subject, &request.prompt)?,
            tokens: answer.pieces.into_iter().map(|piece| piece.text).collect(),
            completion: answer.completion,
            request,
        })
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.tokens.concat()
    }

    /// How long one token takes, prompt and all.
    pub fn token_s(&self) -> f64 {
        self.took.as_secs_f64() / self.tokens.len().max(1) as f64
    }

    /// The longest wait for an answer of so many tokens beside `others` of its kind.
    pub fn limit(&self, tokens: u32, others: u32) -> Duration {
        let alone_s = self
            .took
            .as_secs_f64()
            .max(self.token_s() * f64::from(tokens));
        Duration::from_secs_f64(SLACK_S + SLACK_FACTOR * alone_s * f64::from(others + 1))
    }

    /// How many tokens take about this long, within bounds.
    pub fn tokens_in(&self, time: Duration, least: u32, most: u32) -> u32 {
        let tokens = time.as_secs_f64() / self.token_s().max(1e-6);
        (tokens.min(f64::from(most)) as u32).clamp(least, most)
    }
}

impl Canary {
    fn ask(subject: &Subject, prompt: &str) -> Result<Canary> {
        let request = InferenceRequest::greedy(prompt, CANARY_TOKENS);
        let (answer, took) = subject.infer_timed(&request, UNKNOWN_LIMIT)?;
        Ok(Canary {
            took,
            text: answer.text.unwrap_or_default(),
            request,
        })
    }

    /// The longest that it may take when nothing holds it up.
    pub fn limit(&self) -> Duration {
        self.took * 5 + Duration::from_millis(1500)
    }

    /// Fails with a [`Mismatch`] unless this is the text.
    pub fn expect(&self, place: &str, text: &str) -> Result<(), Mismatch> {
        if text == self.text {
            return Ok(());
        }
        let expected = format!("the same greedy text as before, `{}`", self.text);
        Err(Mismatch::new(place, expected, format!("`{text}`")))
    }
}
