//! What the worker promises, as a table. To add a check: write a function, add a row.

mod heartbeat;
mod inference;
mod lifecycle;
mod status;

use anyhow::Result;

use super::record::event::{Mismatch, Outcome};
use super::subject::Subject;

/// What the evidence was, in a few words; empty where the verdict says it all.
pub type Evidence = String;

/// A promise, and how it is tried.
#[derive(Debug)]
pub struct Check {
    /// Stable name for options, reports and docs: the area, a dot, the rest.
    pub id: &'static str,
    /// Completes the sentence "The worker ...".
    pub promise: &'static str,
    /// An unmet need skips the check, with the reason; a body never skips itself.
    pub needs: &'static [Need],
    /// Tries the promise. A [`Mismatch`] means that it is broken, any other error that we can't tell.
    pub run: fn(&Subject) -> Result<Evidence>,
}

/// What must hold before a check makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The worker became ready, and its process lives.
    Ready,
}

/// Every check, in the order in which they run.
pub const CHECKS: &[Check] = &[
    Check {
        id: "start.answers",
        promise: "answers HTTP within a second of its start, while the model is still loading",
        needs: &[],
        run: lifecycle::answers_soon,
    },
    Check {
        id: "start.ready",
        promise: "becomes ready in time and says nothing wrong on the way",
        needs: &[],
        run: lifecycle::becomes_ready,
    },
    Check {
        id: "health.answers",
        promise: "says that it is healthy, that its model is loaded, and who it is",
        needs: &[Need::Ready],
        run: status::health_answers,
    },
    Check {
        id: "ready.answers",
        promise: "says that it would accept an inference",
        needs: &[Need::Ready],
        run: status::ready_answers,
    },
    Check {
        id: "inference.answers",
        promise: "answers a prompt with text, true token counts and a finish reason",
        needs: &[Need::Ready],
        run: inference::answers,
    },
    Check {
        id: "streaming.answers",
        promise: "streams the same text token by token, with exactly one end",
        needs: &[Need::Ready],
        run: inference::streams,
    },
    Check {
        id: "heartbeat.first",
        promise: "sends its first heartbeat as soon as it runs",
        needs: &[Need::Ready],
        run: heartbeat::first_beat,
    },
    Check {
        id: "heartbeat.states",
        promise: "tells the hive at once that it became busy, and ready again",
        needs: &[Need::Ready],
        run: heartbeat::state_changes,
    },
    Check {
        id: "heartbeat.periodic",
        promise: "beats once every interval, neither late nor more often",
        needs: &[Need::Ready],
        run: heartbeat::periodic,
    },
    Check {
        id: "heartbeat.payload",
        promise: "sends whole, well-formed heartbeats whose sequence rises by one",
        needs: &[Need::Ready],
        run: heartbeat::payload,
    },
    Check {
        id: "heartbeat.identity",
        promise: "sends heartbeats that say who it is and what it runs",
        needs: &[Need::Ready],
        run: heartbeat::identity,
    },
    Check {
        id: "heartbeat.default_interval",
        promise: "beats every 30 s where nothing else was asked for",
        needs: &[Need::Ready],
        run: heartbeat::default_interval,
    },
    Check {
        id: "logs.lines",
        promise: "logs one line an event, level first",
        needs: &[],
        run: lifecycle::logs_lines,
    },
    Check {
        id: "shutdown.orderly",
        promise: "stops when it is asked to: a last heartbeat says so, and it exits with 0",
        needs: &[Need::Ready],
        run: lifecycle::stops_orderly,
    },
];

impl Need {
    /// Why the need is not met, if it isn't.
    pub fn unmet(self, subject: &Subject) -> Option<String> {
        match self {
            Need::Ready => match (&subject.not_ready, subject.worker.exited()) {
                (Some(_), _) => Some(String::from("the worker did not become ready")),
                (None, Ok(Some(exit))) => Some(format!(
                    "the worker's process has ended: {}",
                    exit.describe()
                )),
                (None, _) => None,
            },
        }
    }
}

/// The only place that decides whose fault an error is.
pub fn judge(result: Result<Evidence>) -> (Outcome, Option<String>) {
    match result {
        Ok(evidence) => (
            Outcome::Passed,
            Some(evidence).filter(|text| !text.is_empty()),
        ),
        Err(error) => match error.downcast::<Mismatch>() {
            Ok(mismatch) => (Outcome::Failed(mismatch), None),
            Err(error) => {
                let reason = format!("{error:#}");
                (Outcome::Invalid { reason }, None)
            }
        },
    }
}

/// Fails with a [`Mismatch`] unless `kept`.
fn ensure_kept(
    kept: bool,
    place: &str,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> Result<(), Mismatch> {
    if kept {
        Ok(())
    } else {
        Err(Mismatch::new(place, expected, got))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_name_their_area() {
        let ids: HashSet<_> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CHECKS.len());
        for id in ids {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
            assert!(id.chars().all(plain), "{id}");
            assert_eq!(id.matches('.').count(), 1, "{id}");
        }
    }

    #[test]
    fn promises_complete_the_sentence() {
        for check in CHECKS {
            let first = check.promise.chars().next();
            assert!(first.is_some_and(char::is_lowercase), "{}", check.id);
            assert!(!check.promise.ends_with('.'), "{}", check.id);
        }
    }

    #[test]
    fn a_mismatch_blames_the_worker_even_in_a_context() {
        let error = anyhow::Error::from(Mismatch::new("here", "this", "that")).context("while");
        assert!(matches!(judge(Err(error)).0, Outcome::Failed(_)));
        let error = anyhow::anyhow!("the sink died").context("while");
        let (outcome, _) = judge(Err(error));
        let reason = String::from("while: the sink died");
        assert_eq!(outcome, Outcome::Invalid { reason });
    }
}
