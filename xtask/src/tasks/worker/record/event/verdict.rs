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
    /// The contract's own words; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contract: String,
    /// Why it is known to fail, where that is known: then it may, and has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_failure: Option<String>,
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
        /// The broken promise that took away what it needs, where one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<Box<Mismatch>>,
    },
}

impl Outcome {
    /// Whether the worker kept it.
    pub fn has_passed(&self) -> bool {
        *self == Outcome::Passed
    }
}

/// How a check ended, as reports spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// The promise was kept.
    Passed,
    /// It was broken.
    Failed,
    /// It was broken, and is one of little weight or known to be.
    Warning,
    /// It could not be judged.
    Invalid,
    /// It was not tried, with a reason.
    Skipped,
    /// It was planned, and the run ended before.
    NotRun,
}

/// A check as reports have it: what it promises, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// Its stable name.
    pub id: String,
    /// What it belongs to.
    #[serde(default)]
    pub suite: Option<String>,
    /// How much weight it has.
    pub level: Level,
    /// Completes the sentence "The worker ...".
    #[serde(default)]
    pub promise: String,
    /// The contract's own words; empty where it has none.
    #[serde(default)]
    pub contract: String,
    /// How it ended.
    pub outcome: CheckStatus,
    /// What was promised, where it was broken.
    #[serde(default)]
    pub expected: Option<String>,
    /// What came.
    #[serde(default)]
    pub got: Option<String>,
    /// Where it was seen.
    #[serde(default)]
    pub place: Option<String>,
    /// Why it is invalid, skipped or did not run.
    #[serde(default)]
    pub reason: Option<String>,
    /// The check whose broken promise is the cause, where that is another one's.
    #[serde(default)]
    pub follows_from: Option<String>,
    /// What the evidence was, in a few words.
    #[serde(default)]
    pub detail: Option<String>,
    /// How long it took.
    #[serde(default)]
    pub duration_ms: Option<u64>,
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
    /// Whether it was observed for several checks, which all judge by it.
    #[serde(
        default,
        alias = "is_repeated",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_shared: bool,
}

impl CheckSummary {
    /// A check that was planned, and never ran for this reason.
    pub fn not_run(planned: &PlannedCheck, reason: String) -> Self {
        Self {
            id: planned.id.clone(),
            suite: Some(planned.suite.as_str().to_owned()),
            level: planned.level,
            promise: planned.promise.clone(),
            contract: planned.contract.clone(),
            outcome: CheckStatus::NotRun,
            expected: None,
            got: None,
            place: None,
            reason: Some(reason),
            follows_from: None,
            detail: None,
            duration_ms: None,
        }
    }

    /// A check that ran. What nobody planned is a must of the first suite.
    pub fn ran(record: &CheckRecord, planned: Option<&PlannedCheck>) -> Self {
        let level = planned.map_or(Level::Must, |planned| planned.level);
        let known = planned.and_then(|planned| planned.known_failure.as_deref());
        let mut check = Self {
            id: record.id.clone(),
            suite: planned.map(|planned| planned.suite.as_str().to_owned()),
            level,
            promise: planned.map_or(String::new(), |planned| planned.promise.clone()),
            contract: planned.map_or(String::new(), |planned| planned.contract.clone()),
            outcome: CheckStatus::of(&record.outcome, level, known.is_some()),
            expected: None,
            got: None,
            place: None,
            reason: None,
            follows_from: None,
            detail: record.detail.clone(),
            duration_ms: Some(record.duration_ms),
        };
        match record.outcome.clone() {
            Outcome::Passed => {
                if let Some(reason) = known {
                    check.expected = Some(format!("a failure, as listed: {reason}"));
                    check.got = Some(String::from("it passed: take it off the list"));
                    check.place = Some(String::from("--known-failures, which is stale"));
                }
            }
            Outcome::Failed(mismatch) => {
                let place = mismatch.place;
                check.expected = Some(mismatch.expected);
                check.got = Some(mismatch.got);
                check.place = Some(match known {
                    Some(reason) => format!("{place} (known to fail: {reason})"),
                    None => place,
                });
            }
            Outcome::Invalid { reason } | Outcome::Skipped { reason, .. } => {
                check.reason = Some(reason);
            }
        }
        check
    }

    /// Why it isn't green: what was promised and what came, or the reason.
    pub fn evidence(&self) -> Option<String> {
        match (&self.expected, &self.got) {
            (Some(expected), Some(got)) => {
                let place = self.place.as_deref().unwrap_or_default();
                Some(format!("{place}: expected {expected}, got {got}"))
            }
            _ => self.reason.clone(),
        }
    }
}

/// A need of a check that isn't met: as an error it means that the check wasn't tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmet {
    /// Why not.
    pub reason: String,
    /// The broken promise that took it away, where one did.
    pub because: Option<Box<Mismatch>>,
}

impl Unmet {
    /// For a reason that isn't a broken promise.
    pub fn because_of(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            because: None,
        }
    }

    /// By this broken promise.
    pub fn by(reason: impl Into<String>, mismatch: &Mismatch) -> Self {
        Self {
            reason: reason.into(),
            because: Some(Box::new(mismatch.clone())),
        }
    }
}

impl From<Unmet> for Outcome {
    fn from(Unmet { reason, because }: Unmet) -> Self {
        Outcome::Skipped { reason, because }
    }
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unmet {}

impl CheckStatus {
    /// Of a check of this weight. One that is known to fail and passes makes the list stale.
    fn of(outcome: &Outcome, level: Level, is_known: bool) -> Self {
        match (outcome, level) {
            (Outcome::Passed, _) if is_known => CheckStatus::Failed,
            (Outcome::Passed, _) => CheckStatus::Passed,
            (Outcome::Failed(_), Level::Must) if !is_known => CheckStatus::Failed,
            (Outcome::Failed(_), _) => CheckStatus::Warning,
            (Outcome::Invalid { .. }, _) => CheckStatus::Invalid,
            (Outcome::Skipped { .. }, _) => CheckStatus::Skipped,
        }
    }

    /// As reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckStatus::Passed => "passed",
            CheckStatus::Failed => "failed",
            CheckStatus::Warning => "warning",
            CheckStatus::Invalid => "invalid",
            CheckStatus::Skipped => "skipped",
            CheckStatus::NotRun => "not_run",
        }
    }
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
            is_shared: false,
        }
    }

    /// The same, of this one of several workers.
    pub fn of(self, worker_id: &str) -> Self {
        let place = format!("{worker_id}: {}", self.place);
        Self { place, ..self }
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
