//! The live line of a terminal: what is awaited, for how long, and how long it may take. Its result
//! replaces it. On anything else than a terminal there is none.

use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(100);

/// The line, or nothing.
pub struct Live {
    bar: Option<ProgressBar>,
    unicode: bool,
    phase: String,
}

impl Live {
    /// A line where somebody looks, nothing elsewhere.
    pub fn on_terminal(unicode: bool) -> Self {
        let is_seen = stdout().is_terminal() && stderr().is_terminal();
        let mut live = Self::hidden();
        live.unicode = unicode;
        live.bar = is_seen.then(ProgressBar::no_length);
        live
    }

    /// Never shows anything.
    pub fn hidden() -> Self {
        Self {
            bar: None,
            unicode: false,
            phase: String::new(),
        }
    }

    /// Something is awaited from now on, for `limit_ms` at most where that is known.
    pub fn begin(&mut self, phase: &str, limit_ms: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        bar.finish_and_clear();
        let ticks = if self.unicode {
            "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "
        } else {
            "-\\|/ "
        };
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}{prefix}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let limit = limit_ms.map_or(String::new(), |ms| format!(" of {} s", ms / 1000));
        let bar = ProgressBar::no_length()
            .with_style(style.tick_chars(ticks))
            .with_prefix(limit)
            .with_message(phase.to_owned());
        bar.enable_steady_tick(TICK);
        phase.clone_into(&mut self.phase);
        self.bar = Some(bar);
    }

    /// A step within what is awaited.
    pub fn step(&mut self, step: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {step}", self.phase));
        }
    }

    /// The result is there, or text is going to stand where the line is.
    pub fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Writes above the line.
    pub fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}
