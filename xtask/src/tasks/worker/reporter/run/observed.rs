//! What was seen of a worker besides its checks: measures, streamed text, heartbeats, its log. Pure.

use crate::tasks::worker::record::measure;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::page::{Block, Section, Shown, Table};
use crate::tasks::worker::reporter::words::{self, NO_FIGURE, number};

/// More heartbeats than these are counted and not shown.
const HEARTBEATS_SHOWN: usize = 200;

/// How many of the slowest requests are shown.
const SLOWEST_SHOWN: usize = 5;

/// How much of a log is shown: a page has to open from a mail.
const LOG_BYTES: usize = 256 << 10;

/// Every measure of the run, with its unit and the number of its samples.
pub fn measures(report: &RunReport) -> Option<Section> {
    let mut table = Table::new(["measure", "unit", "n", "min", "median", "p95", "max"], 2);
    table.rows = report
        .measures()
        .into_iter()
        .map(|measure| {
            let summary = &measure.summary;
            let title = measure::spec(&measure.name).map(|spec| spec.title.to_owned());
            let figures = [summary.min, summary.p50, summary.p95, summary.max];
            [
                title.unwrap_or(measure.name),
                measure.unit,
                summary.n.to_string(),
            ]
            .into_iter()
            .chain(figures.map(number))
            .collect()
        })
        .collect();
    (!table.rows.is_empty()).then(|| Section {
        id: "measures",
        title: "Measures",
        aside: String::new(),
        shown: Shown::OnPages,
        blocks: vec![Block::Table(table)],
    })
}

/// The requests that took longest, which is where to look first when a run became slower.
pub fn slowest_requests(report: &RunReport) -> Option<Section> {
    let requests = report.timeline.requests.iter();
    let mut requests: Vec<_> = requests.filter_map(|r| Some((r.duration_ms?, r))).collect();
    requests.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let mut table = Table::new(["check", "request", "status", "sent at", "took"], 2);
    table.rows = requests
        .into_iter()
        .take(SLOWEST_SHOWN)
        .map(|(duration_ms, request)| {
            let status = request.status.map(|status| status.to_string());
            vec![
                request.id.clone(),
                words::shortened(&request.request),
                status.unwrap_or(NO_FIGURE.to_owned()),
                words::duration(request.sent_ms),
                words::duration(duration_ms),
            ]
        })
        .collect();
    (!table.rows.is_empty()).then(|| Section {
        id: "slowest",
        title: "Slowest requests",
        aside: String::new(),
        shown: Shown::OnPages,
        blocks: vec![Block::Table(table)],
    })
}

/// What was streamed, by the check that asked for it.
pub fn streams(report: &RunReport) -> Option<Section> {
    let texts = &report.timeline.texts;
    let quote = |(source, text): (&String, &String)| Block::Quote {
        text: text.clone(),
        source: source.clone(),
    };
    (!texts.is_empty()).then(|| Section {
        id: "streams",
        title: "Streamed text",
        aside: String::new(),
        shown: Shown::InHtml,
        blocks: texts.iter().map(quote).collect(),
    })
}

/// Each heartbeat, and how late it was.
pub fn heartbeats(report: &RunReport) -> Option<Section> {
    if report.heartbeats.is_empty() {
        return None;
    }
    let mut table = Table::new(["state", "#", "arrived", "late by", "answered"], 1);
    let beats = report.heartbeat_lateness();
    table.rows = beats
        .iter()
        .take(HEARTBEATS_SHOWN)
        .map(|(beat, late_ms)| {
            let state = beat.body.get("state").and_then(|state| state.as_str());
            vec![
                words::shortened(state.unwrap_or("unreadable")),
                beat.number.to_string(),
                words::duration(beat.arrived_ms),
                late_ms.map_or(NO_FIGURE.to_owned(), words::duration),
                beat.answered
                    .map_or(String::from("nothing"), |status| status.to_string()),
            ]
        })
        .collect();
    let count = beats.len() as u64 + report.heartbeats_left_out;
    let more = count - table.rows.len() as u64;
    let mut blocks = vec![Block::Table(table)];
    if more > 0 {
        blocks.push(Block::Remarks(vec![format!("and {more} more")]));
    }
    Some(Section {
        id: "heartbeats",
        title: "Heartbeats",
        aside: count.to_string(),
        shown: Shown::FoldedInHtml,
        blocks,
    })
}

/// The end of the worker's log.
pub fn log(report: &RunReport) -> Option<Section> {
    let evidence = Some(&report.worker_evidence).filter(|lines| !lines.is_empty());
    let lines = evidence.unwrap_or(&report.worker_log);
    // The end tells more than the beginning, so what doesn't fit goes from the top.
    let mut room = LOG_BYTES;
    let fits = |line: &&String| {
        let fits = room > line.len();
        room = room.saturating_sub(line.len() + 1);
        fits
    };
    let kept = lines.iter().rev().take_while(fits).count();
    (!lines.is_empty()).then(|| Section {
        id: "log",
        title: "Worker log",
        aside: format!("last {kept} lines"),
        shown: Shown::OnPages,
        blocks: vec![Block::Log(lines[lines.len() - kept..].to_vec())],
    })
}
