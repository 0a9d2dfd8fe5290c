//! A matrix for people: a column a backend, rows that are all green folded by area. Pure, but for
//! asking what standard output can show.

use std::io::{self, Write};

use super::style::Style;
use super::summary::area_of;
use crate::tasks::worker::record::matrix::summary::{RunSummary, SummaryVerdict};
use crate::tasks::worker::record::matrix::{Matrix, Row};
use crate::tasks::worker::reporter::{matrix as shared, words};

/// Prints to standard output, as plainly as it asks for.
pub fn print(lines: &[String]) -> io::Result<()> {
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", style.show(&words::harmless(line)))?;
    }
    out.flush()
}

/// What introduces the test of one backend.
pub fn heading(backend: &str) -> Vec<String> {
    vec![format!("\n🚀 Backend {backend}\n")]
}

/// What is said of a backend that isn't tested.
pub fn skipped(backend: &str, reason: &str) -> Vec<String> {
    vec![format!("\n➖ Backend {backend} skipped: {reason}")]
}

/// The whole matrix.
pub fn lines(matrix: &Matrix) -> Vec<String> {
    let mut lines = vec![
        String::from("\n📊 Backend Matrix"),
        String::from("=================================="),
    ];
    let mut table = vec![heading_row(matrix)];
    table.extend(check_rows(matrix));
    lines.extend(aligned(&table));
    let figures = measure_rows(matrix);
    if !figures.is_empty() {
        lines.push(String::from("\n   Medians"));
        lines.extend(aligned(&figures));
    }
    lines.push(String::new());
    lines.extend(
        matrix
            .named()
            .flat_map(|(name, column)| troubles(name, column)),
    );
    let agreement = matrix.agreement.iter();
    lines.extend(agreement.map(|found| {
        let symbol = if found.is_broken() { "❌" } else { "✓" };
        format!("{symbol} greedy text: {}", shared::agreement(matrix, found))
    }));
    let errors = matrix.troubles.iter();
    lines.extend(errors.map(|trouble| format!("error: {trouble}")));
    if let Some(run) = &matrix.run {
        lines.push(format!("   Evidence: {}", run.artifacts));
    }
    lines.push(last_line(matrix));
    lines
}

fn heading_row(matrix: &Matrix) -> Vec<String> {
    let names = matrix.names.iter().cloned();
    [String::new()].into_iter().chain(names).collect()
}

/// One line a check that isn't green everywhere, and one for the rest of each area.
fn check_rows(matrix: &Matrix) -> Vec<Vec<String>> {
    let cells = |row: &Row| -> Vec<String> {
        let columns = matrix.columns.iter().enumerate();
        let cell = |(index, column): (usize, &RunSummary)| match shared::cell(row, index, column) {
            "" => String::from("-"),
            "failed" => String::from("FAILED"),
            word => word.to_owned(),
        };
        columns.map(cell).collect()
    };
    let mut table = Vec::new();
    let mut areas: Vec<&str> = Vec::new();
    for area in matrix.rows.iter().map(|row| area_of(&row.id)) {
        if areas.contains(&area) {
            continue;
        }
        areas.push(area);
        let of_area = || matrix.rows.iter().filter(|row| area_of(&row.id) == area);
        let (green, others): (Vec<_>, Vec<_>) = of_area().partition(|row| row.all_passed);
        if let Some(first) = green.first() {
            let name = match green.len() {
                1 => first.id.clone(),
                count => format!("{area}.* ({count} checks)"),
            };
            table.push([vec![name], cells(first)].concat());
        }
        for row in others {
            table.push([vec![row.id.clone()], cells(row)].concat());
        }
    }
    table
}

fn measure_rows(matrix: &Matrix) -> Vec<Vec<String>> {
    let row = |measure: &crate::tasks::worker::record::matrix::MeasureRow| {
        let name = format!("{} ({})", measure.name, measure.unit);
        let figures = measure.figures.iter().map(|figure| match figure {
            Some(figure) => format!("{} (n {})", words::figure(figure.p50), figure.n),
            None => String::from("-"),
        });
        [name].into_iter().chain(figures).collect()
    };
    matrix.measures.iter().map(row).collect()
}

/// Everything that keeps a column from being green.
fn troubles(name: &str, column: &RunSummary) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &column.reason {
        let symbol = match column.verdict {
            SummaryVerdict::Skipped => "➖",
            _ => "⚠️",
        };
        let verdict = column.verdict.as_str();
        lines.push(format!("{symbol} {name} {verdict}: {reason}"));
    }
    let troubles = column.troubles.iter();
    lines.extend(troubles.map(|trouble| format!("⚠️ {name}: {trouble}")));
    let survivors = column.survivors.iter();
    lines.extend(survivors.map(|survivor| format!("❌ {name} left behind: {survivor}")));
    for check in &column.checks {
        let symbol = match check.outcome.as_str() {
            "failed" => "❌",
            "warning" | "invalid" => "⚠️",
            _ => continue,
        };
        let why = shared::evidence(check).unwrap_or_default();
        lines.push(format!("{symbol} {name} {}: {why}", check.id));
    }
    lines
}

fn last_line(matrix: &Matrix) -> String {
    let lead = shared::lead(matrix);
    match matrix.verdict {
        SummaryVerdict::Passed => {
            format!("\n✅ Backend matrix complete - ALL TESTS PASSED! {lead}")
        }
        SummaryVerdict::Failed => format!("\n❌ Backend matrix complete - FAILED. {lead}"),
        SummaryVerdict::Interrupted => format!("\n⚠️ Backend matrix interrupted. {lead}"),
        SummaryVerdict::Invalid | SummaryVerdict::Skipped => {
            format!("\n⚠️ Backend matrix could not judge. {lead}")
        }
    }
}

/// Cells under each other, as wide as the widest of their column.
fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |index: usize| {
        let cells = table.iter().filter_map(|row| row.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| {
            let gap = width.saturating_sub(cell.chars().count());
            format!("{cell}{}", " ".repeat(gap))
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("   {}", line.trim_end())
    };
    table.iter().map(line).collect()
}
