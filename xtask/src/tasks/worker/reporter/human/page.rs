//! A page for people at a terminal. Pure.

use super::causes;
use super::style::Style;
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary, Level};
use crate::tasks::worker::reporter::page::{
    Block, CheckRow, Column, ReportPage, Section, Table, Tone,
};
use crate::tasks::worker::reporter::words;

/// What underlines a heading.
const RULE: &str = "==================================";

/// How long the longest bar is, in characters.
const BAR: f64 = 16.0;

/// The lines of a page, but for its last one: the clean-up comes in between.
pub fn lines(page: &ReportPage, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let prose = |lines: Vec<String>| lines.into_iter().map(move |line| style.wrapped(&line));
    let sections = page
        .sections
        .iter()
        .filter(|section| section.is_for_terminals());
    // A terminal is read from its end.
    let is_last = |section: &&Section| section.id == "causes";
    let (last, first): (Vec<_>, Vec<_>) = sections.partition(is_last);
    for section in first.into_iter().chain(last) {
        let aside = match section.aside.as_str() {
            "" => String::new(),
            aside => format!(": {aside}"),
        };
        lines.push(format!("\n📊 {}{aside}", section.title));
        lines.push(RULE.to_owned());
        for block in &section.blocks {
            match block {
                Block::Checks if page.is_matrix() => lines.extend(side_by_side(page, style)),
                Block::Checks => lines.extend(prose(by_area(page))),
                Block::Causes => lines.extend(prose(causes::lines(&page.causes))),
                Block::Table(table) => lines.extend(fitting(table, style)),
                Block::Remarks(remarks) => {
                    let remarks = remarks.iter();
                    let remarks = remarks.map(|remark| format!("   {}", words::indented(remark)));
                    lines.extend(prose(remarks.collect()));
                }
                // A terminal shows what has to be seen; the rest is in the other reports.
                Block::Facts { .. } | Block::Quote { .. } | Block::Log(_) | Block::Drawing(_) => {}
            }
        }
    }
    // What went wrong in a run was told when it happened.
    if page.is_matrix() {
        lines.push(String::new());
        let alerts = page.alerts.iter().map(|alert| {
            let symbol = alert.kind.tone().symbol();
            let text = words::indented(&alert.text);
            format!("{symbol} {}: {text}", page.label(alert))
        });
        lines.extend(prose(alerts.collect()));
    }
    let artifacts = page.artifacts.iter();
    lines.extend(artifacts.map(|folder| format!("   Evidence: {folder}")));
    lines
}

/// A table whose rows fit, or else each row as a sentence of what its cells are called.
fn fitting(table: &Table, style: Style) -> Vec<String> {
    let lines = with_bars(table);
    let fits = |columns| lines.iter().all(|line| line.chars().count() <= columns);
    if style.columns.is_none_or(fits) {
        return lines;
    }
    let row = |row: &Vec<String>| {
        let named = table.head.iter().zip(row).skip(1);
        let named = named.filter(|(_, cell)| !cell.is_empty() && *cell != "-");
        let named: Vec<_> = named.map(|(name, cell)| format!("{name} {cell}")).collect();
        let first = row.first().map_or("", String::as_str);
        style.wrapped(&format!("{first}: {}", named.join(", ")))
    };
    table.rows.iter().map(row).collect()
}

fn with_bars(table: &Table) -> Vec<String> {
    let mut lines = table.aligned();
    let width = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0);
    let rows = lines.iter_mut().skip(1);
    for (line, share) in rows.zip(&table.bars) {
        let bar = "█".repeat((share.clamp(0.0, 1.0) * BAR).round() as usize);
        let padded = format!("{line:<width$}  {bar}");
        padded.trim_end().clone_into(line);
    }
    lines
}

/// The areas of some checks, each once, in order.
fn areas(checks: &[CheckRow]) -> Vec<&str> {
    let mut areas: Vec<&str> = Vec::new();
    for area in checks.iter().map(CheckRow::area) {
        if !areas.contains(&area) {
            areas.push(area);
        }
    }
    areas
}

/// A line for each area, and every check that isn't green in full.
fn by_area(page: &ReportPage) -> Vec<String> {
    let ran = |row: &&CheckRow| row.worst() != CheckStatus::NotRun;
    let mut lines = Vec::new();
    for area in areas(&page.checks) {
        let rows = page.checks.iter().filter(|row| row.area() == area);
        let checks: Vec<&CheckSummary> = rows
            .filter(ran)
            .flat_map(|row| row.cells.iter().flatten())
            .collect();
        if checks.is_empty() {
            continue;
        }
        lines.push(area_line(area, &checks));
        lines.extend(checks.iter().filter_map(|check| in_full(check)));
        lines.extend(skipped(&checks));
    }
    let never_ran = page.checks.iter().filter(|row| !ran(row));
    if lines.is_empty() {
        lines.push(format!("➖ none of the {} checks ran", page.checks.len()));
    } else {
        lines.extend(never_ran.map(|row| format!("➖ {} did not run", row.id)));
    }
    lines
}

