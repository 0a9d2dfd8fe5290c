//! What operators read: one line an event on stderr, level first. Nothing here decides what is
//! worth a line.
//!
//! Hand-written because the whole of it is below: no filter, no span, no colour.

use std::io::Write;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `[INFO] Model loaded successfully`
    Text,
    /// `{"timestamp":"...","level":"info","message":"Model loaded successfully"}`
    Json,
}

/// Sets the format for the rest of the process. Until then, and by a second call, nothing changes.
pub fn init(format: LogFormat) {
    let _ = FORMAT.set(format);
    // A panic is a bug, and must not break the promise of one line an event while it is reported.
    std::panic::set_hook(Box::new(|panic| error(&format!("{panic}"))));
}

/// Something that an operator expects to happen.
pub fn info(message: &str) {
    write("INFO", message);
}

/// Something that the worker copes with, but somebody should know.
pub fn warn(message: &str) {
    write("WARN", message);
}

/// Something that the worker does not cope with.
pub fn error(message: &str) {
    write("ERROR", message);
}

/// A warning that clients can bring about as often as they like: told at most once in ten seconds,
/// and then with how many were not.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    const PAUSE: Duration = Duration::from_secs(10);

    /// One that has told nothing yet.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new((None, 0)),
        }
    }

    /// Warns, unless it did so a short while ago.
    pub fn warn(&self, message: &str) {
        if let Some(message) = self.at(Instant::now(), message) {
            warn(&message);
        }
    }

    fn at(&self, now: Instant, message: &str) -> Option<String> {
        let mut state = self.state.lock().expect("no panic under this lock");
        let (last, untold) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < Self::PAUSE) {
            *untold += 1;
            return None;
        }
        *last = Some(now);
        Some(match std::mem::take(untold) {
            0 => message.to_owned(),
            untold => format!("{message} ({untold} more like it)"),
        })
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

/// The last line of a worker that can't serve. Plain in every format, as whoever started the
/// worker looks for it before it knows of formats.
pub fn fatal(error: &anyhow::Error) {
    write_line(&format!("error: {}", one_line(&format!("{error:#}"))));
}

fn write(level: &str, message: &str) {
    let format = FORMAT.get().copied().unwrap_or(LogFormat::Text);
    write_line(&line(format, level, message));
}

fn line(format: LogFormat, level: &str, message: &str) -> String {
    match format {
        LogFormat::Text => format!("[{level}] {}", one_line(message)),
        LogFormat::Json => serde_json::json!({
            "timestamp": crate::heartbeat::timestamp(),
            "level": level.to_ascii_lowercase(),
            "message": message,
        })
        .to_string(),
    }
}

/// Names and paths may hold newlines and terminal codes; a line must stay one line.
fn one_line(message: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    message.chars().map(escape).collect()
}

/// One write for the whole line, so that lines of several threads don't mix; a stderr that is
/// closed must not end the worker, so errors are dropped.
fn write_line(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_starts_with_its_level() {
        assert_eq!(
            line(LogFormat::Text, "INFO", "a\nb\x1b[2J"),
            "[INFO] a\\nb\\u{1b}[2J"
        );
    }

    #[test]
    fn what_repeats_is_told_once_in_ten_seconds() {
        let throttle = Throttle::new();
        let start = Instant::now();
        let told: Vec<_> = (0..=100)
            .filter_map(|n| throttle.at(start + n * Duration::from_millis(100), "full"))
            .collect();
        assert_eq!(told, ["full", "full (99 more like it)"]);
    }

    #[test]
    fn json_lines_are_json() {
        let text = line(LogFormat::Json, "WARN", "a\n\"b\"");
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["level"], "warn");
        assert_eq!(parsed["message"], "a\n\"b\"");
        assert!(!text.contains('\n'));
    }
}
