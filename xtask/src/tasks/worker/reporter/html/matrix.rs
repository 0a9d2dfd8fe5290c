//! A matrix of runs as one page, which needs no network and no script either. Pure.

use std::fmt::Write;

use super::{POLICY, STYLE, moment, shortened, text};
use crate::tasks::worker::record::matrix::summary::{CheckPart, RunSummary, SummaryVerdict, Word};
use crate::tasks::worker::record::matrix::{Matrix, Row};
use crate::tasks::worker::reporter::{matrix as shared, words};

/// What a matrix needs beside the style that it shares with a run's page.
const MATRIX_STYLE: &str = "\
.matrix th:not(:first-child), .matrix td:not(:first-child) { text-align: center; }
.matrix td:first-child { min-width: 180px; overflow-wrap: anywhere; }
.matrix .verdicts td { border-bottom: 2px solid var(--line); font-weight: 600; }
.matrix .badge { min-width: 64px; }
.badge.not { color: var(--invalid); background: var(--invalid-soft); }
.figures td:not(:first-child), .figures th:not(:first-child) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-left: 14px; }
";

/// The whole page.
pub fn render(matrix: &Matrix) -> String {
    let word = shared::word(matrix);
    let run_id = matrix.run.as_ref().map_or("", |run| run.run_id.as_str());
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{word}: worker test matrix {}</title>\n<style>\n{STYLE}{MATRIX_STYLE}</style>\n</head>\n<body>\n<main>\n",
        text(run_id)
    );
    verdict(&mut page, matrix);
    checks(&mut page, matrix);
    broken(&mut page, matrix);
    measures(&mut page, matrix);
    runs(&mut page, matrix);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn verdict(page: &mut String, matrix: &Matrix) {
    let class = match matrix.verdict {
        SummaryVerdict::Passed => "passed",
        SummaryVerdict::Failed => "failed",
        _ => "invalid",
    };
    let _ = write!(
        page,
        "<header class=\"verdict {class}\" id=\"verdict\">\n<p class=\"kicker\">Worker test, all columns</p>\n\
         <h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
        shared::word(matrix),
        text(&shared::lead(matrix))
    );
    let mut trouble = |told: String| {
        let _ = writeln!(page, "<p class=\"trouble\">{}</p>", text(&told));
    };
    for told in &matrix.troubles {
        trouble(told.clone());
    }
    for (name, column) in matrix.named() {
        if let Some(reason) = &column.reason {
            trouble(format!("{name} {}: {reason}", column.verdict.as_str()));
        }
        for told in &column.troubles {
            trouble(format!("{name}: {told}"));
        }
        for survivor in &column.survivors {
            trouble(format!("{name} left behind: {survivor}"));
        }
    }
    for found in &matrix.agreement {
        let told = shared::agreement(matrix, found);
        let class = if found.is_broken() {
            "trouble"
        } else {
            "muted"
        };
        let _ = writeln!(
            page,
            "<p class=\"{class}\">Greedy text: {}</p>",
            text(&told)
        );
    }
    page.push_str("</header>\n");
}

fn checks(page: &mut String, matrix: &Matrix) {
    page.push_str(
        "<section id=\"checks\">\n<h2>Checks</h2>\n<div class=\"scroll\"><table class=\"matrix\">\n",
    );
    heading(page, "Promise", matrix);
    page.push_str("<tr class=\"verdicts\"><td>Verdict</td>");
    for column in &matrix.columns {
        let _ = write!(page, "<td>{}</td>", badge(column.verdict.as_str()));
    }
    page.push_str("</tr>\n");
    for row in &matrix.rows {
        let _ = write!(
            page,
            "<tr class=\"check\"><td><code>{}</code><span class=\"promise\">The worker {}</span></td>",
            text(&row.id),
            text(&row.promise)
        );
        for (index, column) in matrix.columns.iter().enumerate() {
            let _ = write!(page, "<td>{}</td>", outcome(row, index, column));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n</section>\n");
}

/// A badge, with the evidence as what a pointer that rests on it is told.
fn outcome(row: &Row, index: usize, column: &RunSummary) -> String {
    let word = shared::cell(row, index, column);
    if word.is_empty() {
        return String::new();
    }
    let check = column.check(&row.id);
    let told = check.and_then(|check| shared::evidence(check).or_else(|| check.detail.clone()));
    match told {
        Some(told) => format!(
            "<span title=\"{}\">{}</span>",
            text(&shortened(&told)),
            badge(word)
        ),
        None => badge(word),
    }
}

fn badge(word: &str) -> String {
    let class = match word {
        "interrupted" => "invalid",
        other => other,
    };
    format!("<span class=\"badge {class}\">{word}</span>")
}

fn broken(page: &mut String, matrix: &Matrix) {
    let wanted =
        |check: &&CheckPart| matches!(check.outcome, Word::Failed | Word::Warning | Word::Invalid);
    let columns = matrix.columns.iter();
    if !columns
        .flat_map(|column| &column.checks)
        .any(|check| wanted(&check))
    {
        return;
    }
    page.push_str("<section id=\"broken\">\n<h2>What is not green</h2>\n");
    for (name, column) in matrix.named() {
        for check in column.checks.iter().filter(wanted) {
            let _ = writeln!(
                page,
                "<div class=\"evidence\"><p><strong>{}</strong> <code>{}</code> {}</p>\n<p>{}</p></div>",
                text(name),
                text(&check.id),
                badge(check.outcome.as_str()),
                text(&shared::evidence(check).unwrap_or_default())
            );
        }
    }
    page.push_str("</section>\n");
}

fn measures(page: &mut String, matrix: &Matrix) {
    if matrix.measures.is_empty() {
        return;
    }
    page.push_str(
        "<section id=\"measures\">\n<h2>Measures<span class=\"muted\">medians, and how many samples</span></h2>\n<div class=\"scroll\"><table class=\"figures\">\n",
    );
    heading(page, "Measure", matrix);
    for measure in &matrix.measures {
        let _ = write!(
            page,
            "<tr><td>{} ({})</td>",
            text(&measure.name.replace('_', " ")),
            text(&measure.unit)
        );
        for figure in &measure.figures {
            match figure {
                Some(figure) => {
                    let (median, n) = (words::figure(figure.p50), figure.n);
                    let _ = write!(
                        page,
                        "<td>{median} <span class=\"muted\">n&nbsp;{n}</span></td>"
                    );
                }
                None => page.push_str("<td></td>"),
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n</section>\n");
}

fn runs(page: &mut String, matrix: &Matrix) {
    page.push_str("<section id=\"runs\">\n<h2>Runs</h2>\n");
    for (name, column) in matrix.named() {
        let _ = writeln!(page, "<h3>{}</h3>\n<dl class=\"facts\">", text(name));
        for (fact, value) in shared::facts(column) {
            let value = match fact {
                "started" => moment(&value),
                _ => value,
            };
            let _ = writeln!(page, "<div><dt>{fact}</dt><dd>{}</dd></div>", text(&value));
        }
        page.push_str("</dl>\n");
    }
    page.push_str("</section>\n");
}

fn heading(page: &mut String, first: &str, matrix: &Matrix) {
    let _ = write!(page, "<thead><tr><th>{first}</th>");
    for name in &matrix.names {
        let _ = write!(page, "<th>{}</th>", text(name));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
}
