//! Figures of a run, each with its unit and the number of samples that it rests on. Pure.

use serde::{Deserialize, Serialize};

use super::event::Heartbeat;
use super::report::RunReport;
use super::stats::Summary;

/// A measure: what, in which unit, and the shape of its samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Stable name.
    pub name: String,
    /// "ms", "MB", "tokens/s", "%".
    pub unit: String,
    /// The samples' shape; `n` is in it.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Every measure that a run's facts allow.
pub fn measures(report: &RunReport) -> Vec<Measure> {
    let timeline = &report.timeline;
    let answered = || {
        timeline
            .requests
            .iter()
            .filter(|span| span.status == Some(200))
    };
    let of = |wanted: &str| -> Vec<f64> {
        answered()
            .filter(|span| span.request.starts_with(wanted))
            .filter_map(|span| span.duration_ms)
            .collect()
    };
    let streams = || answered().filter(|span| span.tokens > 0);
    let decode = streams().filter_map(|span| span.token_gap_ms);
    let rate = decode
        .filter(|gap_ms| *gap_ms > 0.0)
        .map(|gap_ms| 1e3 / gap_ms);
    let vitals = || timeline.samples.iter().map(|sample| sample.vitals);
    let lateness = lateness(report)
        .into_iter()
        .filter_map(|(_, late_ms)| late_ms);
    let table: Vec<(&str, &str, Vec<f64>)> = vec![
        (
            "time_to_ready",
            "ms",
            report.ready_ms.map(|ms| ms as f64).into_iter().collect(),
        ),
        ("get_duration", "ms", of("GET ")),
        ("post_duration", "ms", of("POST ")),
        (
            "time_to_first_token",
            "ms",
            streams().filter_map(|span| span.first_token_ms).collect(),
        ),
        ("decode_rate", "tokens/s", rate.collect()),
        ("heartbeat_lateness", "ms", lateness.collect()),
        ("cpu", "%", vitals().map(|v| v.cpu_percent).collect()),
        (
            "rss",
            "MB",
            vitals().map(|v| v.rss_bytes as f64 / 1e6).collect(),
        ),
        (
            "threads",
            "threads",
            vitals().map(|v| v.threads as f64).collect(),
        ),
        (
            "open_files",
            "files",
            vitals()
                .filter_map(|v| v.open_files)
                .map(|n| n as f64)
                .collect(),
        ),
    ];
    let measure = |(name, unit, samples): (&str, &str, Vec<f64>)| {
        Some(Measure {
            name: name.to_owned(),
            unit: unit.to_owned(),
            summary: Summary::of(&samples)?,
        })
    };
    table.into_iter().filter_map(measure).collect()
}

/// Each heartbeat, and by how much it was later than one interval after the beat before; `None`
/// for the first, and for those that a change of state brought before they were due.
pub fn lateness(report: &RunReport) -> Vec<(&Heartbeat, Option<f64>)> {
    let interval_ms = report
        .worker
        .as_ref()
        .and_then(|worker| worker.heartbeat_interval_s)
        .map(|interval_s| interval_s as f64 * 1e3);
    let mut before: Option<&Heartbeat> = None;
    let mut late = Vec::new();
    for beat in &report.heartbeats {
        let same_state = before.is_some_and(|b| b.body.get("state") == beat.body.get("state"));
        let gap_ms = before.map(|b| beat.arrived_ms - b.arrived_ms);
        let late_ms = gap_ms
            .zip(interval_ms)
            .map(|(gap_ms, interval_ms)| gap_ms - interval_ms)
            .filter(|late_ms| same_state || *late_ms > 0.0)
            .map(|late_ms| late_ms.max(0.0));
        late.push((beat, late_ms));
        before = Some(beat);
    }
    late
}
