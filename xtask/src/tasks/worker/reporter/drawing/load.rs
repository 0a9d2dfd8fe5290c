//! The loads of a benchmark: throughput over streams, the spread of each measure, the last load's
//! requests one by one. Pure.

use std::fmt::Write;

use super::{Drawing, WIDTH, ecdf, linear_values, logarithmic_values};
use crate::tasks::worker::record::bench::{Load, LoadSpan};
use crate::tasks::worker::record::measure::{MEASURES, MeasureSpec};
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::record::stats::Distribution;
use crate::tasks::worker::reporter::words::{self, markup as text, number};

/// Margins and heights, in units of [`WIDTH`].
const LEFT: f64 = 150.0;
const RIGHT: f64 = 60.0;
const ROW: f64 = 22.0;
const CHART: f64 = 180.0;

/// More rows than these would make a drawing that nobody reads.
const STREAMS_DRAWN: usize = 32;

/// The drawings that have something to show.
pub fn draw(report: &RunReport) -> Vec<Drawing> {
    let spreads = MEASURES.iter().filter(|spec| spec.is_drawn);
    let mut drawings = Vec::new();
    drawings.extend(throughput(report));
    let curves = MEASURES.iter().filter(|spec| spec.has_curve);
    drawings.extend(curves.filter_map(|spec| ecdf::draw(report, spec)));
    drawings.extend(spreads.filter_map(|spec| spread(report, spec)));
    drawings.extend(waterfall(report));
    drawings
}

fn drawing(id: &str, caption: &str, height: f64, svg: String) -> Drawing {
    Drawing {
        id: id.to_owned(),
        caption: caption.to_owned(),
        height,
        svg,
        legend: &[],
    }
}

/// Tokens per second over the number of streams.
fn throughput(report: &RunReport) -> Option<Drawing> {
    let points: Vec<(u32, &ScenarioRecord)> = report
        .scenarios
        .iter()
        .filter(|record| record.plan.name.starts_with("sweep_"))
        .filter_map(|record| match record.plan.load {
            Load::Closed { streams } => Some((streams, record)),
            Load::Open { .. } | Load::Trace { .. } => None,
        })
        .collect();
    let highest = |(_, record): &(u32, &ScenarioRecord)| {
        let rate = record.output_tokens_per_s;
        record
            .output_interval
            .map_or(rate, |(_, high)| rate.max(high))
    };
    let most = points.iter().map(highest).fold(0.0, f64::max);
    if points.len() < 2 || most <= 0.0 {
        return None;
    }
    let step = (WIDTH - LEFT - RIGHT) / (points.len() - 1) as f64;
    let (top, bottom) = (24.0, 24.0 + CHART);
    let mut svg = format!(
        "<line class=\"rail\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\n<text class=\"lane\" x=\"0\" y=\"{top}\">tokens/s</text>\n",
        WIDTH - RIGHT
    );
    for value in linear_values(most, 4) {
        let y = bottom - value / most * CHART;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"scale\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 12.0,
            y + 4.0,
            number(value)
        );
    }
    let mut line = String::new();
    for (at, (streams, record)) in points.iter().enumerate() {
        let rate = record.output_tokens_per_s;
        let x = LEFT + step * at as f64;
        let y = bottom - rate / most * CHART;
        let _ = write!(line, "{x:.1},{y:.1} ");
        // The figure stands above whatever is drawn.
        let mut label = y - 9.0;
        if let Some((low, high)) = record.output_interval {
            let [low, high] = [low, high].map(|rate| bottom - rate / most * CHART);
            label = label.min(high - 5.0);
            let _ = writeln!(
                svg,
                "<line class=\"moment\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{high:.1}\" y2=\"{low:.1}\"/>"
            );
        }
        let _ = writeln!(
            svg,
            "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{streams} streams: {} tokens/s</title></circle><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{streams}</text>",
            number(rate),
            label,
            number(rate),
            bottom + 16.0
        );
    }
    let _ = writeln!(svg, "<polyline class=\"curve cpu\" points=\"{line}\"/>");
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">concurrent streams</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        bottom + 32.0
    );
    let caption = "Tokens per second by the number of concurrent streams, with 95 % intervals";
    Some(drawing("throughput", caption, bottom + 40.0, svg))
}

