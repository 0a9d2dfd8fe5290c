//! One check from its begin to its end, told to the journal: what all modes have in common.

use std::time::{Duration, Instant};

use crate::tasks::worker::check::judge::{Evidence, judge};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::stop::Interrupted;
use crate::tasks::worker::record::event::{CheckRecord, EventKind, Outcome, Unmet};
use crate::tasks::worker::target::RunContext;

/// A check that is over.
#[derive(Debug)]
pub struct Judged {
    began: Instant,
    ended: Instant,
    outcome: Outcome,
    detail: Option<Evidence>,
}

/// Runs a check, judges it and tells both ends; gives the verdict.
///
/// Fails only when the run is interrupted: then the check has no outcome.
pub fn tried(
    context: RunContext<'_>,
    id: &str,
    check: impl FnOnce() -> anyhow::Result<Evidence>,
) -> Result<Outcome, Interrupted> {
    context.stop.check()?;
    began(context.journal, id, Instant::now());
    over(context, id, tried_quietly(check))
}

/// Runs a check and judges it.
pub fn tried_quietly(check: impl FnOnce() -> anyhow::Result<Evidence>) -> Judged {
    let began = Instant::now();
    let (outcome, detail) = judge(check());
    Judged {
        began,
        ended: Instant::now(),
        outcome,
        detail,
    }
}

/// Tells that a check has begun, then.
pub fn began(journal: &Journal, id: &str, at: Instant) {
    journal.emit_at(at, EventKind::CheckStarted { id: id.to_owned() });
}

/// Tells how a check ended, and gives the verdict.
///
/// Fails when the run is interrupted.
pub fn over(context: RunContext<'_>, id: &str, tried: Judged) -> Result<Outcome, Interrupted> {
    context.stop.check()?;
    let outcome = tried.outcome.clone();
    let took = tried.ended - tried.began;
    let record = record(id, tried.outcome, took, tried.detail);
    context
        .journal
        .emit_at(tried.ended, EventKind::CheckFinished(record));
    Ok(outcome)
}

/// Tells why a check isn't run.
pub fn left_out(journal: &Journal, id: &str, unmet: Unmet, took: Duration) {
    let record = record(id, unmet.into(), took, None);
    journal.emit(EventKind::CheckFinished(record));
}

fn record(id: &str, outcome: Outcome, took: Duration, detail: Option<Evidence>) -> CheckRecord {
    CheckRecord {
        id: id.to_owned(),
        outcome,
        duration_ms: took.as_millis() as u64,
        detail,
    }
}
