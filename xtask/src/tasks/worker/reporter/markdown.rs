//! Markdown, for job summaries and for pasting into an issue. Pure.

use std::fmt::Write;

use super::page::{
    Block, CauseView, CheckRow, Column, Fact, ReportPage, Section, Shown, Table, Tone,
};
use super::words;
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary};

/// The whole page.
pub fn render(page: &ReportPage) -> String {
    let mut md = String::new();
    head(&mut md, page);
    for section in page
        .sections
        .iter()
        .filter(|section| section.is_for_markdown())
    {
        self::section(&mut md, section, page);
    }
    md
}

fn head(md: &mut String, page: &ReportPage) {
    let _ = writeln!(
        md,
        "## {} {}: {}\n\n{}\n",
        page.tone.symbol(),
        text(&page.heading),
        page.verdict,
        text(&page.lead)
    );
    let facts: Vec<String> = page.facts.iter().map(fact).collect();
    if !facts.is_empty() {
        let _ = writeln!(md, "{}\n", facts.join(" · "));
    }
    for alert in &page.alerts {
        let said = text(&alert.text).replace('\n', "\n> ");
        let _ = writeln!(md, "> **{}:** {said}\n", text(&page.label(alert)));
    }
}

fn fact((name, value): &Fact) -> String {
    format!("{name}: {}", text(value))
}

/// What isn't for a terminal either is folded.
fn section(md: &mut String, section: &Section, page: &ReportPage) {
    let title = match section.aside.as_str() {
        "" => text(section.title),
        aside => format!("{} ({})", text(section.title), text(aside)),
    };
    let is_folded = section.shown != Shown::Everywhere;
    let _ = match is_folded {
        true => writeln!(md, "<details><summary>{title}</summary>\n"),
        false => writeln!(md, "### {title}\n"),
    };
    for block in &section.blocks {
        self::block(md, block, page);
    }
    if is_folded {
        md.push_str("</details>\n\n");
    }
}

fn block(md: &mut String, block: &Block, page: &ReportPage) {
    match block {
        Block::Checks => checks(md, page),
        Block::Causes => page.causes.iter().for_each(|cause| self::cause(md, cause)),
        Block::Table(table) => self::table(md, table),
        Block::Remarks(remarks) => {
            for remark in remarks {
                let _ = writeln!(md, "- {}", text(remark));
            }
            md.push('\n');
        }
        Block::Facts { of, facts } => {
            let of = of.as_deref().map(cell).unwrap_or_default();
            let _ = writeln!(md, "| {of} | |\n|---|---|");
            for (name, value) in facts {
                let _ = writeln!(md, "| {name} | {} |", cell(value));
            }
            md.push('\n');
        }
        Block::Quote { text, source } => {
            let _ = writeln!(md, "`{}`:\n\n{}", code(source), fenced(text));
        }
        Block::Log(lines) => {
            let _ = writeln!(md, "{}", fenced(&lines.join("\n")));
        }
        // Markdown has none.
        Block::Drawing(_) => {}
    }
}

fn cause(md: &mut String, cause: &CauseView) {
    let check = &cause.check;
    let _ = writeln!(
        md,
        "#### {} `{}`\n\nThe worker {}.\n",
        Tone::Bad.symbol(),
        code(&check.id),
        text(&check.promise)
    );
    if !check.contract.is_empty() {
        let parts = words::with_code(&check.contract);
        let parts = parts.map(|(is_code, part)| match is_code {
            true => format!("`{}`", code(part)),
            false => text(part),
        });
        let _ = writeln!(md, "> {}\n", parts.collect::<String>());
    }
    let _ = writeln!(md, "{}", fenced(&why(check)));
    if !cause.log.is_empty() {
        let lines: Vec<String> = cause.log.iter().map(words::log_line).collect();
        let _ = writeln!(
            md,
            "What workers wrote meanwhile:\n\n{}",
            fenced(&lines.join("\n"))
        );
    }
    if !cause.command.is_empty() {
        let _ = writeln!(md, "Alone:\n\n{}", fenced(&cause.command));
    }
    if !cause.consequences.is_empty() {
        let ids = cause.consequences.iter();
        let ids: Vec<String> = ids.map(|check| format!("`{}`", code(&check.id))).collect();
        let _ = writeln!(
            md,
            "What follows from it ({}): {}\n",
            ids.len(),
            ids.join(", ")
        );
    }
}

/// Figures to the right.
fn table(md: &mut String, table: &Table) {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|value| cell(value)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let words = table.words.min(table.head.len());
    let rule = "|---".repeat(words) + &"|--:".repeat(table.head.len() - words);
    let _ = writeln!(md, "{}\n{rule}|", line(&table.head));
    for row in &table.rows {
        let _ = writeln!(md, "{}", line(row));
    }
    md.push('\n');
}