/// A measure of each load, from its smallest to its largest value.
fn spread(report: &RunReport, spec: &MeasureSpec) -> Option<Drawing> {
    let rows: Vec<(&str, &Distribution)> = report
        .scenarios
        .iter()
        .filter_map(|record| {
            let found = record.measure(spec.name)?;
            Some((record.plan.name.as_str(), &found.summary))
        })
        .filter(|(_, summary)| summary.n > 1 && summary.min > 0.0)
        .collect();
    let low = rows
        .iter()
        .map(|(_, summary)| summary.min)
        .fold(f64::MAX, f64::min);
    let high = rows
        .iter()
        .map(|(_, summary)| summary.max)
        .fold(0.0, f64::max);
    if rows.is_empty() || high <= low {
        return None;
    }
    // Latencies of one load and another are factors apart.
    let x = |value: f64| {
        let share = (value / low).ln() / (high / low).ln();
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let mut svg = String::new();
    let mut y = 6.0;
    for (name, summary) in rows {
        let middle = y + ROW / 2.0;
        let box_width = (x(summary.p90) - x(summary.min)).max(1.5);
        let tail = summary.p99.unwrap_or(summary.p95);
        let _ = writeln!(
            svg,
            "<g><title>{name}: {} to {} {unit}, median {}, p90 {}, p95 {}, n {}</title><text class=\"lane\" x=\"0\" y=\"{:.1}\">{name}</text><line class=\"rail\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/><rect class=\"spread\" x=\"{:.1}\" y=\"{:.1}\" width=\"{box_width:.1}\" height=\"{:.1}\" rx=\"2\"/><line class=\"moment\" x1=\"{median:.1}\" x2=\"{median:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><circle class=\"point\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"2.5\"/><text class=\"peak\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            number(summary.min),
            number(summary.max),
            number(summary.p50),
            number(summary.p90),
            number(summary.p95),
            summary.n,
            middle + 4.0,
            x(summary.min),
            x(summary.max),
            x(summary.min),
            y + 4.0,
            ROW - 8.0,
            y + 1.0,
            y + ROW - 1.0,
            x(tail),
            x(summary.max) + 6.0,
            middle + 4.0,
            number(summary.max),
            name = text(name),
            median = x(summary.p50),
            unit = spec.unit,
        );
        y += ROW;
    }
    let mut axis = String::new();
    for value in logarithmic_values(low, high) {
        let _ = writeln!(
            axis,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{} {}</text>",
            y + 12.0,
            number(value),
            spec.unit,
            x = x(value)
        );
    }
    let svg = axis + &svg;
    let caption = format!(
        "{}, on a logarithmic axis: line from min to max, box up to p90, mark at the median, dot at \
         p99 (p95 below 100 samples)",
        spec.title
    );
    Some(drawing(
        &format!("spread-{}", spec.name),
        &caption,
        y + 20.0,
        svg,
    ))
}

/// The requests of the last load, one row a stream.
fn waterfall(report: &RunReport) -> Option<Drawing> {
    let last = report.scenarios.last();
    let record = last.filter(|record| !record.spans.is_empty())?;
    let rows = lanes(record);
    let from_ms = record
        .spans
        .iter()
        .map(|span| span.sent_ms)
        .fold(f64::MAX, f64::min);
    let ends = record.spans.iter().map(|span| span.sent_ms + span.took_ms);
    let to_ms = ends.fold(from_ms + 1.0, f64::max);
    let x = |at_ms: f64| {
        let share = (at_ms - from_ms) / (to_ms - from_ms);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let mut svg = String::new();
    let height = rows.len() as f64 * ROW + 6.0;
    let (opens, closes) = (x(record.window.from_ms), x(record.window.to_ms));
    let _ = writeln!(
        svg,
        "<rect class=\"window\" x=\"{opens:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height:.1}\"><title>measurement window: {}</title></rect>",
        (closes - opens).max(0.0),
        words::duration(record.window.seconds() * 1e3)
    );
    for (row, spans) in rows.iter().enumerate() {
        let y = 4.0 + row as f64 * ROW;
        for span in spans {
            let ended = span.sent_ms + span.took_ms;
            let first = span
                .first_token_ms
                .map_or(ended, |after| span.sent_ms + after);
            let classes = if span.is_valid {
                ["queue", "prefill", "decode"]
            } else {
                ["bad", "bad", "bad"]
            };
            // As far as the worker says; what it calls its queue ends before the first token.
            let queue_ms = span.queue_ms.unwrap_or_default().max(0.0);
            let begun = (span.sent_ms + queue_ms).min(first);
            let queued = match span.queue_ms {
                Some(queue_ms) => format!(", {} of it in the queue", words::duration(queue_ms)),
                None => String::new(),
            };
            let title = format!(
                "{} tokens in {}, the first after {}{queued}",
                span.tokens,
                words::duration(span.took_ms),
                span.first_token_ms
                    .map_or(String::from("never"), words::duration)
            );
            for (class, from, to) in [
                (classes[0], span.sent_ms, begun),
                (classes[1], begun, first),
                (classes[2], first, ended),
            ] {
                if to <= from {
                    continue;
                }
                let width = (x(to) - x(from)).max(0.5);
                let _ = writeln!(
                    svg,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{title}</title></rect>",
                    x(from),
                    ROW - 6.0
                );
            }
        }
    }
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{LEFT}\" y=\"{at:.1}\">0</text><text class=\"tick\" x=\"{}\" y=\"{at:.1}\">{}</text>",
        WIDTH - RIGHT,
        words::duration(to_ms - from_ms),
        at = height + 14.0
    );
    let caption = format!(
        "The first {} requests of {}: in the queue, as far as the worker says, until the first token, \
         and until the end; warm-up and drain lie outside the shade",
        record.spans.len(),
        record.plan.name
    );
    Some(Drawing {
        legend: &[
            ("queue", "queue"),
            ("prefill", "prefill"),
            ("decode", "decode"),
            ("bad", "failed"),
        ],
        ..drawing("waterfall", &caption, height + 22.0, svg)
    })
}

/// Requests that follow each other share a row; an open loop's are laid beside each other.
fn lanes(record: &ScenarioRecord) -> Vec<Vec<&LoadSpan>> {
    let mut lanes: Vec<Vec<&LoadSpan>> = Vec::new();
    for span in &record.spans {
        let is_free = |lane: &Vec<&LoadSpan>| {
            let last = lane.last();
            last.is_none_or(|last| last.sent_ms + last.took_ms <= span.sent_ms)
        };
        match lanes.iter().position(is_free) {
            Some(free) => lanes[free].push(span),
            None if lanes.len() < STREAMS_DRAWN => lanes.push(vec![span]),
            None => {}
        }
    }
    lanes
}
