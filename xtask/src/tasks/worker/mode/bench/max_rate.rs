//! The highest rate at which a worker keeps its objectives: one open loop after the other, by bisection.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::measured::{REQUEST_LIMIT, planned_as, tell, under_load};
use super::prompts::PromptSource;
use super::scenario::Scenario;
use crate::tasks::worker::config::benchmark::BenchmarkConfig;
use crate::tasks::worker::load::windowed::Budget;
use crate::tasks::worker::record::bench::{KEPT_SHARE, RateSearch, RateStep};
use crate::tasks::worker::record::event::{EventKind, Mismatch, PlannedCheck};
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::target::Subject;

/// The name of the verdict.
pub const ID: &str = "bench.max_rate";

/// A share of fewer requests than these has too wide an interval.
const LEAST_REQUESTS: usize = 40;

/// But so many are expected at any rate.
const EXPECTED: f64 = 8.0;

/// A rate goes on for no longer than so many times what was asked for.
const PATIENCE: u32 = 12;

/// What is planned where the rate is asked for.
pub fn planned(config: &BenchmarkConfig) -> Option<PlannedCheck> {
    config.find_max_rate.then(|| planned_as(ID, "")).flatten()
}

/// Tries one rate after the other. The evidence names the rates between which the highest lies.
pub fn find(
    subject: &Subject<'_>,
    config: &BenchmarkConfig,
    source: &mut Option<PromptSource>,
) -> Result<String> {
    let mut search = RateSearch::default();
    while let Some(rate_per_s) = search.next() {
        let record = measure(subject, config, source, rate_per_s)?;
        if record.invalid > 0 {
            let place = format!("the load {}", record.plan.name);
            let got = record.reasons.join("; ");
            return Err(Mismatch::new(place, "valid streams", got).into());
        }
        if let Some(doubt) = record.doubt() {
            bail!("at {rate_per_s:.1} requests/s {doubt}");
        }
        let good = record.goodput_per_s.unwrap_or_default() * record.window.seconds();
        let sent = record.valid + record.failed;
        ensure!(
            sent > 0,
            "at {rate_per_s:.2} requests/s none came in the measured time\n  try: a longer --duration"
        );
        search.tried(RateStep {
            rate_per_s,
            // Whoever gets no answer has none in time.
            sent,
            good: good.round() as usize,
        });
    }
    let said = |step: RateStep| format!("{:.2} requests/s: {}", step.rate_per_s, step.in_words());
    match (search.kept(), search.missed()) {
        (Some(kept), Some(missed)) => {
            Ok(format!("kept at {}; not at {}", said(kept), said(missed)))
        }
        (Some(kept), None) => Ok(format!("kept at {}, the highest that is tried", said(kept))),
        (None, missed) => {
            let share = KEPT_SHARE * 100.0;
            let expected =
                format!("{share:.0} % of requests that keep every objective at some rate");
            let got = missed.map_or(String::from("no request"), said);
            Err(Mismatch::new("arrivals at a low rate", expected, got).into())
        }
    }
}

fn measure(
    subject: &Subject<'_>,
    config: &BenchmarkConfig,
    source: &mut Option<PromptSource>,
    rate_per_s: f64,
) -> Result<ScenarioRecord> {
    subject.worker.ensure_alive()?;
    // A name that people can read and say.
    let scenario = Scenario::Open((rate_per_s * 100.0).round() / 100.0);
    let (plan, requests) = scenario.prepare(subject, config, source)?;
    let budget = Budget {
        warm_up: config.warm_up,
        duration: config.duration,
        requests: None,
        least: LEAST_REQUESTS,
        at_most: (config.duration * PATIENCE).max(Duration::from_secs_f64(EXPECTED / rate_per_s)),
        limit: REQUEST_LIMIT,
    };
    subject.context.journal.emit(EventKind::ScenarioStarted {
        plan: plan.clone(),
        expected_ms: (budget.warm_up + budget.duration).as_millis() as u64,
    });
    let result = under_load(subject, &subject.worker, &plan, &requests, budget)?;
    tell(subject, config, plan, result)
}
