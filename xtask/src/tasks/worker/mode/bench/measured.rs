//! What a load on one worker brings, and whether it is a benchmark.

use std::time::Duration;

use anyhow::Result;

use crate::tasks::worker::check::table;
use crate::tasks::worker::config::benchmark::BenchmarkConfig;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::load::sample::RequestSample;
use crate::tasks::worker::load::windowed;
use crate::tasks::worker::load::windowed::{Addressee, Budget, LoadResult, Requests};
use crate::tasks::worker::mode::calibrate;
use crate::tasks::worker::record::bench::{ClientRecord, RequestRecord, ScenarioPlan, Window};
use crate::tasks::worker::record::event::{EventKind, Mismatch, PlannedCheck};
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::record::stats::Distribution;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::worker::WorkerHandle;

/// The longest that one request may take.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(300);

/// A load as the plan has it, by its row in the table of checks.
pub fn planned_as(id: &str, filling: &str) -> Option<PlannedCheck> {
    table::find(id).map(|check| check.info.planned_for(filling))
}

/// Puts a worker under a load.
pub fn under_load(
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

/// What a load brought, on the run's axis, and what is known of the client meanwhile.
pub fn record_of(
    journal: &Journal,
    plan: &ScenarioPlan,
    result: LoadResult,
) -> (Window, Vec<RequestRecord>, ClientRecord) {
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
        knows_chunks: sample.knows_chunks,
        prompt_tokens: sample.prompt_tokens,
        queue_ms: sample.queue_ms,
        outcome: sample.outcome,
    };
    let errors: Vec<f64> = result.client_errors.into_iter().map(ms).collect();
    let client = ClientRecord {
        error_ms: Distribution::of(&errors),
        calibrated: None,
    };
    let requests = result.samples.into_iter().map(record).collect();
    (window, requests, client)
}

/// Tells the journal what was measured, and folds it as the report will.
pub fn tell(
    subject: &Subject<'_>,
    config: &BenchmarkConfig,
    plan: ScenarioPlan,
    result: LoadResult,
) -> Result<ScenarioRecord> {
    let journal = subject.context.journal;
    let (window, requests, mut client) = record_of(journal, &plan, result);
    let record = ScenarioRecord::of(plan.clone(), window, &config.objectives, &requests);
    client.calibrated = calibrate::at_rate_of(&record, &requests, subject.context.stop)?;
    for request in &requests {
        journal.emit(EventKind::RequestMeasured(request.clone()));
    }
    journal.emit(EventKind::ScenarioFinished {
        plan,
        window,
        objectives: config.objectives,
        client: client.clone(),
    });
    Ok(ScenarioRecord { client, ..record })
}

/// A scenario is green when every request was answered, by the rules, and enough were.
pub fn verdict(record: &ScenarioRecord) -> Result<()> {
    let broken = record.failed + record.invalid + record.broken_outside;
    if broken > 0 {
        let outside = match record.broken_outside {
            0 => String::new(),
            count => format!(", and {count} more did either outside the window"),
        };
        let got = format!(
            "{} failed and {} broke a rule of streams{outside}: {}",
            record.failed,
            record.invalid,
            record.reasons.join("; ")
        );
        let place = format!("the load {}", record.plan.name);
        return Err(Mismatch::new(place, "an answer to every request", got).into());
    }
    if let Some(doubt) = record.doubt() {
        anyhow::bail!("{doubt}");
    }
    anyhow::ensure!(
        record.valid > 0,
        "no request was both sent and answered in the measured time"
    );
    Ok(())
}

/// The figures in a few words.
pub fn in_short(record: &ScenarioRecord) -> String {
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

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
