//! What workers wrote while a check was tried: kept until the check's verdict is known, and told where it
//! didn't pass.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::log::Log;
use crate::tasks::worker::record::facts::{TimedLine, cut};

/// How many lines of each worker are kept.
const LINES: usize = 40;

/// How much of each.
const LINE_BYTES: usize = 500;

/// The lines of auxiliary workers that have ended since the check began.
#[derive(Debug, Clone, Default)]
pub struct LogsOfCheck(Arc<Mutex<Vec<TimedLine>>>);

impl LogsOfCheck {
    /// A check begins.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }

    /// Keeps what an auxiliary worker has written, which is about to end.
    pub fn keep(&self, name: &str, log: &Log, started: Instant, journal: &Journal) {
        let lines = lines_since(log, started, Some(name), journal);
        lock(&self.0).extend(lines);
    }

    /// Everything that was written since the check began, in order, by the worker under test too, if
    /// its log is given.
    pub fn since(&self, began: Instant, log: Option<&Log>, journal: &Journal) -> Vec<TimedLine> {
        let lines = log.map(|log| lines_since(log, began, None, journal));
        let mut lines = lines.unwrap_or_default();
        lines.extend(std::mem::take(&mut *lock(&self.0)));
        lines.sort_by(|one, other| one.at_ms.total_cmp(&other.at_ms));
        lines
    }
}

fn lines_since(log: &Log, began: Instant, name: Option<&str>, journal: &Journal) -> Vec<TimedLine> {
    let lines = log.timed_lines().into_iter();
    let mut lines: Vec<_> = lines.filter(|(at, _)| *at >= began).collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    let told = lines.into_iter().map(|(at, text)| TimedLine {
        at_ms: journal.elapsed_ms(at),
        worker: name.map(str::to_owned),
        text: cut(&text, LINE_BYTES),
    });
    told.collect()
}
