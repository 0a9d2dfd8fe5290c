//! What the worker promises, as a table. To add a check: write a function, add a row to the table of
//! its area.

mod contract;
mod device;
mod heartbeat;
mod inference;
mod lifecycle;
mod resilience;
mod status;

use anyhow::Result;

pub use self::heartbeat::tolerance_ms;
pub use self::lifecycle::LIVES;

use crate::tasks::worker::config::{Backend, WorkerTestConfig};
use crate::tasks::worker::record::event::{Level, Mismatch, Outcome, Suite};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{ByHand, Promise, native};

/// What the evidence was, in a few words; empty where the verdict says it all.
pub type Evidence = String;

/// A promise, and how it is tried.
#[derive(Debug)]
pub struct Check {
    /// Stable name for options, reports and docs: the area, a dot, the rest.
    pub id: &'static str,
    /// What it belongs to.
    pub suite: Suite,
    /// How much weight it has.
    pub level: Level,
    /// Completes the sentence "The worker ...".
    pub promise: &'static str,
    /// The contract's own words, each sentence as CONTRACT.md has it.
    pub contract: &'static str,
    /// One line: what is done, and what fails it.
    pub explanation: &'static str,
    /// A line for a shell that shows it by hand.
    pub by_hand: fn(&ByHand) -> String,
    /// An unmet need skips the check, with the reason; a body never skips itself.
    pub needs: &'static [Need],
    /// Tries the promise. A [`Mismatch`] means that it is broken, any other error that we can't tell.
    pub run: fn(&Subject) -> Result<Evidence>,
}

impl Check {
    /// The line that shows it by hand, against a worker and a hive in their usual places.
    pub fn by_hand(&self) -> String {
        let usual = WorkerTestConfig::default();
        (self.by_hand)(&ByHand {
            dialect: native(),
            port: usual.port,
            hive_port: usual.hive_port,
        })
    }
}

/// What must hold before a check makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The worker became ready, and its process lives.
    Ready,
    /// Its answers can be gone by, and no bad request has changed them: whatever it says then would
    /// only repeat what is known.
    Sound,
    /// The system has signals that a process can be sent.
    Signals,
    /// The backend has a device whose driver tells who uses it.
    Device,
    /// The worker's protocol promises this.
    Promised(Promise),
}

/// The tables of the areas, in the order in which their checks run.
const AREAS: &[&[Check]] = &[
    lifecycle::START,
    lifecycle::HOST,
    status::CHECKS,
    inference::CHECKS,
    device::CHECKS,
    heartbeat::CHECKS,
    contract::answers::FIRST,
    contract::refusals::CHECKS,
    contract::options::CHECKS,
    contract::answers::CHECKS,
    contract::streams::CHECKS,
    contract::load::CHECKS,
    contract::loading::CHECKS,
    contract::start_errors::CHECKS,
    contract::token::CHECKS,
    contract::logs::CHECKS,
    heartbeat::TO_THE_END,
];

/// Every check, in the order in which they run.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    let areas = AREAS.iter().chain(resilience::TABLES);
    let areas = areas.copied().flatten();
    areas.chain(lifecycle::END).chain(device::AFTERWARDS)
}

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
                (None, _) => subject.silence(),
            },
            Need::Sound => {
                let degraded_by = subject.degraded_by.borrow().clone();
                let after = degraded_by.map(|degraded_by| {
                    format!("the worker is no longer itself after {degraded_by}")
                });
                after.or_else(|| {
                    let error = subject.golden().err()?;
                    Some(format!("the worker has no answer to go by: {error}"))
                })
            }
            Need::Device => match subject.worker.launch().backend {
                Backend::Cuda => None,
                Backend::Cpu => Some(String::from("the cpu is no device with memory of its own")),
                Backend::Metal => Some(String::from(
                    "Metal tells nobody how much of a device's memory a process has",
                )),
            },
            Need::Promised(promise) if subject.dialect().promises(promise) => None,
            Need::Promised(promise) => Some(format!("the protocol has no {}", promise.name())),
            Need::Signals if cfg!(unix) => None,
            Need::Signals => Some(String::from("this system has no signals")),
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
        let ids: HashSet<_> = checks().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks().count());
        for id in ids {
            let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
            assert!(id.chars().all(plain), "{id}");
            assert_eq!(id.matches('.').count(), 1, "{id}");
        }
    }

    #[test]
    fn promises_complete_the_sentence() {
        for check in checks() {
            let first = check.promise.chars().next();
            assert!(first.is_some_and(char::is_lowercase), "{}", check.id);
            assert!(!check.promise.ends_with('.'), "{}", check.id);
        }
    }

    #[test]
    fn every_check_is_documented_and_can_be_tried_by_hand() {
        for check in checks() {
            let id = check.id;
            assert!(check.contract.ends_with('.'), "{id}: {}", check.contract);
            assert!(
                check.explanation.ends_with('.'),
                "{id}: {}",
                check.explanation
            );
            assert!(!check.explanation.contains('\n'), "{id}");
            let line = check.by_hand();
            let programs = ["curl ", "llm-worker-rbee ", "printf ", "WORKER_API_TOKEN="];
            assert!(
                programs.iter().any(|word| line.starts_with(word)),
                "{id}: {line}"
            );
            assert!(!line.contains('\n'), "{id}: one line");
            assert!(line.contains("18081"), "{id}: {line}");
        }
    }

    /// Words, without what Markdown and tables put between them.
    fn words(text: &str) -> Vec<&str> {
        let lines = text.lines().filter(|line| !line.starts_with("```"));
        let words = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        words.filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn the_contract_is_quoted_and_not_invented() {
        let contract = words(include_str!("../../../../CONTRACT.md"));
        let is_quoted = |sentence: &str| {
            let sentence = words(sentence);
            let mut windows = contract.windows(sentence.len().max(1));
            windows.any(|window| window == sentence)
        };
        let invented: Vec<String> = checks()
            .flat_map(|check| {
                check
                    .contract
                    .split_inclusive(". ")
                    .map(move |s| (check.id, s))
            })
            .filter(|(_, sentence)| !is_quoted(sentence))
            .map(|(id, sentence)| format!("{id}: {sentence}"))
            .collect();
        assert!(invented.is_empty(), "{}", invented.join("\n"));
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
