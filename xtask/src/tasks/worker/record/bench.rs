//! A benchmark as data: the load, the part of it that counts, and what each request measured. Pure.

mod client;
mod max_rate;
mod request;

use serde::{Deserialize, Serialize};

pub use self::client::{CalibratedLoad, ClientRecord};
pub use self::max_rate::{KEPT_SHARE, RateSearch, RateStep};
pub use self::request::{LoadSpan, RequestOutcome, RequestRecord};
use super::stats::Distribution;

/// One load that a worker is put under, in all its details.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioPlan {
    /// Stable name: "prefill_128", "sweep_4".
    pub name: String,
    /// How requests follow each other.
    pub load: Load,
    /// The exact length of each prompt; `None` where prompts come from a file.
    pub prompt_tokens: Option<u64>,
    /// The largest number of tokens that each request asks for.
    pub max_tokens: u32,
    /// Tokens with which every prompt begins.
    #[serde(default, skip_serializing_if = "is_none")]
    pub context_depth: u64,
    /// Requests of a session, each of whose prompts goes on from the last one's; none where each
    /// request is by itself.
    #[serde(default, skip_serializing_if = "is_none")]
    pub turns: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Each of so many streams asks again as soon as it has its answer.
    Closed {
        /// How many ask at once.
        streams: u32,
    },
    /// Requests arrive by chance, whatever the worker does.
    Open {
        /// The mean arrival rate.
        rate_per_s: f64,
        /// The shape of the gamma distribution of the gaps; 1 is a Poisson process.
        #[serde(default = "poisson", skip_serializing_if = "is_poisson")]
        burstiness: f64,
        /// Makes the arrivals repeatable.
        seed: u64,
    },
    /// Requests arrive when a trace says so, whatever the worker does.
    Trace {
        /// How many it has.
        requests: u32,
    },
}

/// What recordings mean that say nothing of it.
fn poisson() -> f64 {
    1.0
}

fn is_poisson(burstiness: &f64) -> bool {
    *burstiness == poisson()
}

impl Load {
    /// Whether requests are sent when they are due, and not when one before them is over.
    pub fn is_open(self) -> bool {
        !matches!(self, Load::Closed { .. })
    }
}

/// The part of a scenario that counts, on the run's axis. Ramp and drain lie outside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// From here on every stream is busy and warmed up.
    pub from_ms: f64,
    /// When the first stream ran out of requests.
    pub to_ms: f64,
}

/// What a request must keep to count as good, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// Time to the first token.
    pub ttft_ms: Option<f64>,
    /// Time for each further token.
    pub tpot_ms: Option<f64>,
    /// Time to the terminal event.
    pub e2e_ms: Option<f64>,
}

/// How exact the load generator is, measured against a worker whose timing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// By how much a token's time stamp is later than the token was sent, in milliseconds.
    pub error_ms: Distribution,
    /// The same with as many streams at once as `streams` says; older recordings have it.
    #[serde(default)]
    pub crowded_error_ms: Option<Distribution>,
    /// How many streams were read at once, each of them whole.
    pub streams: u32,
    /// Events that one stream's reader takes in a second, by one core.
    pub events_per_s: f64,
}

impl Window {
    /// Its length.
    pub fn seconds(self) -> f64 {
        ((self.to_ms - self.from_ms) / 1e3).max(0.0)
    }

    /// Whether this moment counts.
    pub fn contains(self, at_ms: f64) -> bool {
        (self.from_ms..self.to_ms).contains(&at_ms)
    }
}

impl Objectives {
    /// Whether anything is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Objectives::default()
    }

    /// Whether a request keeps all of them, counted from its intended start.
    pub fn are_kept(&self, request: &RequestRecord) -> bool {
        let keeps = |limit: Option<f64>, value: Option<f64>| match (limit, value) {
            (Some(limit), Some(value)) => value <= limit,
            // A single token has no time for further ones: nothing is broken.
            _ => true,
        };
        let waited = request.waited_ms();
        keeps(self.ttft_ms, request.ttft_ms().map(|ttft| ttft + waited))
            && keeps(self.tpot_ms, request.tpot_ms())
            && keeps(self.e2e_ms, Some(request.took_ms + waited))
    }
}
