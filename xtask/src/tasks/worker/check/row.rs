//! A row of the table: a promise, and how it is tried.

use anyhow::Result;

use super::judge::{Evidence, unmet_by};
use super::stress::observed::PoolObservation;
use crate::tasks::worker::process::platform;
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::check::{CheckInfo, Phase};
use crate::tasks::worker::record::event::{Level, Suite, Unmet};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::dialect::{ByHand, Promise};

/// A promise, and how it is tried. Built by [`Check::isolation`] and its siblings, which give each
/// row the defaults of its suite.
#[derive(Debug)]
pub struct Check {
    /// What is known without running it.
    pub info: CheckInfo,
    /// A line for a shell that shows it by hand.
    pub by_hand: fn(&ByHand) -> String,
    /// What must hold before it makes sense: an unmet need skips the check, with the reason; a body
    /// never skips itself.
    pub needs: &'static [Need],
    /// How it is tried.
    pub experiment: Experiment,
}

/// An experiment with workers of its own.
pub type ApartRun = fn(&Auxiliaries<'_>) -> Result<Evidence>;

/// How a check is tried.
#[derive(Debug, Clone, Copy)]
pub enum Experiment {
    /// By a question of its own. A `Mismatch` means that the promise is broken, any other error that
    /// we can't tell.
    Asked(fn(&Subject) -> Result<Evidence>),
    /// The same with workers of its own, so that it can be tried beside others of its kind.
    Apart(ApartRun),
    /// By what was seen of several workers under load; the same errors.
    OfPool(fn(&PoolObservation<'_>) -> Result<Evidence>),
    /// By what its mode does with the worker anyway.
    ByItsMode,
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
    /// There is a reference of what its model says.
    KnownModel,
    /// The worker's protocol promises this.
    Promised(Promise),
    /// The server chats with this model: one without a template may be refused.
    Chat,
}

impl Check {
    /// A part of a whole life of one worker.
    pub const fn isolation(id: &'static str, run: fn(&Subject) -> Result<Evidence>) -> Self {
        Self::row(id, Suite::Isolation, Phase::Serving, Experiment::Asked(run))
    }

    /// A sentence of the contract, tried with good and bad input.
    pub const fn contract(id: &'static str, run: fn(&Subject) -> Result<Evidence>) -> Self {
        Self::row(id, Suite::Contract, Phase::Serving, Experiment::Asked(run))
    }

    /// The same, tried with workers of its own.
    pub const fn contract_apart(id: &'static str, run: ApartRun) -> Self {
        Self::row(id, Suite::Contract, Phase::Serving, Experiment::Apart(run))
    }

    /// Something that a worker has to survive, tried with workers of its own.
    pub const fn resilience(id: &'static str, run: ApartRun) -> Self {
        Self::row(
            id,
            Suite::Resilience,
            Phase::Serving,
            Experiment::Apart(run),
        )
    }

    /// What a benchmark judges.
    pub const fn benchmark(id: &'static str) -> Self {
        Self::row(
            id,
            Suite::Benchmark,
            Phase::Benchmark,
            Experiment::ByItsMode,
        )
    }

    /// What happens to several workers before and after their load.
    pub const fn stress(id: &'static str) -> Self {
        Self::row(id, Suite::Stress, Phase::Stress, Experiment::ByItsMode)
    }

    /// What is judged of several workers under load.
    pub const fn of_pool(
        id: &'static str,
        judge: fn(&PoolObservation<'_>) -> Result<Evidence>,
    ) -> Self {
        Self::row(id, Suite::Stress, Phase::Stress, Experiment::OfPool(judge))
    }

    /// What is judged when all backends have been tried.
    pub const fn matrix(id: &'static str) -> Self {
        Self::row(id, Suite::Matrix, Phase::Matrix, Experiment::ByItsMode)
    }

    const fn row(id: &'static str, suite: Suite, phase: Phase, experiment: Experiment) -> Self {
        Self {
            info: CheckInfo::row(id, suite, phase),
            by_hand: |_| String::new(),
            needs: &[],
            experiment,
        }
    }

    /// Completes the sentence "The worker ...".
    pub const fn promise(mut self, promise: &'static str) -> Self {
        self.info.promise = promise;
        self
    }

    /// The promises of the contract that it holds, by their numbers.
    pub const fn holds(mut self, numbers: &'static [&'static str]) -> Self {
        self.info.holds = numbers;
        self
    }

    /// One line: what is done, and what fails it.
    pub const fn explanation(mut self, explanation: &'static str) -> Self {
        self.info.explanation = explanation;
        self
    }

    /// A line for a shell that shows it by hand.
    pub const fn by_hand(mut self, line: fn(&ByHand) -> String) -> Self {
        self.by_hand = line;
        self
    }

    /// What must hold before it makes sense.
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// When it is tried, where that isn't while the worker serves.
    pub const fn at(mut self, phase: Phase) -> Self {
        self.info.phase = phase;
        self
    }

    /// A worker that breaks it is warned of, no more.
    pub const fn should(mut self) -> Self {
        self.info.level = Level::Should;
        self
    }
}

impl Need {
    /// Why the need is not met, if it isn't.
    pub fn unmet(self, subject: &Subject) -> Option<Unmet> {
        let lacking = match self {
            Need::Ready => return unready(subject),
            Need::Sound => return unsound(subject),
            Need::Device => match subject.worker.launch().backend {
                Backend::Cuda => None,
                Backend::Cpu => Some(String::from(
                    "the CPU backend has no device memory of its own",
                )),
                Backend::Metal => Some(String::from(
                    "Metal does not report how much device memory a process uses",
                )),
            },
            Need::Chat => subject.chat_refusal(),
            Need::KnownModel => match subject.context.known_model {
                Some(_) => None,
                None => Some(String::from(
                    "unknown model: answers were not compared (--reference compares them)",
                )),
            },
            Need::Promised(promise) => subject.worker.launch().lacks(promise),
            Need::Signals if platform::HAS_SIGNALS => None,
            Need::Signals => Some(String::from("this system has no signals")),
        };
        lacking.map(Unmet::because_of)
    }
}

fn unready(subject: &Subject) -> Option<Unmet> {
    match (&subject.not_ready, subject.worker.exited()) {
        (Some(mismatch), _) => Some(Unmet::by("the worker did not become ready", mismatch)),
        (None, Ok(Some(exit))) => {
            let reason = format!("the worker's process has ended: {}", exit.describe());
            Some(Unmet::by(reason, &exit.mismatch()))
        }
        (None, _) => subject.worker.silence(),
    }
}

fn unsound(subject: &Subject) -> Option<Unmet> {
    if let Some(degraded) = &*subject.degraded.borrow() {
        return Some(degraded.clone());
    }
    let error = subject.reference().err()?;
    Some(unmet_by("there is no reference answer", &error))
}
