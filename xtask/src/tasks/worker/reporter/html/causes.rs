//! Causes in HTML: the promise, what came, where on the time axis, what the workers wrote, and how to see it
//! again. Pure.

use std::fmt::Write;

use super::parts::{badge, mismatch};
use crate::tasks::worker::reporter::page::{CauseSpan, CauseView, Tone};
use crate::tasks::worker::reporter::words::{self, markup as text};

/// The width of the strip that shows when a check was tried, in its own units.
const STRIP: f64 = 600.0;

/// All of them.
pub fn causes(html: &mut String, causes: &[CauseView]) {
    causes.iter().for_each(|cause| self::cause(html, cause));
}

fn cause(html: &mut String, cause: &CauseView) {
    let check = &cause.check;
    let id = text(&check.id);
    let _ = writeln!(
        html,
        "<article class=\"cause\" id=\"cause-{id}\">\n<h3><a href=\"#check-{id}\"><code>{id}</code></a> The worker {}</h3>",
        text(&check.promise)
    );
    if !check.contract.is_empty() {
        let _ = writeln!(
            html,
            "<blockquote class=\"contract\">{}</blockquote>",
            with_code(&check.contract)
        );
    }
    mismatch(html, check);
    if let Some(span) = cause.span {
        strip(html, span);
    }
    if !cause.log.is_empty() {
        html.push_str("<h4>What workers wrote meanwhile</h4>\n<pre class=\"log\">");
        for line in &cause.log {
            let _ = writeln!(html, "{}", text(&words::log_line(line)));
        }
        html.push_str("</pre>\n");
    }
    if !cause.command.is_empty() {
        let _ = writeln!(
            html,
            "<h4>This check alone</h4>\n<pre class=\"command\">{}</pre>",
            text(&cause.command)
        );
    }
    consequences(html, cause);
    html.push_str("</article>\n");
}

/// A sentence of the contract.
fn with_code(sentence: &str) -> String {
    let parts = words::with_code(sentence);
    let parts = parts.map(|(is_code, part)| match is_code {
        true => format!("<code>{}</code>", text(part)),
        false => text(part),
    });
    parts.collect()
}

/// When it was tried, on the axis of the run.
fn strip(html: &mut String, span: CauseSpan) {
    let x = |at_ms: f64| at_ms / span.run_ms.max(1.0) * STRIP;
    let (from, to) = (x(span.began_ms), x(span.ended_ms).min(STRIP));
    let [began, took, run] =
        [span.began_ms, span.ended_ms - span.began_ms, span.run_ms].map(words::duration);
    let told = format!("tried at {began}, for {took}, in a run of {run}");
    let _ = writeln!(
        html,
        "<figure class=\"moment\"><svg class=\"strip\" viewBox=\"0 0 {STRIP} 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{told}\"><rect class=\"axis\" width=\"{STRIP}\" height=\"10\" rx=\"2\"/><rect class=\"bad\" x=\"{:.1}\" width=\"{:.1}\" height=\"10\"/></svg><figcaption>{told}: see the <a href=\"#timeline\">timeline</a></figcaption></figure>",
        from.min(STRIP - 3.0),
        (to - from).max(3.0)
    );
}

fn consequences(html: &mut String, cause: &CauseView) {
    let count = match cause.consequences.len() {
        0 => return,
        1 => String::from("1 consequence"),
        count => format!("{count} consequences"),
    };
    let _ = writeln!(
        html,
        "<details class=\"consequences\"><summary>{count}</summary>\n<ul>"
    );
    for check in &cause.consequences {
        let _ = writeln!(
            html,
            "<li>{} <a href=\"#check-{id}\"><code>{id}</code></a> The worker {}</li>",
            badge(Tone::of(check.outcome).class(), check.outcome.as_str()),
            text(&check.promise),
            id = text(&check.id)
        );
    }
    html.push_str("</ul></details>\n");
}
