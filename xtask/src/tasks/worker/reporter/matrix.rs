//! The reports of a matrix of runs, and the words that they share. Pure.

use super::{html, junit, markdown, words};
use crate::tasks::worker::record::matrix::agreement::{AGREEMENT_FLOOR_PERCENT, Agreement};
use crate::tasks::worker::record::matrix::summary::{CheckPart, RunSummary, SummaryVerdict, Word};
use crate::tasks::worker::record::matrix::{Matrix, Row};
use crate::tasks::worker::record::output::ReportKind;

/// The reports that a matrix's folder holds.
pub const KINDS: [ReportKind; 4] = [
    ReportKind::Json,
    ReportKind::Junit,
    ReportKind::Markdown,
    ReportKind::Html,
];

/// The whole report; `None` for a kind that tells of one run only.
pub fn render(kind: ReportKind, matrix: &Matrix) -> Option<String> {
    match kind {
        ReportKind::Json => serde_json::to_string_pretty(matrix)
            .ok()
            .map(|json| json + "\n"),
        ReportKind::Junit => Some(junit::matrix::render(matrix)),
        ReportKind::Markdown => Some(markdown::matrix::render(matrix)),
        ReportKind::Html => Some(html::matrix::render(matrix)),
        ReportKind::Repro | ReportKind::GithubBenchmark | ReportKind::Bencher => None,
    }
}

/// The matrix as one line, for machines that read along.
pub fn line(matrix: &Matrix) -> String {
    serde_json::to_string(matrix).unwrap_or_default()
}

/// "PASSED".
pub(super) fn word(matrix: &Matrix) -> String {
    matrix.verdict.as_str().to_ascii_uppercase()
}

/// A sentence that says how many came to what.
pub(super) fn lead(matrix: &Matrix) -> String {
    let verdicts = [
        (SummaryVerdict::Passed, "passed"),
        (SummaryVerdict::Failed, "failed"),
        (SummaryVerdict::Invalid, "could not be judged"),
        (SummaryVerdict::Interrupted, "was interrupted"),
        (SummaryVerdict::Skipped, "skipped"),
    ];
    let parts = verdicts.iter().filter_map(|(verdict, told)| {
        let with = |(name, column): (&str, &RunSummary)| {
            (column.verdict == *verdict).then(|| name.to_owned())
        };
        let names: Vec<_> = matrix.named().filter_map(with).collect();
        (!names.is_empty()).then(|| format!("{}: {told}", names.join(", ")))
    });
    parts.collect::<Vec<_>>().join("; ") + "."
}

/// How a check ended in a column: nothing where it wasn't asked for.
pub(super) fn cell(row: &Row, index: usize, column: &RunSummary) -> &'static str {
    match row.outcomes[index] {
        Some(Word::NotRun) => "not run",
        Some(word) => word.as_str(),
        None if column.ran() => "",
        None => "skipped",
    }
}

/// Why a check is not green: what was promised and what came, or the reason.
pub(super) fn evidence(check: &CheckPart) -> Option<String> {
    match (&check.expected, &check.got, &check.reason) {
        (Some(expected), Some(got), _) => {
            let place = check.place.as_deref().unwrap_or_default();
            Some(format!("{place}: expected {expected}, got {got}"))
        }
        (_, _, reason) => reason.clone(),
    }
}

/// "96 of 96 positions (100 %), cuda against cpu", and the first at which they differ.
pub(super) fn agreement(matrix: &Matrix, found: &Agreement) -> String {
    let Agreement {
        positions, agreed, ..
    } = found;
    let mut told = format!(
        "{} goes on like {} at {agreed} of {positions} positions ({:.1} %)",
        matrix.names[found.column],
        matrix.names[found.teacher],
        found.percent()
    );
    if found.is_broken() {
        told += &format!(": less than {AGREEMENT_FLOOR_PERCENT} %, so they disagree");
    } else if !found.is_judged() {
        told += ": too few to judge by";
    }
    if let Some(difference) = &found.first_difference {
        let shown = |text: &Option<String>| match text {
            Some(text) => format!("`{text}`"),
            None => String::from("the end"),
        };
        told += &format!(
            "; first after `{}`: {} there, {} here",
            difference.after,
            shown(&difference.teacher),
            shown(&difference.got)
        );
    }
    told
}

/// What is known of a column besides its checks: name and value.
pub(super) fn facts(column: &RunSummary) -> Vec<(&'static str, String)> {
    let machine = column.environment.as_ref();
    let gpus = || {
        let gpus = machine.map(|machine| machine.gpus.iter()).into_iter();
        let names: Vec<_> = gpus.flatten().map(|gpu| gpu.name.as_str()).collect();
        names.join(", ")
    };
    let model = column.model.as_ref().map(|model| {
        let quantisation = model.quantisation.as_deref().unwrap_or_default();
        format!("{} {quantisation}", model.model_ref)
            .trim()
            .to_owned()
    });
    let facts = [
        ("machine", column.machine.clone()),
        ("system", machine.map(|machine| machine.os.clone())),
        ("processor", machine.and_then(|machine| machine.cpu.clone())),
        ("GPU", Some(gpus()).filter(|gpus| !gpus.is_empty())),
        ("model", model),
        ("started", column.started_at.clone()),
        (
            "whole run",
            column.duration_ms.map(|ms| words::duration(ms as f64)),
        ),
        ("exit code", column.exit_code.map(|code| code.to_string())),
        ("evidence", column.artifacts.clone()),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known.collect()
}
