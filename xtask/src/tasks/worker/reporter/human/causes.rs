//! Causes for people at a terminal: each in full, and what follows from it in a few lines. Pure.

use super::page::mismatch;
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary};
use crate::tasks::worker::reporter::page::CauseView;
use crate::tasks::worker::reporter::words;

/// How many of the lines that workers wrote are shown.
const LOG_LINES: usize = 5;

/// How long a line with names may be.
const WIDTH: usize = 96;

/// The lines of all causes.
pub fn lines(causes: &[CauseView]) -> Vec<String> {
    causes.iter().flat_map(cause).collect()
}

fn cause(cause: &CauseView) -> Vec<String> {
    let CauseView { check, .. } = cause;
    let mut lines = vec![format!("❌ {}: the worker {}", check.id, check.promise)];
    lines.extend(mismatch(check));
    let log = &cause.log[cause.log.len().saturating_sub(LOG_LINES)..];
    lines.extend(log.iter().map(|line| {
        let worker = line.worker.as_ref();
        let worker = worker.map_or(String::new(), |name| format!(" {name}:"));
        let text = words::one_line(&words::shortened(&line.text));
        format!("      log:     {worker} {text}")
    }));
    let of = |status| {
        let those = cause.consequences.iter();
        those.filter(move |check: &&CheckSummary| check.outcome == status)
    };
    for (status, word) in [
        (CheckStatus::Failed, "also broke"),
        (CheckStatus::Warning, "warned of"),
        (CheckStatus::Skipped, "not tried"),
    ] {
        let ids: Vec<&str> = of(status).map(|check| check.id.as_str()).collect();
        lines.extend(listed(word, &ids));
    }
    lines
}

/// Names after a word, in lines that fit.
fn listed(word: &str, ids: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for id in ids {
        match lines.last_mut() {
            Some(line) if line.len() + id.len() + 2 <= WIDTH => {
                line.push_str(", ");
                line.push_str(id);
            }
            Some(line) => {
                line.push(',');
                lines.push(format!("{:16}{id}", ""));
            }
            None => lines.push(format!("      {word}: {id}",)),
        }
    }
    if let (Some(first), true) = (lines.first_mut(), ids.len() > 1) {
        *first = first.replacen(word, &format!("{word} {}", ids.len()), 1);
    }
    lines
}
