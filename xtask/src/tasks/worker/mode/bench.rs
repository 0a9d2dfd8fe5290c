//! The benchmark: one worker under one load after the other, each with its figures and its verdict.

pub mod against;
pub mod baseline;
mod prompts;
mod scenario;
mod words;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use self::prompts::PromptSource;
use self::scenario::Scenario;
use super::tried::tried;
use super::{calibrate, suite};
use crate::tasks::worker::check::table;
use crate::tasks::worker::config::benchmark::{BenchmarkConfig, SHORT_PROMPT};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::load::sample::RequestSample;
use crate::tasks::worker::load::windowed;
use crate::tasks::worker::load::windowed::{Addressee, Budget, LoadResult, Requests};
use crate::tasks::worker::plan::Planned;
use crate::tasks::worker::record::bench::{RequestRecord, ScenarioPlan, Window};
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::{EventKind, Mismatch, PlannedCheck};
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::target::worker::WorkerHandle;
use crate::tasks::worker::target::{RunContext, Subject};

/// Fewer requests than these say next to nothing: a scenario goes on until it has them,
const LEAST_REQUESTS: usize = 6;

/// but not for longer than so many times what was asked for.
const PATIENCE: u32 = 12;

/// The longest that one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(300);

/// The plan of the checks and the loads, as an event.
pub fn planned(plan: &[Planned], config: &BenchmarkConfig) -> EventKind {
    let (before, after) = suite::split_before(plan, Phase::Serving);
    let mut checks: Vec<_> = suite::planned_checks(before).collect();
    match config.against {
        Some(_) => checks.extend(against::planned(config)),
        None => checks.extend(
            scenario::all(config)
                .filter_map(|scenario| planned_as(&scenario.id(), &scenario.filling())),
        ),
    }
    checks.extend(baseline::planned(config));
    checks.extend(suite::planned_checks(after));
    EventKind::Planned { checks }
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
        journal.emit(EventKind::Tared(calibrate::measure(stop)?));
        match other {
            Some(other) => against::measure(subject, config, other)?,
            None => measure(subject, config)?,
        }
        facts_are_known();
        baseline::compare_and_save(config, runs, subject.context)?;
    }
    suite::run_checks(subject, after)
}

/// A load as the plan has it, by its row in the table of checks.
fn planned_as(id: &str, filling: &str) -> Option<PlannedCheck> {
    table::find(id).map(|check| check.info.planned_for(filling))
}

fn measure(subject: &Subject<'_>, config: &BenchmarkConfig) -> Result<()> {
    let mut source = None;
    for scenario in scenario::all(config) {
        tried(subject.context, &scenario.id(), || {
            measure_one(subject, config, &scenario, &mut source)
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
    let record = tell(subject, config, plan, result);
    verdict(&record)?;
    let short = scenario.cut_short(&record.plan).unwrap_or_default();
    Ok(in_short(&record) + &short)
}

/// Puts a worker under a load.
fn under_load(
    subject: &Subject<'_>,
    worker: &WorkerHandle,
    plan: &ScenarioPlan,
    requests: &Requests,
    budget: Budget,
) -> Result<LoadResult> {
    let addressee = Addressee {
        port: worker.launch().port,
        spelling: worker.launch().dialect,
        stop: subject.context.stop.clone(),
    };
    windowed::measure(&addressee, plan.load, requests, budget, || {
        worker.ensure_alive()
    })
}

/// Tells the journal what was measured, and folds it as the report will.
fn tell(
    subject: &Subject<'_>,
    config: &BenchmarkConfig,
    plan: ScenarioPlan,
    result: LoadResult,
) -> ScenarioRecord {
    let journal = subject.context.journal;
    let (window, requests) = record_of(journal, &plan, result);
    for request in &requests {
        journal.emit(EventKind::RequestMeasured(request.clone()));
    }
    journal.emit(EventKind::ScenarioFinished {
        plan: plan.clone(),
        window,
        objectives: config.objectives,
    });
    ScenarioRecord::of(plan, window, &config.objectives, &requests)
}

/// What a load brought, on the run's axis.
fn record_of(
    journal: &Journal,
    plan: &ScenarioPlan,
    result: LoadResult,
) -> (Window, Vec<RequestRecord>) {
    let (from, to) = result.window;
    let window = Window {
        from_ms: journal.elapsed_ms(from),
        to_ms: journal.elapsed_ms(to),
    };
    let record = |sample: RequestSample| RequestRecord {
        scenario: plan.name.clone(),
        stream: sample.stream,
        scheduled_ms: sample.scheduled.map(|due| journal.elapsed_ms(due)),
        sent_ms: journal.elapsed_ms(sample.sent),
        took_ms: ms(sample.took),
        chunks: sample
            .chunks
            .iter()
            .map(|(at, tokens)| (ms(*at), *tokens))
            .collect(),
        prompt_tokens: sample.prompt_tokens,
        outcome: sample.outcome,
    };
    (window, result.samples.into_iter().map(record).collect())
}

/// A scenario is green when every request was answered, by the rules, and enough were.
fn verdict(record: &ScenarioRecord) -> Result<()> {
    let broken = record.failed + record.invalid;
    if broken > 0 {
        let got = format!(
            "{} failed and {} broke a rule of streams: {}",
            record.failed,
            record.invalid,
            record.reasons.join("; ")
        );
        let place = format!("the load {}", record.plan.name);
        return Err(Mismatch::new(place, "an answer to every request", got).into());
    }
    if let Some(jitter) = record.lag() {
        anyhow::bail!("{jitter}");
    }
    anyhow::ensure!(
        record.valid > 0,
        "no request was both sent and answered in the measured time"
    );
    Ok(())
}

/// The figures in a few words.
fn in_short(record: &ScenarioRecord) -> String {
    let median = |name: &str| record.measure(name).map(|measure| measure.summary.p50);
    let mut parts = vec![format!("{} requests", record.valid)];
    if let Some(ttft) = median("ttft") {
        parts.push(format!("TTFT {ttft:.1} ms"));
    }
    if let Some(tpot) = median("tpot") {
        parts.push(format!("TPOT {tpot:.2} ms"));
        parts.push(format!("{:.1} tokens/s", record.output_tokens_per_s));
    } else if let Some(rate) = median("prefill_rate") {
        parts.push(format!("prefill {rate:.0} tokens/s"));
    }
    parts.join(", ")
}

/// The most tokens that any load but those of prefill asks the context for.
fn scenario_tokens(config: &BenchmarkConfig) -> u64 {
    SHORT_PROMPT + u64::from(config.max_tokens)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
