//! The timeline: everything that happened on one axis, as inline SVG. Pure.

use std::fmt::Write;

use super::{Drawing, WIDTH, round_step};
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::timeline::{RequestSpan, Sample};
use crate::tasks::worker::reporter::words::{self, markup as text};

/// Margins and heights, in units of [`WIDTH`].
const LEFT: f64 = 92.0;
const RIGHT: f64 = 14.0;
const BAR: f64 = 16.0;
const GAP: f64 = 14.0;
const CHART: f64 = 56.0;

/// Requests at the same time are drawn beside each other in so many rows.
const ROWS: usize = 6;

/// Marks that are closer than this can't be told apart: one of them is drawn.
const APART: f64 = 1.5;

/// More lines than these are no axis.
const STEPS: u32 = 20;

/// A beat that is later than this shows as late.
const LATE_MS: f64 = 100.0;

/// A drawing that grows downwards.
struct Canvas {
    svg: String,
    y: f64,
    from_ms: f64,
    to_ms: f64,
}

/// What the colours stand for.
const LEGEND: &[(&str, &str)] = &[
    ("loading", "loading"),
    ("ready", "ready"),
    ("queue", "queue"),
    ("prefill", "prefill"),
    ("decode", "decode"),
    ("other", "other request"),
    ("bad", "no answer"),
    ("beat", "heartbeat"),
    ("beat late", "late heartbeat"),
];

/// The whole run on one axis; `None` where no worker was started.
pub fn draw(report: &RunReport) -> Option<Drawing> {
    let timeline = &report.timeline;
    let started_ms = timeline.worker_started_ms?;
    let from_ms = timeline
        .hive_started_ms
        .unwrap_or(started_ms)
        .min(started_ms) as f64;
    // A build before the hive's start would press everything else together.
    let from_ms = match timeline.build {
        Some((_, built_ms)) => from_ms.max(built_ms as f64),
        None => from_ms,
    };
    let mut canvas = Canvas {
        svg: String::new(),
        y: 8.0,
        from_ms,
        to_ms: (timeline.end_ms as f64).max(from_ms + 1.0),
    };
    canvas.life(report);
    canvas.checks(report);
    canvas.requests(report);
    canvas.heartbeats(report);
    let samples = &timeline.samples;
    let cpu = |sample: &Sample| sample.vitals.cpu_percent;
    let rss = |sample: &Sample| sample.vitals.rss_bytes as f64 / 1e6;
    canvas.chart("CPU", "cpu", samples, cpu, |value| format!("{value:.0} %"));
    canvas.chart("RSS", "rss", samples, rss, |value| format!("{value:.0} MB"));
    let left_out = match timeline.requests_left_out {
        0 => String::new(),
        left_out => format!("; {left_out} more requests are not drawn"),
    };
    Some(Drawing {
        id: String::from("run"),
        caption: format!(
            "What the worker, the hive and the harness did, on one time axis{left_out}"
        ),
        height: canvas.y + 22.0,
        svg: canvas.axis() + &canvas.svg,
        legend: LEGEND,
    })
}

