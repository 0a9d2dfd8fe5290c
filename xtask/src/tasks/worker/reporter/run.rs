//! The page of one run: its verdict, what went wrong, and its sections in their order. Pure.
//!
//! To add a section, write a function and add it to [`SECTIONS`]: every format renders it.

mod causes;
mod client;
mod context;
mod load;
mod observed;
mod stress;

use std::collections::HashMap;

pub use self::client::calibration;
pub use self::load::comparison_rows;
use super::page::{Alert, AlertKind, Block, CheckRow, Column, ReportPage, Section, Shown, Tone};
use super::{drawing, words};
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary};
use crate::tasks::worker::record::report::{RunReport, Verdict};
use crate::tasks::worker::record::timeline::RequestSpan;

/// The sections, in their order. One that has nothing to say isn't there.
const SECTIONS: &[fn(&RunReport) -> Option<Section>] = &[
    causes::section,
    load::figures,
    load::starts,
    client::section,
    load::comparison,
    stress::section,
    timeline,
    checks_section,
    observed::measures,
    observed::slowest_requests,
    observed::streams,
    observed::heartbeats,
    observed::log,
    context::section,
];

/// More requests of one check than these are counted and not shown.
const REQUESTS_SHOWN: usize = 20;

/// The whole page.
pub fn page(report: &RunReport) -> ReportPage {
    let checks = report.check_summaries();
    let (verdict, tone, lead) = verdict(report, &checks);
    let run = report.run.as_ref();
    let causes = causes::views(report, &checks);
    ReportPage {
        heading: report.purpose().heading().to_owned(),
        verdict: verdict.to_owned(),
        tone,
        lead,
        last_line: last_line(report, &checks),
        next: causes::next(report, &causes, &checks),
        run_id: run.map_or(String::new(), |run| run.run_id.clone()),
        started_at: run.map(|run| run.started_at.clone()),
        duration_ms: report.duration_ms,
        artifacts: run.map(|run| run.artifacts.clone()),
        alerts: alerts(report, &checks),
        facts: context::facts(report),
        columns: vec![Column {
            name: None,
            verdict,
            tone,
            is_skipped: false,
            properties: context::properties(report),
            log: report.worker_log.clone(),
        }],
        causes,
        checks: rows(checks, report),
        sections: SECTIONS
            .iter()
            .filter_map(|section| section(report))
            .collect(),
        footer: run.map(|run| {
            format!(
                "Run {} · schema {} · files in {}",
                run.run_id, run.schema_version, run.artifacts
            )
        }),
    }
}

fn count(checks: &[CheckSummary], status: CheckStatus) -> usize {
    checks
        .iter()
        .filter(|check| check.outcome == status)
        .count()
}

/// "PASSED", how that looks, and a sentence that says why.
fn verdict(report: &RunReport, checks: &[CheckSummary]) -> (&'static str, Tone, String) {
    let all = report.checks.len();
    match report.verdict() {
        Verdict::Passed => {
            let passed = count(checks, CheckStatus::Passed);
            let others = match all - passed {
                0 => String::new(),
                others => format!(" ({others} skipped or with a warning)"),
            };
            let lead = format!("The worker kept {passed} of {all} promises{others}.");
            ("PASSED", Tone::Good, lead)
        }
        Verdict::Failed => {
            let failed = count(checks, CheckStatus::Failed);
            let causes = causes::counted(checks).map(|causes| format!(": {causes}"));
            let causes = causes.unwrap_or_default();
            let lead = format!("The worker broke {failed} of {all} promises{causes}.");
            ("FAILED", Tone::Bad, lead)
        }
        Verdict::Invalid => {
            let mut checks = checks.iter();
            let first = checks.find(|check| check.outcome == CheckStatus::Invalid);
            let why = first.and_then(|check| Some((check, check.reason.as_ref()?.lines().next()?)));
            let why = why.map(|(check, reason)| format!(", in {}: {reason}", check.id));
            let lead = format!("The worker could not be judged{}.", why.unwrap_or_default());
            ("INVALID", Tone::Unclear, lead)
        }
        Verdict::Interrupted(signal) => {
            let lead = format!("The run was ended early by {}.", words::signal_name(signal));
            ("INTERRUPTED", Tone::Unclear, lead)
        }
    }
}

fn last_line(report: &RunReport, checks: &[CheckSummary]) -> String {
    let purpose = report.purpose().as_str();
    match report.verdict() {
        Verdict::Passed => {
            let warnings = match count(checks, CheckStatus::Warning) {
                0 => String::new(),
                1 => String::from(" (1 warning)"),
                many => format!(" ({many} warnings)"),
            };
            format!("✅ {purpose} complete - ALL TESTS PASSED!{warnings}")
        }
        Verdict::Failed => {
            let (failed, all) = (count(checks, CheckStatus::Failed), report.checks.len());
            let causes = causes::counted(checks).map(|causes| format!(" ({causes})"));
            let causes = causes.unwrap_or_default();
            format!("❌ {purpose} complete - {failed} of {all} CHECKS FAILED{causes}")
        }
        Verdict::Invalid => format!("⚠️ {purpose} could not judge the worker"),
        Verdict::Interrupted(signal) => {
            format!("⚠️ {purpose} interrupted by {}", words::signal_name(signal))
        }
    }
}

fn alerts(report: &RunReport, checks: &[CheckSummary]) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |kind, text: &str| {
        alerts.push(Alert {
            kind,
            column: None,
            text: text.to_owned(),
        });
    };
    for trouble in &report.troubles {
        add(AlertKind::Trouble, trouble);
    }
    for survivor in &report.survivors {
        add(AlertKind::LeftBehind, survivor);
    }
    if let Some(signal) = report.interrupted_by {
        add(
            AlertKind::Interrupted,
            &format!("by {}", words::signal_name(signal)),
        );
    }
    if checks.is_empty() && report.troubles.is_empty() && report.interrupted_by.is_none() {
        add(AlertKind::NoReport, "no check ran");
    }
    for note in &report.notes {
        add(AlertKind::Note, note);
    }
    alerts
}

/// A row for each check. The requests of a check that ran twice stand in the first of its rows.
fn rows(checks: Vec<CheckSummary>, report: &RunReport) -> Vec<CheckRow> {
    let mut requests: HashMap<&str, Vec<&RequestSpan>> = HashMap::new();
    for request in &report.timeline.requests {
        requests.entry(&request.id).or_default().push(request);
    }
    let row = |check: CheckSummary| {
        let of_check = requests.remove(check.id.as_str()).unwrap_or_default();
        let shown = of_check.len().min(REQUESTS_SHOWN);
        CheckRow {
            id: check.id.clone(),
            promise: check.promise.clone(),
            cells: vec![Some(check)],
            requests: of_check[..shown]
                .iter()
                .map(|&request| request.clone())
                .collect(),
            requests_left_out: of_check.len() - shown,
        }
    };
    checks.into_iter().map(row).collect()
}

fn checks_section(report: &RunReport) -> Option<Section> {
    let has_any = !report.checks.is_empty() || !report.planned.is_empty();
    has_any.then(|| Section {
        id: "checks",
        title: "Test Summary",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks: vec![Block::Checks],
    })
}

fn timeline(report: &RunReport) -> Option<Section> {
    Some(Section {
        id: "timeline",
        title: "Timeline",
        aside: String::new(),
        shown: Shown::InHtml,
        blocks: vec![Block::Drawing(drawing::timeline::draw(report)?)],
    })
}
