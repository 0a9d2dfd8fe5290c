//! Where logs go, and in which form.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::launch_failures::{BareRun, QUIET, run_until_ready};
use super::row::{Check, Need};
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::dialect::Promise;

const LEVELS: [&str; 8] = [
    "TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL",
];

/// A worker that nobody asks for anything writes no more than this in [`QUIET`]: a line for a
/// heartbeat that found no hive, and room for what else may happen.
const MANY_LINES: usize = 40;

/// The log of the worker under test.
pub const TO_THE_END: &[Check] = &[
    Check::isolation("logs.lines", of_the_worker)
        .promise("logs one line per event, level first")
        .holds(&["L1"])
        .explanation("Fails if a line neither begins with a level nor is a JSON object with one.")
        .by_hand(|by| by.worker(&[]))
        .needs(&[Need::Promised(Promise::Logs)])
        .at(Phase::End),
    Check::isolation("logs.landmarks", landmarks).should()
        .promise("logs the lines that others wait for")
        .holds(&["L2"])
        .explanation("Warns unless the log says, in this order, that the heartbeat task starts, that it has started, that the model is loaded and that the worker is ready.")
        .by_hand(|by| by.worker(&[]))
        .needs(&[Need::Ready, Need::Promised(Promise::Logs)])
        .at(Phase::End),
];

/// The lines that others rely on, in their order; the interval follows the second.
const LANDMARKS: [&str; 4] = [
    "Starting heartbeat task",
    "Heartbeat task started (",
    "Model loaded successfully",
    "Worker ready, starting HTTP server",
];

/// Where logs go, and in which form.
pub const CHECKS: &[Check] = &[
    Check::contract_apart("logs.on_stderr", on_stderr)
        .promise("logs to standard error, one line per event and no more")
        .holds(&["L1"])
        .explanation("Fails if standard error is empty, standard output has log lines, or an idle worker keeps logging.")
        .by_hand(|by| by.worker(&[]) + " 2>/dev/null")
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("logs.json", json)
        .promise("logs JSON lines when it is asked to")
        .holds(&["L3"])
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

fn observed<'s>(auxiliaries: &'s Auxiliaries) -> Result<&'s LogObservation> {
    auxiliaries.observations.of(|| {
        let json: &[_] = &[("--log-format", "json")];
        let runs = run_until_ready(auxiliaries, &[("log-lines", &[]), ("log-json", json)])?;
        let [plain, json] = <[BareRun; 2]>::try_from(runs)
            .map_err(|runs| anyhow::anyhow!("{} runs instead of two", runs.len()))?;
        Ok(LogObservation { plain, json })
    })
}

fn on_stderr(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let run = &observed(auxiliaries)?.plain;
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

fn json(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let run = &observed(auxiliaries)?.json;
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

fn landmarks(subject: &Subject) -> Result<Evidence> {
    let lines = subject.worker.log().tail(usize::MAX);
    let mut lines = lines.iter();
    for landmark in LANDMARKS {
        let found = lines.any(|line| line.contains(landmark));
        let expected = format!("a line with `{landmark}`, in its place");
        ensure_kept(found, "the worker's log", expected, "none")?;
    }
    Ok(format!("{} lines", LANDMARKS.len()))
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
