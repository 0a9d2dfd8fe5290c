//! `report.html`: one page that needs no network and no script, and opens from a mail. Pure.
//!
//! Whatever a worker said is hostile until [`text`] has seen it.

mod causes;

use std::fmt::Write;

use super::drawing::{Drawing, WIDTH};
use super::page::{Alert, Block, CheckRow, Column, Fact, ReportPage, Section, Table, Tone};
use super::words::{self, markup as text, shortened};
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary};
use crate::tasks::worker::record::timeline::RequestSpan;

/// The style of every page.
pub const STYLE: &str = include_str!("html/style.css");

/// Nothing may be fetched, run or sent from the page, whatever gets into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The whole page.
pub fn render(page: &ReportPage) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{}: {} {}</title>\n<style>\n{STYLE}</style>\n</head>\n{}</html>\n",
        page.verdict,
        page.heading,
        text(&page.run_id),
        body(page)
    )
}

/// The page without its head.
pub fn body(page: &ReportPage) -> String {
    let mut html = String::from("<body>\n<main>\n");
    header(&mut html, page);
    for section in &page.sections {
        open(&mut html, section);
        for block in &section.blocks {
            self::block(&mut html, block, page);
        }
        close(&mut html, section);
    }
    if let Some(footer) = &page.footer {
        let _ = writeln!(html, "<footer>{}</footer>", text(footer));
    }
    html.push_str("</main>\n</body>\n");
    html
}

fn header(html: &mut String, page: &ReportPage) {
    let _ = write!(
        html,
        "<header class=\"verdict {}\" id=\"verdict\">\n<p class=\"kicker\">{}</p>\n\
         <h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
        page.tone.class(),
        text(&page.heading),
        page.verdict,
        text(&page.lead)
    );
    for alert in &page.alerts {
        self::alert(html, alert, page);
    }
    broken(html, page);
    if !page.facts.is_empty() {
        facts(html, "facts", &page.facts);
    }
    html.push_str("</header>\n");
}

fn alert(html: &mut String, alert: &Alert, page: &ReportPage) {
    let class = match alert.kind.tone() {
        Tone::Bad | Tone::Unclear => "trouble",
        Tone::Good | Tone::Neutral => "muted",
    };
    let label = text(&page.label(alert));
    let _ = writeln!(
        html,
        "<p class=\"{class}\"><strong>{label}:</strong> {}</p>",
        text(&alert.text)
    );
}

/// The broken promises, where nobody has to look for them. A single run has its causes for that.
fn broken(html: &mut String, page: &ReportPage) {
    if !page.is_matrix() {
        return;
    }
    let rows = page.checks.iter();
    let mut rows = rows
        .filter(|row| row.worst() == CheckStatus::Failed)
        .peekable();
    if rows.peek().is_none() {
        return;
    }
    html.push_str("<ul class=\"broken\">\n");
    for row in rows {
        let _ = writeln!(
            html,
            "<li><a href=\"#check-{id}\"><code>{id}</code></a> The worker {}</li>",
            text(&row.promise),
            id = text(&row.id),
        );
    }
    html.push_str("</ul>\n");
}

fn open(html: &mut String, section: &Section) {
    let _ = writeln!(html, "<section id=\"{}\">", section.id);
    let aside = match section.aside.as_str() {
        "" => String::new(),
        aside => format!(" <span class=\"muted\">{}</span>", text(aside)),
    };
    let heading = format!("<h2>{}{aside}</h2>", text(section.title));
    let _ = match section.is_folded() {
        true => writeln!(html, "<details class=\"fold\"><summary>{heading}</summary>"),
        false => writeln!(html, "{heading}"),
    };
}

fn close(html: &mut String, section: &Section) {
    html.push_str(if section.is_folded() {
        "</details>\n</section>\n"
    } else {
        "</section>\n"
    });
}

fn block(html: &mut String, block: &Block, page: &ReportPage) {
    match block {
        Block::Checks => checks(html, page),
        Block::Causes => causes::causes(html, &page.causes),
        Block::Table(table) => self::table(html, table),
        Block::Remarks(remarks) => {
            html.push_str("<ul class=\"muted\">\n");
            for remark in remarks {
                let _ = writeln!(html, "<li>{}</li>", text(remark));
            }
            html.push_str("</ul>\n");
        }
        Block::Facts { of, facts } => {
            if let Some(of) = of {
                let _ = writeln!(html, "<h3>{}</h3>", text(of));
            }
            self::facts(html, "pairs", facts);
        }
        Block::Quote {
            text: quote,
            source,
        } => {
            let _ = writeln!(
                html,
                "<figure><blockquote>{}</blockquote><figcaption><code>{}</code></figcaption></figure>",
                text(quote),
                text(source)
            );
        }
        Block::Log(lines) => log(html, lines),
        Block::Drawing(drawing) => self::drawing(html, drawing),
    }
}

