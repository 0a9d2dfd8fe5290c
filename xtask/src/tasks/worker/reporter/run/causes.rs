//! Why a run is red: each cause with what a reader needs to understand it and to see it again. Pure.

use crate::tasks::worker::record::causes::{self, Cause};
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary, NO_SURVIVORS};
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::page::{Block, CauseSpan, CauseView, Section, Shown};
use crate::tasks::worker::reporter::words::shell_word;

/// Every cause, in the order in which they were seen.
pub fn views(report: &RunReport, checks: &[CheckSummary]) -> Vec<CauseView> {
    let causes = causes::causes(checks).into_iter();
    causes.map(|cause| view(report, &cause)).collect()
}

/// "1 cause, 27 consequences".
pub fn counted(checks: &[CheckSummary]) -> Option<String> {
    causes::counted(&causes::causes(checks))
}

/// They come first on a page, and last at a terminal.
pub fn section(report: &RunReport) -> Option<Section> {
    let aside = counted(&report.check_summaries())?;
    Some(Section {
        id: "causes",
        title: "Why it failed",
        aside,
        shown: Shown::Everywhere,
        blocks: vec![Block::Causes],
    })
}

/// What to do next about a run that isn't green.
pub fn next(report: &RunReport, views: &[CauseView], checks: &[CheckSummary]) -> Option<String> {
    let Some(first) = views.first() else {
        let mut checks = checks.iter();
        let unjudged = checks.find(|check| check.outcome == CheckStatus::Invalid)?;
        let again = command(report, &unjudged.id);
        return (!again.is_empty()).then(|| format!("try it again: {again}"));
    };
    let command = &first.command;
    let id = &first.check.id;
    match report.run.as_ref().filter(|_| command.is_empty()) {
        Some(run) => Some(format!("read {}/report.html about {id}", run.artifacts)),
        None => Some(format!("see it alone: {command}")),
    }
}

fn view(report: &RunReport, cause: &Cause<'_>) -> CauseView {
    let check = cause.check;
    let spans = report.timeline.checks.iter();
    let span = spans.rev().find(|span| span.id == check.id);
    let span = span.map(|span| CauseSpan {
        began_ms: span.began_ms as f64,
        ended_ms: span.ended_ms.unwrap_or(report.timeline.end_ms) as f64,
        run_ms: report.timeline.end_ms as f64,
    });
    let log = report.logs_of_checks.get(&check.id);
    CauseView {
        check: check.clone(),
        consequences: cause.consequences.iter().copied().cloned().collect(),
        span,
        log: log.cloned().unwrap_or_default(),
        command: command(report, &check.id),
    }
}

/// Runs just this check; empty where the recording doesn't tell how it was run.
fn command(report: &RunReport, id: &str) -> String {
    if report.arguments.is_empty() {
        return String::new();
    }
    let given = report.arguments.iter().map(String::as_str);
    let is_chosen = !id.starts_with("bench.") && !id.starts_with("stress.") && id != NO_SURVIVORS;
    let chosen: &[&str] = if is_chosen { &["--check", id] } else { &[] };
    let words = ["cargo", "xtask"].into_iter().chain(given);
    let words = words.chain(chosen.iter().copied());
    words.map(shell_word).collect::<Vec<_>>().join(" ")
}
