//! What is known of a check without running it: the part of the table that plans, lists and
//! explanations read. Pure.

use super::event::{Level, PlannedCheck, Suite};

/// A row of the table of checks, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckInfo {
    /// Stable name for options, reports and docs: the area, a dot, the rest. A `*` in it stands for
    /// what a run fills in, such as the number of streams.
    pub id: &'static str,
    /// What it belongs to.
    pub suite: Suite,
    /// How much weight it has.
    pub level: Level,
    /// When in a run it is tried.
    pub phase: Phase,
    /// Completes the sentence "The worker ...". A `*` in it is the one of the name.
    pub promise: &'static str,
    /// The contract's own words, each sentence as CONTRACT.md has it; empty where it has none.
    pub contract: &'static str,
    /// One line: what is done, and what fails it.
    pub explanation: &'static str,
}

/// When in a run a check is tried. In their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// About the worker's start.
    Start,
    /// While the worker serves.
    Serving,
    /// Under the loads of `--benchmark`.
    Benchmark,
    /// While several workers are under load, with `--stress`.
    Stress,
    /// About the worker's end.
    End,
    /// When all backends have been tried, with `--all-backends`.
    Matrix,
}

impl Phase {
    /// The option that a run needs to come to this phase; `None` where every run does.
    pub fn option(self) -> Option<&'static str> {
        match self {
            Phase::Start | Phase::Serving | Phase::End => None,
            Phase::Benchmark => Some("--benchmark"),
            Phase::Stress => Some("--stress"),
            Phase::Matrix => Some("--all-backends"),
        }
    }
}

impl CheckInfo {
    /// A row that says nothing of itself yet.
    pub const fn row(id: &'static str, suite: Suite, phase: Phase) -> Self {
        Self {
            id,
            suite,
            level: Level::Must,
            phase,
            promise: "",
            contract: "",
            explanation: "",
        }
    }

    /// Whether every run can try it, whatever the run is for.
    pub fn is_selectable(&self) -> bool {
        self.option().is_none()
    }

    /// The option that a run needs to try it.
    pub fn option(&self) -> Option<&'static str> {
        match self.suite {
            // Some of its checks are about the end of the workers.
            Suite::Stress => Phase::Stress.option(),
            _ => self.phase.option(),
        }
    }

    /// Whether this is the row of the check `id`, which may have a `*` of its row filled in.
    pub fn covers(&self, id: &str) -> bool {
        match self.id.split_once('*') {
            None => self.id == id,
            Some((before, after)) => {
                id.len() > before.len() + after.len()
                    && id.starts_with(before)
                    && id.ends_with(after)
            }
        }
    }

    /// The check as the plan of a run has it.
    pub fn planned(&self) -> PlannedCheck {
        self.planned_for("*")
    }

    /// The same, with `*` filled in.
    pub fn planned_for(&self, filling: &str) -> PlannedCheck {
        PlannedCheck {
            id: self.id.replace('*', filling),
            promise: self.promise.replace('*', filling),
            suite: self.suite,
            level: self.level,
            contract: self.contract.to_owned(),
            known_failure: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_what_a_run_fills_in() {
        let row = CheckInfo {
            promise: "answers * streams",
            ..CheckInfo::row("bench.sweep_*", Suite::Benchmark, Phase::Benchmark)
        };
        assert!(row.covers("bench.sweep_8") && row.covers(row.id));
        assert!(!row.covers("bench.sweep_") && !row.covers("bench.cold"));
        let planned = row.planned_for("8");
        assert_eq!(
            (planned.id, planned.promise),
            (
                String::from("bench.sweep_8"),
                String::from("answers 8 streams")
            )
        );
    }
}
