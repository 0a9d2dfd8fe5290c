//! The benchmark: one worker under one load after the other, each with its figures and its verdict.

pub mod against;
pub mod baseline;
mod max_rate;
mod measured;
mod prompt_file;
mod prompts;
mod scenario;
mod startup;
mod words;

use std::path::Path;

use anyhow::Result;

use self::measured::{in_short, planned_as, tell, under_load, verdict};
use self::prompts::PromptSource;
use self::scenario::Scenario;
use super::tried::tried;
use super::{calibrate, suite};
use crate::tasks::worker::config::benchmark::{BenchmarkConfig, Measured};
use crate::tasks::worker::plan::Planned;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::{EventKind, PlannedCheck};
use crate::tasks::worker::target::{RunContext, Subject};

/// The planned checks and loads.
pub fn planned(plan: &[Planned], config: &BenchmarkConfig) -> Vec<PlannedCheck> {
    let (before, after) = suite::split_before(plan, Phase::Serving);
    let mut checks: Vec<_> = suite::planned_checks(before).collect();
    match config.against {
        Some(_) => checks.extend(against::planned(config)),
        None => checks.extend(
            scenario::all(config)
                .iter()
                .filter_map(|scenario| planned_as(&scenario.id(), &scenario.filling())),
        ),
    }
    checks.extend(max_rate::planned(config));
    checks.extend(startup::planned(config));
    checks.extend(baseline::planned(config));
    checks.extend(suite::planned_checks(after));
    checks
}

/// Waits until the worker is ready, puts it under every load, or beside the worker to compare with,
/// and runs the planned checks around that. `facts_are_known` is called before figures are compared
/// with stored ones; `runs` is the folder of all runs' folders.
///
/// Fails where we can't go on, or when the run is interrupted.
pub fn run(
    subject: &mut Subject<'_>,
    plan: &[Planned],
    config: &BenchmarkConfig,
    other: Option<&Path>,
    runs: &Path,
    facts_are_known: impl FnOnce(),
) -> Result<()> {
    let (before, after) = suite::split_before(plan, Phase::Serving);
    let _sampler = suite::begin(subject)?;
    suite::run_checks(subject, before)?;
    let RunContext { journal, stop, .. } = subject.context;
    if subject.not_ready.is_none() {
        if config.measured == Measured::Loads {
            journal.emit(EventKind::Calibrated(calibrate::measure(stop)?));
            match other {
                Some(other) => against::measure(subject, config, other)?,
                None => measure(subject, config)?,
            }
        }
        if config.startups > 0 {
            tried(subject.context, startup::ID, || {
                startup::measure(subject, config)
            })?;
        }
        facts_are_known();
        baseline::compare_and_save(config, runs, subject.context)?;
    }
    suite::run_checks(subject, after)
}

fn measure(subject: &Subject<'_>, config: &BenchmarkConfig) -> Result<()> {
    let mut source = None;
    for scenario in scenario::all(config) {
        tried(subject.context, &scenario.id(), || {
            measure_one(subject, config, &scenario, &mut source)
        })?;
    }
    if config.find_max_rate {
        tried(subject.context, max_rate::ID, || {
            max_rate::find(subject, config, &mut source)
        })?;
    }
    Ok(())
}

/// Puts the worker under one load. The evidence is the figures in short.
fn measure_one(
    subject: &Subject<'_>,
    config: &BenchmarkConfig,
    scenario: &Scenario,
    source: &mut Option<PromptSource>,
) -> Result<String> {
    subject.check_id.set("bench");
    subject.worker.ensure_alive()?;
    let (plan, requests) = scenario.prepare(subject, config, source)?;
    let budget = scenario.budget(config);
    subject.context.journal.emit(EventKind::ScenarioStarted {
        plan: plan.clone(),
        expected_ms: (budget.warm_up + budget.duration).as_millis() as u64,
    });
    let result = under_load(subject, &subject.worker, &plan, &requests, budget)?;
    let record = tell(subject, config, plan, result)?;
    verdict(&record)?;
    let short = scenario.cut_short(&record.plan).unwrap_or_default();
    Ok(in_short(&record) + &short)
}
