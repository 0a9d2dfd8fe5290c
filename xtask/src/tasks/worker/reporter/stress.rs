//! Several workers under load as rows of words, the same for every report. Pure.

use super::bench::number;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::stress::{Resource, Trend, WorkerUnderStress};

/// The columns of the table of workers.
pub const COLUMNS: [&str; 8] = [
    "worker",
    "requests",
    "failed",
    "tokens/s",
    "late beats",
    "health ms",
    "memory MB",
    "verdict",
];

/// The columns of the table of trends.
pub const TREND_COLUMNS: [&str; 8] = [
    "worker",
    "resource",
    "per",
    "slope",
    "99 % interval",
    "R²",
    "n",
    "verdict",
];

/// What stands where there is no figure.
const NONE: &str = "-";

/// The number that a worker of several has at the end of its name.
fn short(worker_id: &str) -> String {
    worker_id.rsplit('-').next().unwrap_or(worker_id).to_owned()
}

/// A row for each worker.
pub fn rows(report: &RunReport) -> Vec<[String; 8]> {
    report.stress.iter().map(row).collect()
}

fn row(worker: &WorkerUnderStress) -> [String; 8] {
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let memory = worker.memory_bytes;
    let leaks = worker.trends.iter().filter(|trend| trend.is_leak());
    let mut leaking: Vec<&str> = leaks.map(|trend| trend.resource.as_str()).collect();
    leaking.dedup();
    let mut verdict = Vec::new();
    if worker.killed {
        verdict.push(format!("killed, {} cut", worker.cut));
    }
    if !leaking.is_empty() {
        verdict.push(format!("leaks {}", leaking.join(", ")));
    }
    if worker.refused > 0 {
        verdict.push(format!("queue full {} times", worker.refused));
    }
    [
        short(&worker.worker_id),
        worker.requests.to_string(),
        worker.failures.to_string(),
        number(worker.tokens_per_s),
        format!("{} of {}", worker.late_beats, worker.beats),
        number(worker.health_slowest_ms),
        memory.map_or(NONE.to_owned(), |(first, last)| {
            format!("{} to {}", mb(first), mb(last))
        }),
        verdict.join("; "),
    ]
}

/// A row for each trend.
pub fn trend_rows(report: &RunReport) -> Vec<[String; 8]> {
    let workers = report.stress.iter();
    let rows = workers.flat_map(|worker| {
        let trends = worker.trends.iter();
        trends.map(|trend| trend_row(&worker.worker_id, trend))
    });
    rows.collect()
}

fn trend_row(worker_id: &str, trend: &Trend) -> [String; 8] {
    let slope = &trend.slope;
    let unit = match trend.resource {
        Resource::Memory => " B",
        Resource::OpenFiles | Resource::Threads => "",
    };
    let (low, high) = slope.interval;
    [
        short(worker_id),
        trend.resource.as_str().to_owned(),
        trend.per.as_str().to_owned(),
        format!("{}{unit}", number(slope.slope)),
        format!("{} to {}", number(low), number(high)),
        format!("{:.2}", slope.r_squared),
        slope.n.to_string(),
        if trend.is_leak() { "leak" } else { "" }.to_owned(),
    ]
}

/// What a reader has to know besides the figures.
pub fn remarks(report: &RunReport) -> Vec<String> {
    if report.stress.is_empty() {
        return Vec::new();
    }
    let mut remarks = vec![String::from(
        "tokens/s while all were there; memory is anonymous memory and swap, where the system tells; a \
         leak is a slope whose interval stays above zero by more than a floor, after the first third",
    )];
    for worker in report.stress.iter().filter(|w| w.trends.is_empty()) {
        let id = short(&worker.worker_id);
        remarks.push(format!("worker {id}: too few samples to see a trend"));
    }
    remarks
}