impl Canvas {
    fn x(&self, at_ms: f64) -> f64 {
        let share = (at_ms - self.from_ms) / (self.to_ms - self.from_ms).max(1.0);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn label(&mut self, name: &str, height: f64) {
        let y = self.y + height / 2.0 + 4.0;
        let _ = writeln!(
            self.svg,
            "<text class=\"lane\" x=\"0\" y=\"{y:.1}\">{name}</text>"
        );
    }

    fn bar(&mut self, class: &str, span_ms: (f64, f64), y: f64, height: f64, title: &str) {
        let x = self.x(span_ms.0);
        let width = (self.x(span_ms.1) - x).max(1.5);
        let _ = writeln!(
            self.svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"><title>{}</title></rect>",
            text(title)
        );
    }

    /// The worker's process: loading, ready, gone.
    fn life(&mut self, report: &RunReport) {
        let timeline = &report.timeline;
        self.label("worker", BAR);
        let y = self.y;
        let started = timeline.worker_started_ms.unwrap_or_default() as f64;
        let ended = timeline.worker_exited_ms.map_or(self.to_ms, |ms| ms as f64);
        let ready = timeline.worker_ready_ms.map_or(ended, |ms| ms as f64);
        let loading = format!(
            "process started, loading for {}",
            words::duration(ready - started)
        );
        self.bar("loading", (started, ready), y, BAR, &loading);
        if timeline.worker_ready_ms.is_some() {
            let exit = report.worker_exit.as_deref().unwrap_or("still running");
            let title = format!("ready for {}; {exit}", words::duration(ended - ready));
            self.bar("ready", (ready, ended), y, BAR, &title);
            let x = self.x(ready);
            let to = y + BAR + 3.0;
            let _ = writeln!(
                self.svg,
                "<line class=\"moment\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{to:.1}\"/>",
                y - 3.0
            );
        }
        self.y += BAR + GAP;
    }

    fn checks(&mut self, report: &RunReport) {
        self.label("checks", BAR);
        let y = self.y;
        for span in &report.timeline.checks {
            let (began, ended) = (span.began_ms as f64, span.ended_ms.map(|ms| ms as f64));
            let record = report.checks.iter().find(|check| check.id == span.id);
            let outcome =
                record.map_or("skipped", |check| report.summary_of(check).outcome.as_str());
            let ended = ended.unwrap_or(self.to_ms);
            let title = format!("{} {outcome}, {}", span.id, words::duration(ended - began));
            let class = format!("check {outcome}");
            self.bar(&class, (began, ended), y, BAR, &title);
        }
        self.y += BAR + GAP;
    }

    /// Each request in the first row that is free when it is sent.
    fn requests(&mut self, report: &RunReport) {
        let mut free_ms = Vec::<f64>::new();
        let top = self.y;
        self.label("requests", BAR);
        let mut drawn = [f64::MIN; ROWS];
        for request in &report.timeline.requests {
            let ended =
                request.sent_ms + request.duration_ms.unwrap_or(self.to_ms - request.sent_ms);
            let row = free_ms.iter().position(|free| *free <= request.sent_ms);
            let row = row.unwrap_or_else(|| {
                if free_ms.len() < ROWS {
                    free_ms.push(0.0);
                }
                free_ms.len() - 1
            });
            free_ms[row] = ended;
            let (from, to) = (self.x(request.sent_ms), self.x(ended));
            if to < drawn[row] + APART {
                continue;
            }
            drawn[row] = to.max(from + APART);
            let y = top + row as f64 * (BAR + 3.0);
            self.request(request, ended, y);
        }
        self.y = top + free_ms.len().max(1) as f64 * (BAR + 3.0) - 3.0 + GAP;
    }

    fn request(&mut self, request: &RequestSpan, ended_ms: f64, y: f64) {
        let took = words::duration(ended_ms - request.sent_ms);
        let came = request
            .status
            .map(|status| status.to_string())
            .or_else(|| request.cause.clone())
            .unwrap_or_else(|| String::from("no answer"));
        let whom = request.auxiliary.as_ref();
        let whom = whom.map_or(String::new(), |name| format!(" to another worker, {name},"));
        let name = format!(
            "{}{whom} for {}: {came}, {took}",
            request.request, request.id
        );
        let class = match (request.status, request.left) {
            (Some(_), _) => "other",
            (None, true) => "other left",
            (None, false) => "other bad",
        };
        self.bar(class, (request.sent_ms, ended_ms), y, BAR, &name);
        let Some(phases) = request.phases else {
            return;
        };
        let mut at_ms = request.sent_ms;
        for (phase, duration_ms) in [
            ("queue", phases.queue_ms),
            ("prefill", phases.prefill_ms),
            ("decode", phases.decode_ms),
        ] {
            // A worker may say what it likes; nothing is drawn beyond its own answer.
            let until_ms = (at_ms + duration_ms.clamp(0.0, f64::MAX)).min(ended_ms);
            if until_ms > at_ms {
                let title = format!("{name}; {phase} {}", words::duration(duration_ms));
                self.bar(phase, (at_ms, until_ms), y, BAR, &title);
            }
            at_ms = until_ms;
        }
    }

    /// A dot for each beat, and a tail from when it was due to when it came.
    fn heartbeats(&mut self, report: &RunReport) {
        self.label("heartbeats", BAR);
        let y = self.y + BAR / 2.0;
        let (from, to) = (LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            self.svg,
            "<line class=\"rail\" x1=\"{from}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        let mut drawn = f64::MIN;
        for (beat, late_ms) in report.heartbeat_lateness() {
            let x = self.x(beat.arrived_ms);
            let late_ms = late_ms.unwrap_or_default();
            if late_ms <= LATE_MS && x < drawn + APART {
                continue;
            }
            drawn = x;
            let class = if late_ms > LATE_MS {
                "beat late"
            } else {
                "beat"
            };
            let due = self.x(beat.arrived_ms - late_ms);
            if x - due > 0.5 {
                let _ = writeln!(
                    self.svg,
                    "<line class=\"tail {class}\" x1=\"{due:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                );
            }
            let state = beat.body.get("state").and_then(|state| state.as_str());
            let title = format!(
                "heartbeat #{} {} at {}, {} late",
                beat.number,
                state.unwrap_or("unreadable"),
                words::duration(beat.arrived_ms),
                words::duration(late_ms)
            );
            let _ = writeln!(
                self.svg,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}</title></circle>",
                text(&title)
            );
        }
        self.y += BAR + GAP;
    }

    /// A filled line over the samples, with its highest value beside it.
    fn chart(
        &mut self,
        name: &str,
        class: &str,
        samples: &[Sample],
        value: impl Fn(&Sample) -> f64,
        shown: impl Fn(f64) -> String,
    ) {
        let Some(highest) = samples.iter().map(&value).reduce(f64::max) else {
            return;
        };
        let (top, bottom) = (self.y, self.y + CHART);
        let scale = if highest > 0.0 { CHART / highest } else { 0.0 };
        let mut points = String::new();
        for sample in samples {
            let x = self.x(sample.at_ms as f64);
            let _ = write!(points, "{x:.1},{:.1} ", bottom - value(sample) * scale);
        }
        let first = self.x(samples.first().map_or(0.0, |sample| sample.at_ms as f64));
        let last = self.x(samples.last().map_or(0.0, |sample| sample.at_ms as f64));
        let peak = shown(highest);
        let _ = writeln!(
            self.svg,
            "<text class=\"lane\" x=\"0\" y=\"{:.1}\">{name}</text><text class=\"peak\" x=\"0\" y=\"{:.1}\">{peak} max</text>\n<line class=\"rail\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\"/>\n<polygon class=\"area {class}\" points=\"{first:.1},{bottom:.1} {points}{last:.1},{bottom:.1}\"><title>{name}, max {peak}, {} samples</title></polygon>\n<polyline class=\"curve {class}\" points=\"{points}\"/>",
            top + 14.0,
            top + 30.0,
            WIDTH - RIGHT,
            samples.len()
        );
        self.y = bottom + GAP;
    }

    /// Vertical lines at round times, from the run's begin.
    fn axis(&self) -> String {
        let mut svg = String::new();
        let step_ms = round_step(((self.to_ms - self.from_ms) / 8.0).max(100.0));
        let first_ms = (self.from_ms / step_ms).ceil() * step_ms;
        // Counted: where times are huge, a step may change nothing.
        let steps = (0..STEPS).map(|step| first_ms + f64::from(step) * step_ms);
        for at_ms in steps.take_while(|at_ms| *at_ms <= self.to_ms) {
            let x = self.x(at_ms);
            let bottom = self.y;
            let seconds = at_ms / 1e3;
            let digits = usize::from(step_ms < 1000.0);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{seconds:.digits$} s</text>",
                bottom + 14.0
            );
        }
        svg
    }
}
