//! One request under load, and the measures that it has by itself. Pure.

use serde::{Deserialize, Serialize};

/// No server bundles more tokens into a chunk; a recording may say anything.
const CHUNK_TOKENS: u32 = 64;

/// What was measured of one request, all times in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The scenario that it belongs to.
    pub scenario: String,
    /// Which stream sent it; the arrival's number in an open loop.
    pub stream: u32,
    /// Its intended start, on the run's axis; only in an open loop.
    pub scheduled_ms: Option<f64>,
    /// When its first byte was written, on the run's axis: t0.
    pub sent_ms: f64,
    /// From t0 to the terminal event, or to the failure.
    pub took_ms: f64,
    /// Each chunk that carried tokens: its arrival since t0, and how many tokens.
    pub chunks: Vec<(f64, u32)>,
    /// Whether that is known of each, and not only of all together.
    #[serde(default = "is_known", skip_serializing_if = "is_so")]
    pub knows_chunks: bool,
    /// Tokens in the prompt, as the worker counts them.
    pub prompt_tokens: u64,
    /// How long it waited for its turn, as the worker says; `None` where it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: RequestOutcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RequestOutcome {
    /// Status 200, indices without a gap, one end, at least one token and as many as were counted.
    Valid,
    /// An answer that breaks a rule of streams.
    Invalid {
        /// Which.
        reason: String,
    },
    /// No answer, or a refusal.
    Failed {
        /// Why.
        reason: String,
    },
}

/// One request without its single tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSpan {
    /// Which stream sent it.
    pub stream: u32,
    /// On the run's axis.
    pub sent_ms: f64,
    /// Since then; `None` where no token came.
    pub first_token_ms: Option<f64>,
    /// Since then.
    pub took_ms: f64,
    /// How long it waited for its turn, as the worker says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    /// Tokens that came.
    pub tokens: u64,
    /// Whether it kept every rule.
    pub is_valid: bool,
}

/// What recordings mean that don't say it.
fn is_known() -> bool {
    true
}

fn is_so(known: &bool) -> bool {
    *known
}

impl RequestRecord {
    /// N: the tokens that came.
    pub fn tokens(&self) -> u64 {
        self.chunks
            .iter()
            .map(|(_, tokens)| u64::from(*tokens))
            .sum()
    }

    /// c_1 - t0.
    pub fn ttft_ms(&self) -> Option<f64> {
        self.chunks.first().map(|(at, _)| *at)
    }

    /// (c_last - c_1) / (N - n_1); `None` where everything came in one chunk, or n_1 isn't known.
    pub fn tpot_ms(&self) -> Option<f64> {
        self.knows_chunks.then_some(())?;
        let ((first, in_first), (last, _)) = (self.chunks.first()?, self.chunks.last()?);
        let rest = self.tokens() - u64::from(*in_first);
        (rest > 0).then(|| (last - first) / rest as f64)
    }

    /// (c_k - c_(k-1)) / n_k, once for each of the n_k tokens; nothing where n_k isn't known.
    pub fn itl_ms(&self) -> impl Iterator<Item = f64> {
        let pairs = self.chunks.windows(2).filter(|_| self.knows_chunks);
        pairs.flat_map(|pair| {
            let ((before, _), (at, tokens)) = (pair[0], pair[1]);
            let samples = tokens.min(CHUNK_TOKENS) as usize;
            std::iter::repeat_n((at - before) / f64::from(tokens), samples)
        })
    }

    /// Prompt tokens by TTFT.
    pub fn prefill_tokens_per_s(&self) -> Option<f64> {
        let ttft_ms = self.ttft_ms().filter(|ttft| *ttft > 0.0)?;
        (self.prompt_tokens > 0).then(|| self.prompt_tokens as f64 * 1e3 / ttft_ms)
    }

    /// How long after its intended start it was sent.
    pub fn waited_ms(&self) -> f64 {
        let waited = self.scheduled_ms.map(|scheduled| self.sent_ms - scheduled);
        waited.unwrap_or(0.0).max(0.0)
    }

    /// Whether it kept every rule.
    pub fn is_valid(&self) -> bool {
        self.outcome == RequestOutcome::Valid
    }

    /// It without its single tokens.
    pub fn span(&self) -> LoadSpan {
        LoadSpan {
            stream: self.stream,
            sent_ms: self.sent_ms,
            first_token_ms: self.ttft_ms(),
            took_ms: self.took_ms,
            queue_ms: self.queue_ms,
            tokens: self.tokens(),
            is_valid: self.is_valid(),
        }
    }
}
