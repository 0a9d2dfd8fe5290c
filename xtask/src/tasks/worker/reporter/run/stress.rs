//! Several workers under load, and how their needs grew. Pure.

use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::stress::{Resource, Trend, WorkerUnderStress};
use crate::tasks::worker::reporter::page::{Block, Section, Shown, Table};
use crate::tasks::worker::reporter::words::{NO_FIGURE, number};

/// A table of workers, and one of trends.
pub fn section(report: &RunReport) -> Option<Section> {
    if report.stress.is_empty() {
        return None;
    }
    let mut workers = Table::new(
        [
            "worker",
            "requests",
            "failed",
            "tokens/s",
            "late beats",
            "health ms",
            "memory MB",
            "verdict",
        ],
        1,
    );
    workers.rows = report.stress.iter().map(row).collect();
    let head = [
        "worker",
        "resource",
        "per",
        "slope",
        "99 % interval",
        "R²",
        "n",
        "verdict",
    ];
    let mut trends = Table::new(head, 3);
    trends.rows = report.stress.iter().flat_map(trend_rows).collect();
    let mut blocks = vec![Block::Table(workers)];
    if !trends.rows.is_empty() {
        blocks.push(Block::Table(trends));
    }
    blocks.push(Block::Remarks(remarks(report)));
    Some(Section {
        id: "stress",
        title: "Workers under load",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks,
    })
}

/// The number that a worker of several has at the end of its name.
fn short(worker_id: &str) -> String {
    worker_id.rsplit('-').next().unwrap_or(worker_id).to_owned()
}

fn row(worker: &WorkerUnderStress) -> Vec<String> {
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let leaks = worker.trends.iter().filter(|trend| trend.is_leak());
    let mut leaking: Vec<&str> = leaks.map(|trend| trend.resource.as_str()).collect();
    leaking.dedup();
    let mut verdict = Vec::new();
    if worker.killed {
        verdict.push(format!("killed, {} requests cut", worker.cut));
    }
    if !leaking.is_empty() {
        verdict.push(format!("leaks {}", leaking.join(", ")));
    }
    if worker.refused > 0 {
        verdict.push(format!("queue full {} times", worker.refused));
    }
    let memory = worker.memory_bytes;
    vec![
        short(&worker.worker_id),
        worker.requests.to_string(),
        worker.failures.to_string(),
        number(worker.tokens_per_s),
        format!("{} of {}", worker.late_beats, worker.beats),
        number(worker.health_slowest_ms),
        memory.map_or(NO_FIGURE.to_owned(), |(first, last)| {
            format!("{} to {}", mb(first), mb(last))
        }),
        verdict.join("; "),
    ]
}

fn trend_rows(worker: &WorkerUnderStress) -> impl Iterator<Item = Vec<String>> {
    let trends = worker.trends.iter();
    trends.map(|trend| trend_row(&worker.worker_id, trend))
}

fn trend_row(worker_id: &str, trend: &Trend) -> Vec<String> {
    let slope = &trend.slope;
    let unit = match trend.resource {
        Resource::Memory => " B",
        Resource::OpenFiles | Resource::Threads => "",
    };
    let (low, high) = slope.interval;
    vec![
        short(worker_id),
        trend.resource.as_str().to_owned(),
        trend.per.as_str().to_owned(),
        format!("{}{unit}", number(slope.slope)),
        format!("{} to {}", number(low), number(high)),
        format!("{:.2}", slope.r_squared),
        slope.n.to_string(),
        match (trend.is_leak(), trend.levels_off) {
            (true, _) => "leak",
            (false, true) => "levels off",
            (false, false) => "",
        }
        .to_owned(),
    ]
}

fn remarks(report: &RunReport) -> Vec<String> {
    let mut remarks = vec![
        String::from("tokens/s is measured while all workers are up."),
        String::from("Memory is anonymous memory and swap, where the system reports them."),
        String::from(
            "A leak is a slope whose 99 % interval stays above zero by more than a floor, in the \
             second half of the load, and to its end.",
        ),
    ];
    for worker in report
        .stress
        .iter()
        .filter(|worker| worker.trends.is_empty())
    {
        let id = short(&worker.worker_id);
        remarks.push(format!("worker {id}: too few samples for a trend"));
    }
    remarks
}
