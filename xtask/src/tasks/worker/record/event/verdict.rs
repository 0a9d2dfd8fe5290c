//! Checks in the record: what is planned, and how each ended. Pure.

use serde::{Deserialize, Serialize};

/// A check that is going to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedCheck {
    /// Its stable name: the area, a dot, the rest.
    pub id: String,
    /// Completes the sentence "The worker ...".
    pub promise: String,
    /// What it belongs to.
    pub suite: Suite,
    /// How much weight it has.
    pub level: Level,
}

/// What a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// A whole life of one worker: what every worker does every day.
    Isolation,
    /// Every other sentence of the contract, with good and bad input.
    Contract,
    /// What it has to survive: rude clients, a hive that fails, signals.
    Resilience,
    /// The loads of `--benchmark`.
    Benchmark,
    /// Several workers at once.
    Stress,
    /// All backends beside each other.
    Matrix,
}

/// How much weight a promise has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A worker that breaks it fails the run.
    Must,
    /// A worker that breaks it is warned of; the run's verdict stays as it is.
    Should,
}

impl Suite {
    /// As options and tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Suite::Isolation => "isolation",
            Suite::Contract => "contract",
            Suite::Resilience => "resilience",
            Suite::Benchmark => "benchmark",
            Suite::Stress => "stress",
            Suite::Matrix => "matrix",
        }
    }
}

impl Level {
    /// As tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Should => "should",
        }
    }
}

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// The check's stable name.
    pub id: String,
    /// Its verdict.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub duration_ms: u64,
    /// What the evidence was, in a few words: "20 tokens, 75.1 tokens/s".
    pub detail: Option<String>,
}

/// The verdict on one promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The worker kept it.
    Passed,
    /// The worker broke it.
    Failed(Mismatch),
    /// We could not judge.
    Invalid {
        /// Why.
        reason: String,
    },
    /// It was not tried.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Whether the worker kept it.
    pub fn has_passed(&self) -> bool {
        *self == Outcome::Passed
    }
}

/// What was promised and what came instead. As an error it means that the worker is to blame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    /// What was promised.
    pub expected: String,
    /// What came.
    pub got: String,
    /// Where it was seen: the request, the heartbeat, the log line.
    pub place: String,
}

impl Mismatch {
    /// A broken promise, seen at `place`.
    pub fn new(
        place: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self {
            expected: expected.into(),
            got: got.into(),
            place: place.into(),
        }
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: expected {}, got {}",
            self.place, self.expected, self.got
        )
    }
}

impl std::error::Error for Mismatch {}
