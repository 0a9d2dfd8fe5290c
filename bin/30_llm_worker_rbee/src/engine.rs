//! The seam between serving and inference: requests go in, token events come out.
//!
//! Nothing here knows HTTP, and nothing here says that requests run one at a time, so that a
//! batching engine can stand behind the same trait.

pub mod backend;
pub mod gguf;
mod llama;
mod load;
mod runner;
mod sampler;
#[cfg(test)]
mod testing;
mod text;
mod threads;
mod tokenizer;

pub use backend::Backend;
pub use load::{LoadOptions, LoadedEngine, ModelInfo, load};
pub use threads::claim_threads;

/// What a client wants generated. Every value is already validated.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// The raw text to continue; no chat template is applied.
    pub prompt: String,
    /// The largest number of tokens to generate, at least 1.
    pub max_tokens: u32,
    /// 0 is greedy; at most 2.
    pub temperature: f32,
    /// Nucleus sampling: keep the smallest set of tokens whose probability reaches this (0, 1].
    pub top_p: Option<f32>,
    /// Keep the `k` likeliest tokens, at least 1.
    pub top_k: Option<u32>,
    /// The same seed, prompt and options give the same text. `None` draws one.
    pub seed: Option<u64>,
    /// Generation ends before the first of these appears in the text.
    pub stop: Vec<String>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model's end token, or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

/// How long each stage took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    /// From the submission until the engine took the request up.
    pub queue_ms: f64,
    /// From there until the first token was sampled.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
}

/// The last word on a request that was served to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Completion {
    /// Tokens in the prompt, the begin-of-text token included.
    pub prompt_tokens: u32,
    /// Tokens generated: as many as there were [`GenerationEvent::Token`]s.
    pub completion_tokens: u32,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Where the time went.
    pub timings: Timings,
}

/// One step of a generation, in order: tokens, then exactly one of the other two.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// A sampled token. Its text is empty while it isn't whole UTF-8 yet.
    Token {
        /// 0 for the first, without a gap.
        index: u32,
        /// The text that this token completes.
        text: String,
    },
    /// The request was served to its end.
    Finished(Completion),
    /// The engine could not go on; the message is for the client.
    Failed(String),
}

/// A request under way. Dropping it cancels the generation at the next token.
#[derive(Debug)]
pub struct Generation {
    /// Closes after the last event.
    pub events: tokio::sync::mpsc::Receiver<GenerationEvent>,
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitError {
    /// Prompt and answer together don't fit.
    ContextLengthExceeded {
        /// Tokens in the prompt.
        prompt_tokens: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// The context's length, in tokens.
        context_length: u32,
    },
    /// As many requests wait as may.
    QueueFull {
        /// How many may wait.
        capacity: usize,
    },
    /// The engine has stopped.
    Stopped,
}

/// Something that turns prompts into tokens.
pub trait Engine: Send + Sync + 'static {
    /// Takes the request or refuses it, without waiting for a place in the queue.
    ///
    /// Tokenizes the prompt, which takes time in proportion to its length: from async code, call
    /// it where blocking is allowed.
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError>;

    /// Holds the reason once the engine can't go on; a sender that is gone says the same.
    fn failure(&self) -> tokio::sync::watch::Receiver<Option<String>>;
}
