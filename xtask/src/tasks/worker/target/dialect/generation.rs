//! Asking for text, whatever the protocol: the request, the whole answer, the events of a streamed
//! one.

use anyhow::{Context, Result};

use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::facts::Phases;

/// An inference request. What is `None` is left out, so that the worker's default counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferenceRequest {
    /// The text to continue.
    pub prompt: String,
    /// The largest number of tokens to generate.
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Fixes what is drawn.
    pub seed: Option<u64>,
    /// Strings before which generation ends.
    pub stop: Vec<String>,
    /// How many of the likeliest tokens are drawn from.
    pub top_k: Option<u32>,
    /// The part of all probability that is drawn from.
    pub top_p: Option<f64>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

/// What a whole answer and the end of a stream have in common. What is `None` the protocol leaves
/// open; nobody guesses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text; `None` in a stream, whose events carried it.
    pub text: Option<String>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Tokens generated.
    pub tokens: Option<u64>,
    /// Tokens generated, as the usage counts them.
    pub completion_tokens: Option<u64>,
    /// Tokens in the prompt.
    pub prompt_tokens: Option<u64>,
    /// The parts of its time.
    pub phases: Option<Phases>,
}

/// What one event of a streamed answer means.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A piece of the text.
    Text {
        /// Its place in the answer, where events are numbered.
        index: Option<u64>,
        /// The piece.
        text: String,
        /// How many tokens it is, where the event says so.
        tokens: Option<u64>,
    },
    /// The orderly end.
    End(Completion),
    /// The end with an error: code and message.
    Error(String),
}

/// Reads the events of one streamed answer, in order.
pub trait StreamDecoder: std::fmt::Debug + Send {
    /// What the event means; `None` where it says nothing by itself, or only together with later
    /// ones.
    fn read(&mut self, event: &SseEvent) -> Result<Option<StreamEvent>, Mismatch>;
}

impl InferenceRequest {
    /// Greedy, so that the same text comes again.
    pub fn greedy(prompt: &str, max_tokens: u32) -> Self {
        Self {
            temperature: Some(0.0),
            ..Self::new(prompt, max_tokens)
        }
    }

    /// With the worker's own sampling.
    pub fn new(prompt: &str, max_tokens: u32) -> Self {
        Self {
            prompt: prompt.to_owned(),
            max_tokens: Some(max_tokens),
            ..Self::default()
        }
    }
}

impl Completion {
    /// Tokens generated. Fails where the answer doesn't say.
    pub fn tokens(&self) -> Result<u64> {
        self.tokens
            .context("the answer doesn't say how many tokens it has")
    }

    /// Tokens in the prompt. Fails where the answer doesn't say.
    pub fn prompt_tokens(&self) -> Result<u64> {
        self.prompt_tokens
            .context("the answer doesn't say how many tokens its prompt has")
    }

    /// The parts of its time. Fails where the answer doesn't say.
    pub fn phases(&self) -> Result<Phases> {
        self.phases
            .context("the answer doesn't say how long its parts took")
    }
}
