//! A matrix of runs as Markdown. Pure.

use std::fmt::Write;

use super::{cell, code, fenced, text};
use crate::tasks::worker::record::matrix::Matrix;
use crate::tasks::worker::record::matrix::summary::{RunSummary, SummaryVerdict, Word};
use crate::tasks::worker::reporter::{matrix as shared, words};

/// The whole page.
pub fn render(matrix: &Matrix) -> String {
    let mut page = String::new();
    head(&mut page, matrix);
    checks(&mut page, matrix);
    broken(&mut page, matrix);
    measures(&mut page, matrix);
    runs(&mut page, matrix);
    page
}

fn head(page: &mut String, matrix: &Matrix) {
    let _ = writeln!(
        page,
        "## {} Worker test, all columns: {}\n\n{}\n",
        verdict_symbol(matrix.verdict),
        shared::word(matrix),
        text(&shared::lead(matrix))
    );
    for trouble in &matrix.troubles {
        quoted(page, "Trouble", trouble);
    }
    for (name, column) in matrix.named() {
        if let Some(reason) = &column.reason {
            let verdict = column.verdict.as_str();
            quoted(page, &format!("{name} {verdict}"), reason);
        }
        for trouble in &column.troubles {
            quoted(page, name, trouble);
        }
        for survivor in &column.survivors {
            quoted(page, &format!("{name} left behind"), survivor);
        }
    }
    for found in &matrix.agreement {
        quoted(page, "Greedy text", &shared::agreement(matrix, found));
    }
}

fn quoted(page: &mut String, what: &str, told: &str) {
    let told = text(told).replace('\n', "\n> ");
    let _ = writeln!(page, "> **{}:** {told}\n", text(what));
}

fn checks(page: &mut String, matrix: &Matrix) {
    heading(page, "check", matrix, ":-:");
    let _ = write!(page, "| **verdict** |");
    for column in &matrix.columns {
        let symbol = verdict_symbol(column.verdict);
        let _ = write!(page, " {symbol} {} |", column.verdict.as_str());
    }
    page.push('\n');
    for row in &matrix.rows {
        let _ = write!(page, "| `{}` |", code(&row.id));
        for (index, column) in matrix.columns.iter().enumerate() {
            let told = match row.outcomes[index] {
                Some(Word::Passed) => "✅",
                Some(Word::Failed) => "❌ failed",
                Some(Word::Warning) => "⚠️ warning",
                Some(Word::Invalid) => "⚠️ invalid",
                Some(Word::Skipped) => "➖",
                Some(Word::NotRun) | None => shared::cell(row, index, column),
            };
            let _ = write!(page, " {told} |");
        }
        page.push('\n');
    }
    page.push('\n');
}

fn broken(page: &mut String, matrix: &Matrix) {
    for (name, column) in matrix.named() {
        for check in &column.checks {
            let symbol = match check.outcome {
                Word::Failed => "❌",
                Word::Warning | Word::Invalid => "⚠️",
                Word::Passed | Word::Skipped | Word::NotRun => continue,
            };
            let why = shared::evidence(check).unwrap_or_default();
            let _ = writeln!(
                page,
                "### {symbol} {}: `{}`\n\nThe worker {}.\n\n{}",
                text(name),
                code(&check.id),
                text(&check.promise),
                fenced(&why)
            );
        }
    }
}

fn measures(page: &mut String, matrix: &Matrix) {
    if matrix.measures.is_empty() {
        return;
    }
    page.push_str("<details><summary>Measures: medians, and how many samples</summary>\n\n");
    heading(page, "measure", matrix, "--:");
    for measure in &matrix.measures {
        let _ = write!(
            page,
            "| {} ({}) |",
            cell(&measure.name),
            cell(&measure.unit)
        );
        for figure in &measure.figures {
            let told = figure.map(|f| format!("{} (n {})", words::figure(f.p50), f.n));
            let _ = write!(page, " {} |", told.unwrap_or_default());
        }
        page.push('\n');
    }
    page.push_str("\n</details>\n\n");
}

fn runs(page: &mut String, matrix: &Matrix) {
    page.push_str("<details><summary>Runs</summary>\n\n| | | |\n|---|---|---|\n");
    for (name, column) in matrix.named() {
        for (fact, value) in shared::facts(column) {
            let _ = writeln!(page, "| {} | {fact} | {} |", cell(name), cell(&value));
        }
    }
    page.push_str("\n</details>\n");
}

fn heading(page: &mut String, first: &str, matrix: &Matrix, alignment: &str) {
    let names: Vec<_> = matrix.names.iter().map(|name| cell(name)).collect();
    let _ = writeln!(page, "| {first} | {} |", names.join(" | "));
    let aligned = |_: &RunSummary| format!("{alignment}|");
    let columns: String = matrix.columns.iter().map(aligned).collect();
    let _ = writeln!(page, "|---|{columns}");
}

fn verdict_symbol(verdict: SummaryVerdict) -> &'static str {
    match verdict {
        SummaryVerdict::Passed => "✅",
        SummaryVerdict::Failed => "❌",
        SummaryVerdict::Skipped => "➖",
        SummaryVerdict::Invalid | SummaryVerdict::Interrupted => "⚠️",
    }
}
