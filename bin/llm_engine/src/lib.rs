//! The seam between serving and inference: requests go in, token events come out.
//!
//! Nothing here knows HTTP, and nothing here says that requests run one at a time, so that a
//! batching engine can stand behind the same trait.

use std::time::Duration;

pub mod backend;
#[cfg(feature = "candle")]
mod candle;
mod constraint;
pub mod gguf;
pub mod kernels;
mod load;
mod memory;
mod model;
pub mod ops;
pub mod pool;
pub mod quant;
mod sampler;
mod scheduler;
#[cfg(test)]
mod testing;
mod text;
mod tokenizer;

pub use backend::Backend;
pub use constraint::{Constraint, Grammar};
pub use load::{LoadOptions, LoadedEngine, ModelInfo, load};

/// What a generation continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Raw text; no chat template is applied.
    Text(String),
    /// Tokens as they are: nothing is put before or behind them.
    Tokens(Vec<u32>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What a client wants generated. Every value is already validated. The default is greedy, and
/// asks for no token at all: `max_tokens` must be set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationRequest {
    /// What to continue.
    pub prompt: Prompt,
    /// The largest number of tokens to generate, at least 1.
    pub max_tokens: u32,
    /// 0 is greedy; at most 2.
    pub temperature: f32,
    /// Nucleus sampling: keep the smallest set of tokens whose probability reaches this (0, 1].
    pub top_p: Option<f32>,
    /// Keep the `k` likeliest tokens, at least 1.
    pub top_k: Option<u32>,
    /// Keep the tokens that are at least this share [0, 1] as likely as the likeliest.
    pub min_p: Option<f32>,
    /// Makes tokens of the prompt and of the answer less likely, above 1, or likelier, below; above
    /// 0. Greedy decoding obeys it, too.
    pub repetition_penalty: Option<f32>,
    /// Taken off the logit of each token that the answer has, once; from -2 to 2. Greedy decoding
    /// obeys it, too, as it does the next two.
    pub presence_penalty: f32,
    /// Taken off as often as the answer has the token; from -2 to 2.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens; each from -100 to 100, and no token twice.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed, prompt and options give the same text. `None` draws one.
    pub seed: Option<u64>,
    /// Generation ends before the first of these appears in the text.
    pub stop: Vec<String>,
    /// Goes on after the model's end token, until `max_tokens` or a stop string.
    pub ignore_end: bool,
    /// What the answer is held to. It ends where the grammar says so, `ignore_end` or not.
    pub grammar: Option<Grammar>,
    /// How many of the likeliest tokens each event tells beside the one that was chosen.
    pub top_logprobs: usize,
}

/// A token of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenText<'a> {
    /// The bytes that it adds to a text, not always whole characters; none if it only controls.
    pub piece: &'a [u8],
    /// What the vocabulary calls it.
    pub name: &'a [u8],
    /// Whether it ends an answer.
    pub is_end: bool,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model's end token, or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

impl FinishReason {
    /// As clients read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
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
    /// Those of them that were known from earlier requests and not computed again.
    pub cached_tokens: u32,
    /// Tokens generated: as many as there were [`GenerationEvent::Token`]s.
    pub completion_tokens: u32,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Where the time went.
    pub timings: Timings,
}

/// A token, and the natural logarithm of the probability that the model gave it: before
/// temperature, penalties, biases and all that excludes tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token's number in the vocabulary.
    pub token: u32,
    /// At most 0.
    pub logprob: f32,
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
        /// The token, and how likely it was.
        chosen: TokenLogprob,
        /// The likeliest tokens, as many as were asked for; the likeliest first.
        top: Vec<TokenLogprob>,
    },
    /// The request was served to its end.
    Finished(Completion),
    /// The engine could not go on; the message is for the client.
    Failed(String),
}

/// A request under way. Dropping it cancels the generation at the next token.
#[derive(Debug)]
pub struct Generation {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// Closes after the last event.
    pub events: tokio::sync::mpsc::Receiver<GenerationEvent>,
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitError {
    /// Prompt and answer together don't fit.
    ContextLengthExceeded {
        /// Tokens in the prompt; at least so many where it is too long to be worth counting.
        prompt_tokens: u32,
        /// Tokens asked for.
        max_tokens: u32,
        /// The context's length, in tokens.
        context_length: u32,
    },
    /// The prompt has no tokens.
    EmptyPrompt,
    /// The prompt holds a number that is no token.
    UnknownToken {
        /// The number.
        token: u32,
        /// How many tokens there are.
        vocabulary_size: u32,
    },
    /// As many requests wait as may.
    QueueFull {
        /// How many may wait.
        capacity: usize,
    },
    /// The engine has stopped.
    Stopped,
}

/// What an engine is doing and has done since it started. Counts only ever grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Requests that are being served.
    pub running: usize,
    /// Cache pages in all, each with room for [`Stats::page_tokens`] tokens.
    pub pages: usize,
    /// Pages that requests hold.
    pub pages_used: usize,
    /// Pages that nobody holds, but that are kept for prompts with the same beginning.
    pub pages_kept: usize,
    /// Tokens in a page.
    pub page_tokens: usize,
    /// Count of requests served to their end.
    pub finished: u64,
    /// Count of requests whose client left.
    pub cancelled: u64,
    /// Count of requests that failed.
    pub failed: u64,
    /// Count of prompt tokens, those from the cache included.
    pub prompt_tokens: u64,
    /// Count of prompt tokens that were not computed again.
    pub cached_tokens: u64,
    /// Count of generated tokens.
    pub generated_tokens: u64,
    /// Count of forward passes.
    pub steps: u64,
    /// Count of requests under way, summed over the forward passes.
    pub steps_shared: u64,
    /// Count of prompt tokens that forward passes have computed.
    pub read_tokens: u64,
    /// What those forward passes took.
    pub read_time: Duration,
    /// What requests took from their first token to their end, summed over the requests.
    pub generation_time: Duration,
    /// Count of tokens generated in that time: all but the first of each request.
    pub next_tokens: u64,
    /// The most tokens, prompt and answer together, that a request has had.
    pub longest: usize,
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

    /// What it is doing, for metrics.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The token with this number, if there is one.
    fn token(&self, _token: u32) -> Option<TokenText<'_>> {
        None
    }

    /// The chat template that the model file carries, as the file has it.
    fn chat_template(&self) -> Option<&str> {
        None
    }
}
