//! How long a worker takes to become ready, more than once.

use anyhow::{Context, Result};

use super::measured::planned_as;
use crate::tasks::worker::config::benchmark::BenchmarkConfig;
use crate::tasks::worker::record::event::{EventKind, PlannedCheck};
use crate::tasks::worker::record::stats::Distribution;
use crate::tasks::worker::target::Subject;

/// The name of the verdict.
pub const ID: &str = "bench.startup";

/// What is planned where it is asked for.
pub fn planned(config: &BenchmarkConfig) -> Option<PlannedCheck> {
    (config.startups > 0).then(|| planned_as(ID, "")).flatten()
}

/// Starts workers like the one under test, one after the other, beside it while it is idle.
pub fn measure(subject: &Subject<'_>, config: &BenchmarkConfig) -> Result<String> {
    subject
        .worker
        .pid()
        .context("a server that runs already is never started")?;
    let mut took = Vec::with_capacity(config.startups);
    for number in 1..=config.startups {
        let mut worker = subject
            .auxiliaries
            .start(&format!("startup-{number}"), |_| {})?;
        worker.wait_until_ready()?;
        let ready_ms = worker.worker.started().elapsed().as_secs_f64() * 1e3;
        let journal = subject.context.journal;
        journal.emit(EventKind::StartMeasured { ready_ms });
        took.push(ready_ms);
    }
    let summary = Distribution::of(&took).context("nothing was started")?;
    Ok(format!(
        "ready after {:.0} ms in the median of {}, {:.0} to {:.0}",
        summary.p50, summary.n, summary.min, summary.max
    ))
}
