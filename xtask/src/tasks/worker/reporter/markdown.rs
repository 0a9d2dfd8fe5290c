//! Markdown, for job summaries and for pasting into an issue. Pure.

pub mod matrix;

use std::fmt::Write;

use super::{bench, stress, words};
use crate::tasks::worker::record::event::{CheckRecord, Outcome};
use crate::tasks::worker::record::report::{RunReport, Verdict};

/// The whole page.
pub fn render(report: &RunReport) -> String {
    let mut page = String::new();
    head(&mut page, report);
    checks(&mut page, report);
    broken(&mut page, report);
    figures(&mut page, report);
    workers(&mut page, report);
    measures(&mut page, report);
    machine(&mut page, report);
    log(&mut page, report);
    page
}

fn head(page: &mut String, report: &RunReport) {
    let symbol = match report.verdict() {
        Verdict::Passed => "✅",
        Verdict::Failed => "❌",
        Verdict::Invalid | Verdict::Interrupted(_) => "⚠️",
    };
    let (word, sentence) = words::verdict(report);
    let _ = writeln!(
        page,
        "## {symbol} {} {word}\n\n{sentence}\n",
        report.purpose().heading()
    );
    let facts = [
        report
            .model
            .as_ref()
            .map(|model| format!("model `{}`", code(&model.path))),
        report
            .worker
            .as_ref()
            .map(|worker| format!("backend `{}`", code(&worker.backend))),
        report
            .ready_ms
            .map(|ms| format!("ready after {}", words::duration(ms as f64))),
        report
            .duration_ms
            .map(|ms| format!("whole run {}", words::duration(ms as f64))),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        let _ = writeln!(page, "{}\n", facts.join(" · "));
    }
    for trouble in &report.troubles {
        let _ = writeln!(
            page,
            "> **Trouble:** {}\n",
            text(trouble).replace('\n', "\n> ")
        );
    }
    for survivor in &report.survivors {
        let _ = writeln!(page, "> **Left behind:** {}\n", text(survivor));
    }
    for note in &report.notes {
        let _ = writeln!(page, "> {}\n", text(note).replace('\n', "\n> "));
    }
}

fn checks(page: &mut String, report: &RunReport) {
    if report.checks.is_empty() && report.planned.is_empty() {
        return;
    }
    page.push_str("| | check | time | evidence |\n|---|---|--:|---|\n");
    for check in &report.checks {
        let _ = writeln!(
            page,
            "| {} | `{}` | {} | {} |",
            symbol(check, report),
            code(&check.id),
            words::duration(check.duration_ms as f64),
            cell(&evidence(check)),
        );
    }
    for planned in report.never_ran() {
        let _ = writeln!(page, "| ➖ | `{}` | | did not run |", code(&planned.id));
    }
    page.push('\n');
}

fn broken(page: &mut String, report: &RunReport) {
    for check in &report.checks {
        let Outcome::Failed(mismatch) = &check.outcome else {
            continue;
        };
        let _ = writeln!(
            page,
            "### {} `{}`\n\nThe worker {}.\n\n{}",
            symbol(check, report),
            code(&check.id),
            text(words::promise(&check.id, report)),
            fenced(&format!(
                "expected: {}\ngot:      {}\nseen at:  {}",
                mismatch.expected, mismatch.got, mismatch.place
            )),
        );
    }
}

fn figures(page: &mut String, report: &RunReport) {
    table(page, "Figures", bench::COLUMNS, &bench::rows(report));
    for remark in bench::remarks(report) {
        let _ = writeln!(page, "- {}", text(&remark));
    }
    if !report.scenarios.is_empty() {
        page.push('\n');
    }
    let compared = bench::comparison_rows(report);
    table(page, "Comparison", bench::COMPARISON_COLUMNS, &compared);
}