/// A row a check, then each check that isn't green in full.
fn checks(md: &mut String, page: &ReportPage) {
    let names = page.columns.iter().map(|column| match &column.name {
        Some(name) => cell(name),
        None => String::from("outcome"),
    });
    let names: Vec<String> = names.collect();
    // Side by side there is no room for more than the outcomes.
    let (more, rule) = match page.is_matrix() {
        true => ("", ""),
        false => (" time | evidence |", "--:|---|"),
    };
    let outcomes = ":-:|".repeat(names.len());
    let _ = writeln!(
        md,
        "| check | {} |{more}\n|---|{outcomes}{rule}",
        names.join(" | ")
    );
    if page.is_matrix() {
        md.push_str("| **verdict** |");
        for column in &page.columns {
            let _ = write!(md, " {} {} |", column.tone.symbol(), column.verdict);
        }
        md.push('\n');
    }
    for row in &page.checks {
        let _ = write!(md, "| `{}` |", code(&row.id));
        for (index, column) in page.columns.iter().enumerate() {
            let _ = write!(md, " {} |", outcome(row, index, column));
        }
        if !page.is_matrix() {
            for check in row.cells.iter().flatten() {
                let took = check
                    .duration_ms
                    .map_or(String::new(), |ms| words::duration(ms as f64));
                let said = check.evidence().or_else(|| check.detail.clone());
                let _ = write!(md, " {took} | {} |", cell(&said.unwrap_or_default()));
            }
        }
        md.push('\n');
    }
    md.push('\n');
    let is_told = |check: &CheckSummary| {
        let mut causes = page.causes.iter();
        check.follows_from.is_some() || causes.any(|cause| cause.check.id == check.id)
    };
    for row in &page.checks {
        for (check, column) in row.cells.iter().zip(&page.columns) {
            let check = check.as_ref();
            let check =
                check.filter(|check| is_to_be_read(check) && (page.is_matrix() || !is_told(check)));
            if let Some(check) = check {
                in_full(md, check, column);
            }
        }
    }
}

fn outcome(row: &CheckRow, index: usize, column: &Column) -> String {
    match (&row.cells[index], row.word(index, column)) {
        (_, "") => String::new(),
        (Some(check), word) => {
            let symbol = Tone::of(check.outcome).symbol();
            match check.outcome {
                CheckStatus::Passed | CheckStatus::Skipped => symbol.to_owned(),
                CheckStatus::NotRun => format!("{symbol} did not run"),
                CheckStatus::Failed | CheckStatus::Warning | CheckStatus::Invalid => {
                    format!("{symbol} {word}")
                }
            }
        }
        (None, word) => word.to_owned(),
    }
}

fn is_to_be_read(check: &CheckSummary) -> bool {
    match check.outcome {
        CheckStatus::Failed | CheckStatus::Warning | CheckStatus::Invalid => true,
        CheckStatus::Passed | CheckStatus::Skipped | CheckStatus::NotRun => false,
    }
}

fn in_full(md: &mut String, check: &CheckSummary, column: &Column) {
    let name = column
        .name
        .as_ref()
        .map_or(String::new(), |name| text(name) + ": ");
    let _ = writeln!(
        md,
        "#### {} {name}`{}`\n\nThe worker {}.\n\n{}",
        Tone::of(check.outcome).symbol(),
        code(&check.id),
        text(&check.promise),
        fenced(&why(check))
    );
}

fn why(check: &CheckSummary) -> String {
    match (&check.expected, &check.got, &check.place) {
        (Some(expected), Some(got), Some(place)) => {
            format!("expected: {expected}\ngot:      {got}\nseen at:  {place}")
        }
        _ => check.reason.clone().unwrap_or_default(),
    }
}

/// Text in which nothing is markup.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in words::harmless(raw).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // A mention would call somebody who has nothing to do with it.
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The same on one line, and not longer than a table bears.
fn cell(raw: &str) -> String {
    text(&words::shortened(&raw.replace(['\n', '\t'], " ")))
}

/// Inside backticks: only backticks and line ends could break out.
fn code(raw: &str) -> String {
    words::harmless(raw).replace(['`', '\n', '|'], "'")
}

/// A fence that is longer than any in the text.
fn fenced(raw: &str) -> String {
    let raw = words::harmless(raw);
    let longest = raw.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{raw}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out() {
        assert_eq!(text("<b>*x* @you|"), "&lt;b&gt;\\*x\\* &#64;you\\|");
        assert_eq!(cell("a\nb"), "a b");
        assert_eq!(code("a`b|c"), "a'b'c");
        assert!(fenced("x\n````\ny").starts_with("`````text\n"));
    }
}
