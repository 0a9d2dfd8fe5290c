//! Two workers in one run, turn about, under the same loads: A B B A. What the machine does to one of
//! them it does to the other, so that the ratio of each pair is worth more than its figures.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::baseline::tell;
use super::measured::{REQUEST_LIMIT, planned_as, record_of, under_load, verdict};
use super::prompts::PromptSource;
use super::scenario::Scenario;
use crate::tasks::worker::config::benchmark::BenchmarkConfig;
use crate::tasks::worker::load::windowed::{Budget, Requests};
use crate::tasks::worker::mode::tried::tried;
use crate::tasks::worker::record::bench::{Objectives, ScenarioPlan};
use crate::tasks::worker::record::compare::Comparison;
use crate::tasks::worker::record::event::{EventKind, Mismatch, PlannedCheck};
use crate::tasks::worker::record::measure::{Comparable, MEASURES, MeasureSpec};
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::AuxiliaryWorker;
use crate::tasks::worker::target::worker::{Program, WorkerHandle};

/// How many pairs of each load. The interval of the median leaves out two on either side.
const PAIRS: usize = 12;

/// The prompt of the load that is about prefill.
const PREFILL: u64 = 128;

/// A turn lasts this part of what a whole load lasts otherwise.
const TURN: u32 = 5;

/// The fewest requests of a turn.
const LEAST_REQUESTS: usize = 3;

/// How much longer than asked for a turn may take to have them.
const PATIENCE: u32 = 60;

/// The loads under which the two are compared.
fn loads(config: &BenchmarkConfig) -> Vec<Scenario> {
    let most = config.concurrency.iter().max().copied().unwrap_or(1);
    let prefill = config
        .prompts
        .is_none()
        .then_some(Scenario::Prefill(PREFILL));
    let sweep = (most > 1).then_some(Scenario::Sweep(most));
    prefill
        .into_iter()
        .chain([Scenario::Decode])
        .chain(sweep)
        .collect()
}

/// What is planned where another worker is to be compared with.
pub fn planned(config: &BenchmarkConfig) -> impl Iterator<Item = PlannedCheck> {
    let loads = loads(config).into_iter();
    loads.filter_map(|scenario| planned_as(&id(&scenario), &scenario.name()))
}

fn id(scenario: &Scenario) -> String {
    format!("against.{}", scenario.name())
}

/// Compares the worker under test with the one of `other`, whose name is in the configuration.
pub fn measure(subject: &Subject<'_>, config: &BenchmarkConfig, other: &Path) -> Result<()> {
    let journal = subject.context.journal;
    let name = config.against.clone().unwrap_or_default();
    let mut auxiliary = subject.auxiliaries.start("against", |launch| {
        launch.program = Program::Contract(other.to_owned())
    })?;
    let ready = auxiliary.wait_until_ready();
    ready.with_context(|| format!("{name} can't be compared with"))?;
    let mut source = PromptSource::open(subject, config)?;
    for scenario in loads(config) {
        tried(subject.context, &id(&scenario), || {
            let comparisons = compare(subject, &auxiliary, config, &scenario, &mut source)?;
            tell(&comparisons, &name, journal)
        })?;
    }
    Ok(())
}

/// One load over both, turn about.
fn compare(
    subject: &Subject<'_>,
    auxiliary: &AuxiliaryWorker,
    config: &BenchmarkConfig,
    scenario: &Scenario,
    source: &mut PromptSource,
) -> Result<Vec<Comparison>> {
    let (plan, requests) = scenario.prepare_from(subject, config, source)?;
    let journal = subject.context.journal;
    let budget = budget(config, scenario);
    let turn = budget.warm_up + budget.duration;
    journal.emit(EventKind::ScenarioStarted {
        plan: plan.clone(),
        expected_ms: (turn * 2 * PAIRS as u32).as_millis() as u64,
    });
    let take_turn = |worker: &WorkerHandle| {
        let turn = turn_of(subject, worker, &plan, &requests, budget)?;
        Ok::<_, anyhow::Error>(turn)
    };
    let of_other = || {
        // Its failures are none of the worker under test.
        take_turn(&auxiliary.worker).map_err(|error| match error.downcast::<Mismatch>() {
            Ok(mismatch) => anyhow::anyhow!("the worker to compare with: {mismatch}"),
            Err(error) => error,
        })
    };
    let mut pairs = Vec::with_capacity(PAIRS);
    for pair in 0..PAIRS {
        // A B, B A, A B: who goes first doesn't profit from it.
        let (before, after) = if pair % 2 == 0 {
            let before = of_other()?;
            (before, take_turn(&subject.worker)?)
        } else {
            let after = take_turn(&subject.worker)?;
            (of_other()?, after)
        };
        pairs.push((before, after));
    }
    Ok(comparisons(&plan, &pairs, config.floor))
}

fn budget(config: &BenchmarkConfig, scenario: &Scenario) -> Budget {
    let duration = config.duration / TURN;
    let least = LEAST_REQUESTS.max(2 * scenario.streams() as usize);
    Budget {
        warm_up: config.warm_up / TURN,
        duration,
        requests: config.requests.map(|requests| requests.max(least)),
        least,
        at_most: duration * PATIENCE,
        limit: REQUEST_LIMIT,
    }
}

/// One worker's turn. Fails with a [`Mismatch`] unless every request is answered by the rules.
fn turn_of(
    subject: &Subject<'_>,
    worker: &WorkerHandle,
    plan: &ScenarioPlan,
    requests: &Requests,
    budget: Budget,
) -> Result<ScenarioRecord> {
    let result = under_load(subject, worker, plan, requests, budget)?;
    let (window, requests, client) = record_of(subject.context.journal, plan, result);
    let record = ScenarioRecord::of(plan.clone(), window, &Objectives::default(), &requests);
    let record = ScenarioRecord { client, ..record };
    verdict(&record)?;
    if record.valid == 0 {
        bail!("no request was both sent and answered in a turn");
    }
    Ok(record)
}

fn comparisons(
    plan: &ScenarioPlan,
    pairs: &[(ScenarioRecord, ScenarioRecord)],
    floor: f64,
) -> Vec<Comparison> {
    let compare = |spec: &MeasureSpec| {
        let median = |record: &ScenarioRecord| Some(record.measure(spec.name)?.summary.p50);
        let figures = pairs
            .iter()
            .map(|(before, after)| median(before).zip(median(after)));
        let figures = figures.collect::<Option<Vec<_>>>()?;
        spec.compared_under(plan, floor).in_pairs(&figures)
    };
    let rows = MEASURES.iter();
    rows.filter(|spec| spec.comparable != Comparable::Not)
        .filter_map(compare)
        .collect()
}
