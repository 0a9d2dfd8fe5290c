//! Where logs go, and in which form.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::launch_failures::{BareRun, QUIET, run_until_ready};
use super::row::{Check, Need};
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Promise;

const LEVELS: [&str; 8] = [
    "TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL",
];

/// A worker that nobody asks for anything writes no more than this in [`QUIET`]: a line for a
/// heartbeat that found no hive, and room for what else may happen.
const MANY_LINES: usize = 40;

/// The log of the worker under test.
pub const TO_THE_END: &[Check] = &[Check::isolation("logs.lines", of_the_worker)
    .promise("logs one line per event, level first")
    .quote("Standard error, one line an event, level first.")
    .explanation("Fails if a line neither begins with a level nor is a JSON object with one.")
    .by_hand(|by| by.worker(&[]))
    .needs(&[Need::Promised(Promise::Logs)])
    .at(Phase::End)];

/// Where logs go, and in which form.
pub const CHECKS: &[Check] = &[
    Check::contract("logs.on_stderr", on_stderr)
        .promise("logs to standard error, one line per event and no more")
        .quote("Standard error, one line an event, level first.")
        .explanation("Fails if standard error is empty, standard output has log lines, or an idle worker keeps logging.")
        .by_hand(|by| by.worker(&[]) + " 2>/dev/null")
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::contract("logs.json", json)
        .promise("logs JSON lines when it is asked to")
        .quote("With `--log-format json` each event is a JSON object with `timestamp`, `level` and `message`.")
        .explanation("Fails if a line on standard error isn't a JSON object with a level.")
        .by_hand(|by| by.worker(&[("--log-format", "json")]))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
];

/// A worker that logs lines, and one that logs JSON.
#[derive(Debug)]
struct LogObservation {
    plain: BareRun,
    json: BareRun,
}

fn observed<'s>(subject: &'s Subject) -> Result<&'s LogObservation> {
    subject.observations.of(|| {
        let json: &[_] = &[("--log-format", "json")];
        let runs = run_until_ready(subject, &[("log-lines", &[]), ("log-json", json)])?;
        let [plain, json] = <[BareRun; 2]>::try_from(runs)
            .map_err(|runs| anyhow::anyhow!("{} runs instead of two", runs.len()))?;
        Ok(LogObservation { plain, json })
    })
}

fn on_stderr(subject: &Subject) -> Result<Evidence> {
    let run = &observed(subject)?.plain;
    let lines = log_lines(run, "log")?;
    let stray = run.stdout.iter().find(|line| has_level(line));
    if let Some(line) = stray {
        let place = "standard output of the worker";
        return Err(Mismatch::new(place, "no log lines", format!("`{line}`")).into());
    }
    ensure_kept(
        run.quiet_lines <= MANY_LINES,
        "log of an idle worker",
        "a line for each event",
        format!("{} lines in {} ms", run.quiet_lines, QUIET.as_millis()),
    )?;
    Ok(format!("{} lines", lines.len()))
}

fn json(subject: &Subject) -> Result<Evidence> {
    let run = &observed(subject)?.json;
    let lines = log_lines(run, "log with --log-format json")?;
    for line in &lines {
        let is_json = line.trim_start().starts_with('{') && has_level(line);
        let expected = "JSON objects with a level";
        ensure_kept(
            is_json,
            "log with --log-format json",
            expected,
            format!("`{line}`"),
        )?;
    }
    Ok(format!("{} lines", lines.len()))
}

fn log_lines<'r>(run: &'r BareRun, place: &str) -> Result<Vec<&'r str>, Mismatch> {
    let ready = "a worker that becomes ready";
    ensure_kept(run.became_ready, place, ready, run.describe())?;
    let lines = run.stderr.iter().map(|(_, line)| line.as_str());
    let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    ensure_kept(!lines.is_empty(), place, "lines on standard error", "none")?;
    Ok(lines)
}

fn of_the_worker(subject: &Subject) -> Result<Evidence> {
    let lines = subject.worker.log().tail(usize::MAX);
    let count = lines.len();
    ensure_kept(count > 0, "the worker's log", "at least one line", "none")?;
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let expected = "a line that begins with its level, such as `[INFO] ...`, or JSON";
        ensure_kept(
            has_level(line),
            "the worker's log",
            expected,
            format!("`{line}`"),
        )?;
    }
    Ok(format!("{count} lines"))
}

/// `[INFO] ...`, `INFO ...`, or a JSON object with a `level`.
pub fn has_level(line: &str) -> bool {
    let line = line.trim_start();
    if line.starts_with('{') {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        return object["level"].is_string();
    }
    let word = line.trim_start_matches('[');
    let end = word
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(word.len());
    LEVELS
        .iter()
        .any(|level| level.eq_ignore_ascii_case(&word[..end]))
}

#[cfg(test)]
mod tests {
    use super::has_level;

    #[test]
    fn a_level_comes_first() {
        assert!(has_level("[INFO] Model loaded successfully"));
        assert!(has_level("WARN the hive does not answer"));
        assert!(has_level("[warning] the hive does not answer"));
        assert!(has_level(r#"{"level":"info","message":"x"}"#));
        assert!(!has_level("Model loaded successfully"));
        assert!(!has_level("[INFORMATION] x"));
        assert!(!has_level(r#"{"message":"x"}"#));
    }
}
