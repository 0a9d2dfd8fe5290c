//! `report.html`: one page that needs no network and no script, and opens from a mail. Pure.
//!
//! Whatever a worker said is hostile until [`text`] has seen it.

mod bench;
pub mod matrix;
mod parts;
mod stress;
mod timeline;

use std::fmt::Write;

use super::words;
use crate::tasks::worker::record::event::{CheckRecord, Level, Outcome};
use crate::tasks::worker::record::report::{RunReport, Verdict};

const STYLE: &str = include_str!("html/style.css");

/// Nothing may be fetched, run or sent from the page, whatever gets into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// More requests of one check than these are counted and not shown.
const REQUESTS_SHOWN: usize = 20;

/// The whole page.
pub fn render(report: &RunReport) -> String {
    let (word, _) = words::verdict(report);
    let run_id = report.run.as_ref().map_or("", |run| run.run_id.as_str());
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{word}: {} {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        report.purpose().heading(),
        text(run_id)
    );
    verdict(&mut page, report);
    bench::sections(&mut page, report);
    stress::section(&mut page, report);
    timeline::section(&mut page, report);
    checks(&mut page, report);
    parts::measures(&mut page, report);
    parts::streams(&mut page, report);
    parts::heartbeats(&mut page, report);
    parts::log(&mut page, report);
    parts::surroundings(&mut page, report);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Text in which nothing is markup and nothing is obeyed, in an element or a quoted attribute.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in words::harmless(raw).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

fn verdict(page: &mut String, report: &RunReport) {
    let (word, sentence) = words::verdict(report);
    let class = match report.verdict() {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Invalid | Verdict::Interrupted(_) => "invalid",
    };
    let _ = write!(
        page,
        "<header class=\"verdict {class}\" id=\"verdict\">\n<p class=\"kicker\">{}</p>\n\
         <h1>{word}</h1>\n<p class=\"lead\">{}</p>\n",
        report.purpose().heading(),
        text(&sentence)
    );
    for trouble in &report.troubles {
        let _ = writeln!(page, "<p class=\"trouble\">{}</p>", text(trouble));
    }
    for survivor in &report.survivors {
        let _ = writeln!(
            page,
            "<p class=\"trouble\">Left behind: {}</p>",
            text(survivor)
        );
    }
    broken(page, report);
    facts(page, report);
    page.push_str("</header>\n");
}

/// The broken promises, where nobody has to look for them.
fn broken(page: &mut String, report: &RunReport) {
    let broken = |check: &&CheckRecord| words::is_broken(check, report, Level::Must);
    let mut checks = report.checks.iter().filter(broken).peekable();
    if checks.peek().is_none() {
        return;
    }
    page.push_str("<ul class=\"broken\">\n");
    for check in checks {
        if let Outcome::Failed(mismatch) = &check.outcome {
            let _ = writeln!(
                page,
                "<li><a href=\"#check-{id}\"><code>{id}</code></a> The worker {}: expected {}, got {}</li>",
                text(words::promise(&check.id, report)),
                text(&shortened(&mismatch.expected)),
                text(&shortened(&mismatch.got)),
                id = text(&check.id),
            );
        }
    }
    page.push_str("</ul>\n");
}

fn facts(page: &mut String, report: &RunReport) {
    let gpu = report
        .environment
        .as_ref()
        .and_then(|machine| machine.gpus.first());
    let backend = report.worker.as_ref().map(|worker| match gpu {
        Some(gpu) if worker.backend != "cpu" => {
            format!(
                "{} · device {} · {}",
                worker.backend, worker.device, gpu.name
            )
        }
        _ => format!("{} · device {}", worker.backend, worker.device),
    });
    let name = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
    let machine = report.environment.as_ref().map(|machine| {
        let cpu = machine
            .cpu
            .clone()
            .unwrap_or_else(|| machine.architecture.clone());
        let host = machine.host.clone().unwrap_or_default();
        format!("{host} · {cpu}")
            .trim_start_matches(" · ")
            .to_owned()
    });
    let rows = [
        (
            "Model",
            report.model.as_ref().map(|model| name(&model.path)),
        ),
        ("Backend", backend),
        ("Machine", machine),
        (
            "Ready after",
            report.ready_ms.map(|ms| words::duration(ms as f64)),
        ),
        (
            "Whole run",
            report.duration_ms.map(|ms| words::duration(ms as f64)),
        ),
        (
            "Started",
            report.run.as_ref().map(|run| moment(&run.started_at)),
        ),
        ("Worker's end", report.worker_exit.clone()),
        ("Exit code", Some(report.verdict().exit_code().to_string())),
    ];
    page.push_str("<dl class=\"facts\">\n");
    for (name, value) in rows {
        if let Some(value) = value {
            let _ = writeln!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", text(&value));
        }
    }
    page.push_str("</dl>\n");
}

fn checks(page: &mut String, report: &RunReport) {
    if report.checks.is_empty() && report.planned.is_empty() {
        return;
    }
    page.push_str(
        "<section id=\"checks\">\n<h2>Checks</h2>\n<table class=\"checks\">\n\
         <thead><tr><th>Outcome</th><th>Promise</th><th class=\"number\">Time</th></tr></thead>\n<tbody>\n",
    );
    for check in &report.checks {
        let outcome = words::outcome(check, report);
        let open = if matches!(outcome, "failed" | "invalid") {
            " open"
        } else {
            ""
        };
        let _ = write!(
            page,
            "<tr class=\"{outcome}\" id=\"check-{id}\">\n<td><span class=\"badge {outcome}\">{outcome}</span></td>\n\
             <td><details{open}><summary><code>{id}</code><span class=\"promise\">The worker {}</span></summary>\n",
            text(words::promise(&check.id, report)),
            id = text(&check.id),
        );
        evidence(page, check, report);
        let _ = writeln!(
            page,
            "</details></td>\n<td class=\"number\">{}</td>\n</tr>",
            words::duration(check.duration_ms as f64)
        );
    }
    for planned in report.never_ran() {
        let _ = writeln!(
            page,
            "<tr class=\"skipped\"><td><span class=\"badge skipped\">not run</span></td><td><code>{}</code><span class=\"promise\">The worker {}</span></td><td></td></tr>",
            text(&planned.id),
            text(&planned.promise)
        );
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

fn evidence(page: &mut String, check: &CheckRecord, report: &RunReport) {
    page.push_str("<div class=\"evidence\">\n");
    match &check.outcome {
        Outcome::Passed => {
            let detail = check.detail.as_deref().unwrap_or("Nothing else to tell.");
            let _ = writeln!(page, "<p>{}</p>", text(detail));
        }
        Outcome::Failed(mismatch) => {
            let _ = writeln!(
                page,
                "<dl class=\"mismatch\"><dt>expected</dt><dd>{}</dd><dt>got</dt><dd>{}</dd><dt>seen at</dt><dd>{}</dd></dl>",
                text(&mismatch.expected),
                text(&mismatch.got),
                text(&mismatch.place)
            );
        }
        Outcome::Invalid { reason } | Outcome::Skipped { reason } => {
            let _ = writeln!(page, "<p>{}</p>", text(reason));
        }
    }
    let requests = || {
        report
            .timeline
            .requests
            .iter()
            .filter(|span| span.id == check.id)
    };
    for request in requests().take(REQUESTS_SHOWN) {
        parts::request(page, request);
    }
    let count = requests().count();
    if count > REQUESTS_SHOWN {
        let more = count - REQUESTS_SHOWN;
        let _ = writeln!(page, "<p class=\"muted\">and {more} more requests</p>");
    }
    page.push_str("</div>\n");
}

/// "2026-01-31 10:54:23 +00:00".
fn moment(rfc3339: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(rfc3339) {
        Ok(at) => at.format("%Y-%m-%d %H:%M:%S %:z").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    let cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() {
        cut + "…"
    } else {
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let hostile = "</pre><script>alert('x')</script>\" onload=\"y\x1b[31m\0";
        let safe = text(hostile);
        assert!(
            !safe.contains(['<', '>', '"', '\'', '\x1b', '\0']),
            "{safe}"
        );
    }
}
