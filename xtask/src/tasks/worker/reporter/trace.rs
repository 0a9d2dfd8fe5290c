//! `trace.json`: a run in the Trace Event Format, which Perfetto (ui.perfetto.dev) and Chrome
//! (chrome://tracing) open: worker, checks, requests with their phases, heartbeats, processor and memory on
//! one clock. Pure.
//!
//! The format: "Trace Event Format", Google, the JSON object form. Times are microseconds since the run's
//! begin.

use serde_json::{Value, json};

use super::document::pretty;
use super::words::harmless;
use crate::tasks::worker::record::facts::Phases;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::timeline::RequestSpan;

/// The one process of the trace: everything is on the run's own clock.
const PROCESS: u32 = 1;

/// What has a row of its own, in the order in which the rows are shown.
#[derive(Debug, Clone, Copy)]
enum Track {
    Worker = 1,
    Checks = 2,
    Heartbeats = 3,
    Requests = 4,
}

const TRACKS: [(Track, &str); 4] = [
    (Track::Worker, "worker"),
    (Track::Checks, "checks"),
    (Track::Heartbeats, "heartbeats"),
    (Track::Requests, "requests"),
];

/// The whole file.
pub fn render(report: &RunReport) -> String {
    let mut events = names(report);
    worker(&mut events, report);
    checks(&mut events, report);
    for request in &report.timeline.requests {
        self::request(&mut events, request, report.timeline.end_ms as f64);
    }
    heartbeats(&mut events, report);
    usage(&mut events, report);
    pretty(&json!({
        "displayTimeUnit": "ms",
        "otherData": {
            "run_id": report.run.as_ref().map(|run| harmless(&run.run_id)),
            "started_at": report.run.as_ref().map(|run| harmless(&run.started_at)),
            "verdict": report.verdict().as_str(),
            "requests_left_out": report.timeline.requests_left_out,
        },
        "traceEvents": events,
    }))
}

/// Microseconds, which is what the format has; nothing before the run's begin.
fn us(ms: f64) -> f64 {
    (ms.max(0.0) * 1e3).round()
}

fn names(report: &RunReport) -> Vec<Value> {
    let process = report.purpose().heading();
    let mut events = vec![json!({
        "ph": "M", "pid": PROCESS, "tid": 0, "ts": 0, "name": "process_name",
        "args": {"name": process},
    })];
    for (track, name) in TRACKS {
        let tid = track as u32;
        events.push(json!({
            "ph": "M", "pid": PROCESS, "tid": tid, "ts": 0, "name": "thread_name", "args": {"name": name},
        }));
        events.push(json!({
            "ph": "M", "pid": PROCESS, "tid": tid, "ts": 0, "name": "thread_sort_index",
            "args": {"sort_index": tid},
        }));
    }
    events
}

/// A span on a row.
fn slice(track: Track, name: &str, (from_ms, to_ms): (f64, f64), args: &Value) -> Value {
    json!({
        "ph": "X", "pid": PROCESS, "tid": track as u32, "cat": "run", "name": harmless(name),
        "ts": us(from_ms), "dur": us(to_ms - from_ms), "args": args,
    })
}

fn worker(events: &mut Vec<Value>, report: &RunReport) {
    let timeline = &report.timeline;
    if let Some((from, to)) = timeline.build {
        let span = (from as f64, to as f64);
        events.push(slice(Track::Worker, "build", span, &json!({})));
    }
    let Some(started) = timeline.worker_started_ms else {
        return;
    };
    let ended = timeline.worker_exited_ms.unwrap_or(timeline.end_ms) as f64;
    let ready = timeline.worker_ready_ms.map(|ms| ms as f64);
    let span = (started as f64, ready.unwrap_or(ended));
    events.push(slice(Track::Worker, "loading", span, &json!({})));
    if let Some(ready) = ready {
        let exit = report.worker_exit.as_deref().map(harmless);
        let args = json!({"exit": exit});
        events.push(slice(Track::Worker, "ready", (ready, ended), &args));
    }
}

fn checks(events: &mut Vec<Value>, report: &RunReport) {
    let summaries = report.check_summaries();
    for span in &report.timeline.checks {
        let check = summaries.iter().find(|check| check.id == span.id);
        let args = json!({
            "outcome": check.map(|check| check.outcome.as_str()),
            "evidence": check.and_then(|check| check.evidence()).map(|text| harmless(&text)),
        });
        let ended = span.ended_ms.unwrap_or(report.timeline.end_ms);
        let span_ms = (span.began_ms as f64, ended as f64);
        events.push(slice(Track::Checks, &span.id, span_ms, &args));
    }
}

/// Requests overlap, so each is an asynchronous span of its own, its phases inside of it.
fn request(events: &mut Vec<Value>, request: &RequestSpan, end_ms: f64) {
    let from_ms = request.sent_ms;
    let to_ms = from_ms + request.duration_ms.unwrap_or((end_ms - from_ms).max(0.0));
    let mut nested = |ph: &str, name: &str, at_ms: f64, args: Value| {
        events.push(json!({
            "ph": ph, "pid": PROCESS, "tid": Track::Requests as u32, "cat": "request",
            "id": format!("{:#x}", request.number), "name": harmless(name), "ts": us(at_ms), "args": args,
        }));
    };
    let args = json!({
        "check": harmless(&request.id),
        "worker": request.auxiliary.as_deref().map(harmless),
        "status": request.status,
        "cause": request.cause.as_deref().map(harmless),
        "tokens": request.tokens,
    });
    nested("b", &request.request, from_ms, args);
    for (name, from, to) in phases(request.phases, from_ms, to_ms) {
        nested("b", name, from, json!({}));
        nested("e", name, to, json!({}));
    }
    nested("e", &request.request, to_ms, json!({}));
}

/// The phases as the worker tells them, inside of the time that its answer took.
fn phases(
    phases: Option<Phases>,
    from_ms: f64,
    to_ms: f64,
) -> impl Iterator<Item = (&'static str, f64, f64)> {
    let told = phases.map_or([0.0; 3], |phases| {
        [phases.queue_ms, phases.prefill_ms, phases.decode_ms]
    });
    let mut at_ms = from_ms;
    let spans = ["queue", "prefill", "decode"].into_iter().zip(told);
    spans.filter_map(move |(name, took_ms)| {
        let from = at_ms;
        at_ms = (at_ms + took_ms.max(0.0)).min(to_ms);
        (phases.is_some() && at_ms > from).then_some((name, from, at_ms))
    })
}

fn heartbeats(events: &mut Vec<Value>, report: &RunReport) {
    for beat in &report.heartbeats {
        let state = beat.body.get("state").and_then(Value::as_str);
        events.push(json!({
            "ph": "i", "s": "t", "pid": PROCESS, "tid": Track::Heartbeats as u32, "cat": "heartbeat",
            "name": harmless(state.unwrap_or("unreadable")), "ts": us(beat.arrived_ms),
            "args": {"number": beat.number, "answered": beat.answered},
        }));
    }
}

fn usage(events: &mut Vec<Value>, report: &RunReport) {
    for sample in &report.timeline.samples {
        let figures = [
            ("CPU", "percent of a core", sample.vitals.cpu_percent),
            ("memory", "MB", sample.vitals.rss_bytes as f64 / 1e6),
        ];
        for (name, unit, figure) in figures.into_iter().filter(|(.., f)| f.is_finite()) {
            events.push(json!({
                "ph": "C", "pid": PROCESS, "tid": 0, "name": name, "ts": us(sample.at_ms as f64),
                "args": {unit: figure},
            }));
        }
    }
}

#[cfg(test)]
mod tests;