fn workers(page: &mut String, report: &RunReport) {
    table(
        page,
        "Workers under load",
        stress::COLUMNS,
        &stress::rows(report),
    );
    table(
        page,
        "Trends",
        stress::TREND_COLUMNS,
        &stress::trend_rows(report),
    );
    for remark in stress::remarks(report) {
        let _ = writeln!(page, "- {}\n", text(&remark));
    }
}

/// A table under a heading, numbers to the right; nothing without rows.
fn table<const N: usize>(page: &mut String, title: &str, head: [&str; N], rows: &[[String; N]]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "### {title}\n\n| {} |\n|---{}|",
        head.join(" | "),
        "|--:".repeat(N - 1)
    );
    for row in rows {
        let cells: Vec<String> = row.iter().map(|value| cell(value)).collect();
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
    page.push('\n');
}

fn measures(page: &mut String, report: &RunReport) {
    let measures = report.measures();
    if measures.is_empty() {
        return;
    }
    page.push_str("<details><summary>Measures</summary>\n\n");
    page.push_str("| measure | unit | n | median | p95 | max |\n|---|---|--:|--:|--:|--:|\n");
    for measure in measures {
        let summary = &measure.summary;
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            cell(&measure.name),
            cell(&measure.unit),
            summary.n,
            words::figure(summary.p50),
            words::figure(summary.p95),
            words::figure(summary.max),
        );
    }
    page.push_str("\n</details>\n\n");
}

fn machine(page: &mut String, report: &RunReport) {
    let Some(machine) = &report.environment else {
        return;
    };
    page.push_str("<details><summary>Environment</summary>\n\n| | |\n|---|---|\n");
    let dirty = match machine.git_dirty {
        Some(true) => " (with changes)",
        _ => "",
    };
    let gpus = machine
        .gpus
        .iter()
        .map(|gpu| format!("{} ({})", gpu.name, gpu.memory));
    let rows = [
        ("system", Some(machine.os.clone())),
        ("processor", machine.cpu.clone()),
        ("cores", machine.cores.map(|cores| cores.to_string())),
        (
            "memory",
            machine
                .memory_bytes
                .map(|bytes| format!("{:.1} GB", bytes as f64 / 1e9)),
        ),
        (
            "GPU",
            Some(gpus.collect::<Vec<_>>().join(", ")).filter(|gpus| !gpus.is_empty()),
        ),
        ("rustc", machine.rustc.clone()),
        (
            "revision",
            machine
                .git_revision
                .as_ref()
                .map(|revision| format!("{revision}{dirty}")),
        ),
        ("model sha256", report.model_sha256.clone()),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(page, "| {name} | {} |", cell(&value));
        }
    }
    page.push_str("\n</details>\n\n");
}

fn log(page: &mut String, report: &RunReport) {
    if report.worker_log.is_empty() {
        return;
    }
    let count = report.worker_log.len();
    let _ = writeln!(
        page,
        "<details><summary>Worker log (last {count} lines)</summary>\n\n{}\n</details>",
        fenced(&report.worker_log.join("\n"))
    );
}

fn symbol(check: &CheckRecord, report: &RunReport) -> &'static str {
    match words::outcome(check, report) {
        "passed" => "✅",
        "failed" => "❌",
        "skipped" => "➖",
        _ => "⚠️",
    }
}

fn evidence(check: &CheckRecord) -> String {
    match &check.outcome {
        Outcome::Passed => check.detail.clone().unwrap_or_default(),
        Outcome::Failed(mismatch) => mismatch.to_string(),
        Outcome::Invalid { reason } => format!("could not be judged: {reason}"),
        Outcome::Skipped { reason } => format!("skipped: {reason}"),
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
    const LONGEST: usize = 300;
    let line = raw.replace(['\n', '\t'], " ");
    let shortened: String = line.chars().take(LONGEST).collect();
    let end = if shortened.len() < line.len() {
        "…"
    } else {
        ""
    };
    text(&shortened) + end
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