fn facts(html: &mut String, class: &str, facts: &[Fact]) {
    let _ = writeln!(html, "<dl class=\"{class}\">");
    for (name, value) in facts {
        let _ = match class {
            // A grid of cards, and a list of two columns.
            "facts" => writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", text(value)),
            _ => writeln!(html, "<dt>{name}</dt><dd>{}</dd>", text(value)),
        };
    }
    html.push_str("</dl>\n");
}

fn table(html: &mut String, table: &Table) {
    let class = |column: usize| match column < table.words {
        true => "",
        false => " class=\"number\"",
    };
    html.push_str("<div class=\"scroll\"><table class=\"figures\">\n<thead><tr>");
    for (column, name) in table.head.iter().enumerate() {
        let _ = write!(html, "<th{}>{}</th>", class(column), text(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(html, "<td{}>{}</td>", class(column), text(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
}

/// A row a check: its promise with the evidence folded into it, and its outcome in each column.
fn checks(html: &mut String, page: &ReportPage) {
    html.push_str("<div class=\"scroll\"><table class=\"checks\">\n<thead><tr><th>Promise</th>");
    for column in &page.columns {
        let name = column.name.as_deref().unwrap_or("Outcome");
        let _ = write!(html, "<th>{}</th>", text(name));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    if page.is_matrix() {
        html.push_str("<tr class=\"verdicts\"><td>Verdict</td>");
        for column in &page.columns {
            let badge = badge(column.tone.class(), column.verdict);
            let _ = write!(html, "<td>{badge}</td>");
        }
        html.push_str("</tr>\n");
    }
    for row in &page.checks {
        check(html, row, page);
    }
    html.push_str("</tbody>\n</table></div>\n");
}

fn check(html: &mut String, row: &CheckRow, page: &ReportPage) {
    let worst = row.worst();
    let open = match worst {
        CheckStatus::Failed | CheckStatus::Invalid => " open",
        CheckStatus::Passed | CheckStatus::Warning | CheckStatus::Skipped | CheckStatus::NotRun => {
            ""
        }
    };
    let _ = write!(
        html,
        "<tr class=\"{}\" id=\"check-{id}\">\n<td><details{open}><summary><code>{id}</code><span class=\"promise\">The worker {}</span></summary>\n<div class=\"evidence\">\n",
        Tone::of(worst).class(),
        text(&row.promise),
        id = text(&row.id),
    );
    for (cell, column) in row.cells.iter().zip(&page.columns) {
        if let Some(check) = cell {
            evidence(html, check, column);
        }
    }
    for request in &row.requests {
        self::request(html, request);
    }
    if row.requests_left_out > 0 {
        let more = row.requests_left_out;
        let _ = writeln!(html, "<p class=\"muted\">and {more} more requests</p>");
    }
    html.push_str("</div></details></td>\n");
    for (index, column) in page.columns.iter().enumerate() {
        let _ = writeln!(html, "<td>{}</td>", outcome(row, index, column));
    }
    html.push_str("</tr>\n");
}

fn evidence(html: &mut String, check: &CheckSummary, column: &Column) {
    if let Some(name) = &column.name {
        let _ = writeln!(html, "<p><strong>{}</strong></p>", text(name));
    }
    if let Some(cause) = &check.follows_from {
        let _ = writeln!(
            html,
            "<p class=\"muted\">follows from <a href=\"#cause-{cause}\"><code>{cause}</code></a></p>",
            cause = text(cause)
        );
    }
    mismatch(html, check);
}

/// What was promised, what came and where that was seen; or why it isn't known.
fn mismatch(html: &mut String, check: &CheckSummary) {
    let _ = match (&check.expected, &check.got) {
        (Some(expected), Some(got)) => writeln!(
            html,
            "<dl class=\"mismatch\"><dt>expected</dt><dd>{}</dd><dt>got</dt><dd>{}</dd><dt>seen at</dt><dd>{}</dd></dl>",
            text(expected),
            text(got),
            text(check.place.as_deref().unwrap_or_default())
        ),
        _ => {
            let said = check.reason.as_ref().or(check.detail.as_ref());
            let said = said.map_or(check.outcome.as_str(), String::as_str);
            writeln!(html, "<p>{}</p>", text(said))
        }
    };
}

/// A badge with the time below it; the evidence shows where a pointer rests on it.
fn outcome(row: &CheckRow, index: usize, column: &Column) -> String {
    let Some(check) = &row.cells[index] else {
        return match row.word(index, column) {
            "" => String::new(),
            word => badge("skipped", word),
        };
    };
    let badge = badge(Tone::of(check.outcome).class(), check.outcome.as_str());
    let said = check.evidence().or_else(|| check.detail.clone());
    let title = text(&shortened(&said.unwrap_or_default()));
    let took = check
        .duration_ms
        .map_or(String::new(), |ms| words::duration(ms as f64));
    format!("<span title=\"{title}\">{badge}</span> <span class=\"muted\">{took}</span>")
}

fn badge(class: &str, word: &str) -> String {
    format!(
        "<span class=\"badge {class}\">{}</span>",
        word.replace('_', " ").to_lowercase()
    )
}

/// One request, folded.
fn request(html: &mut String, request: &RequestSpan) {
    let came = match (request.status, &request.cause) {
        (Some(status), _) => status.to_string(),
        (None, Some(cause)) => cause.clone(),
        (None, None) => String::from("no answer"),
    };
    let took = request.duration_ms.map(words::duration).unwrap_or_default();
    let class = match (request.status, request.left) {
        (Some(_), _) => "",
        (None, true) => " left",
        (None, false) => " bad",
    };
    let _ = writeln!(
        html,
        "<details class=\"request\"><summary><code>{}</code> <span class=\"status{class}\">{}</span> <span class=\"muted\">{took}</span></summary>",
        text(&request.request),
        text(&came)
    );
    let mut pairs: Vec<Fact> = Vec::new();
    let mut pair = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
    pair("sent to", request.auxiliary.clone());
    pair("sent at", Some(words::duration(request.sent_ms)));
    if let Some(phases) = request.phases {
        pair("queue", Some(words::duration(phases.queue_ms)));
        pair("prefill", Some(words::duration(phases.prefill_ms)));
        pair("decode", Some(words::duration(phases.decode_ms)));
    }
    if request.tokens > 0 {
        pair("tokens", Some(request.tokens.to_string()));
        pair("first token", request.first_token_ms.map(words::duration));
        pair("between tokens", request.token_gap_ms.map(words::duration));
    }
    facts(html, "pairs", &pairs);
    if let Some(body) = &request.body {
        let _ = writeln!(html, "<pre>{}</pre>", text(body));
    }
    html.push_str("</details>\n");
}

/// The end of a log, each line in the colour of its level.
fn log(html: &mut String, lines: &[String]) {
    html.push_str("<pre class=\"log\">");
    for line in lines {
        let _ = writeln!(
            html,
            "<span class=\"{}\">{}</span>",
            level(line),
            text(line)
        );
    }
    html.push_str("</pre>\n");
}

/// "error", "warn", "info", "debug", or "plain" where a line names none.
fn level(line: &str) -> &'static str {
    const LEVELS: [(&str, &str); 5] = [
        ("ERROR", "error"),
        ("WARN", "warn"),
        ("INFO", "info"),
        ("DEBUG", "debug"),
        ("TRACE", "debug"),
    ];
    let begin: String = line.trim_start().chars().take(80).collect();
    let begin = begin.to_uppercase();
    let is_object = begin.starts_with('{');
    let found = LEVELS.iter().find(|(name, _)| {
        let begin = begin.trim_start_matches('[');
        begin.starts_with(name) || (is_object && begin.contains(&format!("\"{name}\"")))
    });
    found.map_or("plain", |(_, class)| class)
}

fn drawing(html: &mut String, drawing: &Drawing) {
    let _ = write!(
        html,
        "<figure><div class=\"scroll\"><svg class=\"timeline\" id=\"drawing-{}\" viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"{caption}\">\n{}</svg></div>\n<figcaption>{caption}</figcaption>",
        text(&drawing.id),
        drawing.height,
        drawing.svg,
        caption = text(&drawing.caption)
    );
    if !drawing.legend.is_empty() {
        html.push_str("<ul class=\"legend\">");
        for (class, meaning) in drawing.legend {
            let _ = write!(html, "<li class=\"{class}\">{meaning}</li>");
        }
        html.push_str("</ul>");
    }
    html.push_str("</figure>\n");
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn levels_are_found_where_a_line_begins() {
        assert_eq!(level("[WARN] the hive is silent"), "warn");
        assert_eq!(level("INFO no error here"), "info");
        assert_eq!(level(r#"{"level":"error","message":"x"}"#), "error");
        assert_eq!(level("thread panicked"), "plain");
    }
}
