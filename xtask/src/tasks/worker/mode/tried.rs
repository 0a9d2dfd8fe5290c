//! One check from its begin to its end, told to the journal: what all modes have in common.

use std::time::{Duration, Instant};

use crate::tasks::worker::check::judge::{Evidence, judge};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::stop::Interrupted;
use crate::tasks::worker::record::event::{CheckRecord, EventKind, Outcome, Unmet};
use crate::tasks::worker::target::RunContext;

/// Runs a check, judges it and tells both ends; gives the verdict.
///
/// Fails only when the run is interrupted: then the check has no outcome.
pub fn tried(
    context: RunContext<'_>,
    id: &str,
    check: impl FnOnce() -> anyhow::Result<Evidence>,
) -> Result<Outcome, Interrupted> {
    let RunContext { journal, stop, .. } = context;
    stop.check()?;
    journal.emit(EventKind::CheckStarted { id: id.to_owned() });
    let began = Instant::now();
    let (outcome, detail) = judge(check());
    stop.check()?;
    finished(journal, id, outcome.clone(), began.elapsed(), detail);
    Ok(outcome)
}

/// Tells why a check isn't run.
pub fn left_out(journal: &Journal, id: &str, unmet: Unmet, took: Duration) {
    finished(journal, id, unmet.into(), took, None);
}

fn finished(
    journal: &Journal,
    id: &str,
    outcome: Outcome,
    took: Duration,
    detail: Option<Evidence>,
) {
    journal.emit(EventKind::CheckFinished(CheckRecord {
        id: id.to_owned(),
        outcome,
        duration_ms: took.as_millis() as u64,
        detail,
    }));
}
