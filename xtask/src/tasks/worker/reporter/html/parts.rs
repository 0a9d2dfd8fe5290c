//! What checks and causes have in common on a page. Pure.

use std::fmt::Write;

use crate::tasks::worker::record::event::CheckSummary;
use crate::tasks::worker::reporter::words::markup as text;

/// What was promised, what came and where that was seen; or why it isn't known.
pub fn mismatch(html: &mut String, check: &CheckSummary) {
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

/// An outcome in its colour.
pub fn badge(class: &str, word: &str) -> String {
    format!(
        "<span class=\"badge {class}\">{}</span>",
        word.replace('_', " ").to_lowercase()
    )
}
