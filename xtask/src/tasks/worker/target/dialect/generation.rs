//! Asking for text, whatever the protocol.

use serde_json::{Value, json};

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
    /// Whether the prompt is what a user says in a chat, not a text to continue.
    pub as_chat: bool,
}

impl InferenceRequest {
    /// Greedy, so that the same text comes again.
    pub fn greedy(prompt: &str, max_tokens: u32) -> Self {
        Self {
            temperature: Some(0.0),
            ..Self::new(prompt, max_tokens)
        }
    }

    /// The stop strings in both forms that protocols take: one by itself, several as an array.
    pub fn stop_value(&self) -> Option<Value> {
        match self.stop.as_slice() {
            [] => None,
            [stop] => Some(json!(stop)),
            stops => Some(json!(stops)),
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