fn area_line(area: &str, checks: &[&CheckSummary]) -> String {
    let mut name = area.replace('_', " ");
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let durations = checks.iter().filter_map(|check| check.duration_ms);
    let duration_ms: f64 = durations.map(|ms| ms as f64).sum();
    let any = |status| checks.iter().any(|check| check.outcome == status);
    let (tone, word) = if any(CheckStatus::Failed) {
        (Tone::Bad, "failed")
    } else if any(CheckStatus::Invalid) {
        (Tone::Unclear, "could not be judged")
    } else if any(CheckStatus::Warning) {
        (Tone::Unclear, "passed with a warning")
    } else if any(CheckStatus::Passed) {
        (Tone::Good, "passed")
    } else {
        (Tone::Neutral, "skipped")
    };
    let count = match checks.len() {
        1 => String::new(),
        count => format!("{count} checks, "),
    };
    let symbol = tone.symbol();
    format!(
        "{symbol} {name} test {word} ({count}{:.2}s)",
        duration_ms / 1e3
    )
}

fn in_full(check: &CheckSummary) -> Option<String> {
    let id = &check.id;
    let reason = words::indented(check.reason.as_deref().unwrap_or_default());
    match check.outcome {
        CheckStatus::Passed | CheckStatus::Skipped | CheckStatus::NotRun => None,
        // In full where the causes are.
        CheckStatus::Failed => match &check.follows_from {
            Some(cause) => Some(format!("   {id} failed, which follows from {cause}")),
            None => Some(format!("   {id} failed")),
        },
        CheckStatus::Warning => {
            let should = match check.level {
                Level::Must => "",
                Level::Should => "should be one that ",
            };
            let mut lines = vec![format!("   {id}: the worker {should}{}", check.promise)];
            lines.extend(causes::mismatch(check));
            Some(lines.join("\n"))
        }
        CheckStatus::Invalid => Some(format!("   {id} could not be judged: {reason}")),
    }
}

/// A line for each reason for which checks of an area were skipped. What follows from a cause stands
/// there.
fn skipped(checks: &[&CheckSummary]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in checks
        .iter()
        .filter(|check| check.outcome == CheckStatus::Skipped && check.follows_from.is_none())
    {
        let reason = check.reason.as_deref().unwrap_or_default();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, ids)) => ids.push(&check.id),
            None => reasons.push((reason, vec![&check.id])),
        }
    }
    let line = |(reason, ids): &(&str, Vec<&str>)| {
        let verb = if ids.len() == 1 { "was" } else { "were" };
        let reason = words::indented(reason);
        format!("   {} {verb} skipped: {reason}", ids.join(", "))
    };
    reasons.iter().map(line).collect()
}

/// A column for each run; checks that passed in all of them are one line for each area.
fn side_by_side(page: &ReportPage, style: Style) -> Vec<String> {
    let names = page
        .columns
        .iter()
        .filter_map(|column| column.name.as_deref());
    let mut table = Table::new([""].into_iter().chain(names), usize::MAX);
    for area in areas(&page.checks) {
        let of_area = page.checks.iter().filter(|row| row.area() == area);
        let (green, others): (Vec<_>, Vec<_>) = of_area.partition(|row| is_green(row, page));
        if let Some(first) = green.first() {
            let name = match green.len() {
                1 => first.id.clone(),
                count => format!("{area}.* ({count} checks)"),
            };
            table.rows.push(outcomes(name, first, &page.columns));
        }
        let rows = others.iter();
        table
            .rows
            .extend(rows.map(|row| outcomes(row.id.clone(), row, &page.columns)));
    }
    let mut lines: Vec<String> = table
        .aligned()
        .iter()
        .map(|line| format!("   {line}"))
        .collect();
    for (index, column) in page.columns.iter().enumerate() {
        let name = column.name.as_deref().unwrap_or_default();
        let checks = page
            .checks
            .iter()
            .filter_map(|row| row.cells[index].as_ref());
        lines.extend(checks.filter_map(|check| match check.outcome {
            CheckStatus::Failed | CheckStatus::Warning | CheckStatus::Invalid => {
                let symbol = Tone::of(check.outcome).symbol();
                let why = check.evidence().unwrap_or_default();
                let why = words::indented(&why);
                Some(style.wrapped(&format!("{symbol} {name} {}: {why}", check.id)))
            }
            CheckStatus::Passed | CheckStatus::Skipped | CheckStatus::NotRun => None,
        }));
    }
    lines
}

/// Whether it passed in every column that ran.
fn is_green(row: &CheckRow, page: &ReportPage) -> bool {
    let ran = row
        .cells
        .iter()
        .zip(&page.columns)
        .filter(|(_, column)| !column.is_skipped);
    let passed = |cell: &Option<CheckSummary>| {
        cell.as_ref()
            .is_some_and(|check| check.outcome == CheckStatus::Passed)
    };
    ran.into_iter().all(|(cell, _)| passed(cell))
}

fn outcomes(name: String, row: &CheckRow, columns: &[Column]) -> Vec<String> {
    let words = columns
        .iter()
        .enumerate()
        .map(|(index, column)| match row.word(index, column) {
            "" => String::from("-"),
            "failed" => String::from("FAILED"),
            word => word.replace('_', " "),
        });
    [name].into_iter().chain(words).collect()
}
