//! Where logs go, and in which form.

use anyhow::Result;

use super::{Check, Evidence, Need, ensure_kept};
use crate::tasks::worker::check::lifecycle::has_level;
use crate::tasks::worker::record::event::{Level, Mismatch, Suite};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Promise;
use crate::tasks::worker::target::launch_failures::{BareRun, QUIET, run_until_ready};

/// A worker that nobody asks for anything writes no more than this in [`QUIET`]: a line for a
/// heartbeat that found no hive, and room for what else may happen.
const MANY_LINES: usize = 40;

/// Where logs go, and in which form.
pub const CHECKS: &[Check] = &[
    Check {
        id: "logs.on_stderr",
        suite: Suite::Contract,
        level: Level::Must,
        promise: "logs on standard error, a line for each event and no more",
        contract: "Standard error, one line an event, level first.",
        explanation: "No line on standard error, a log line on standard output, or line after line from a worker that nobody asks for anything fails it.",
        by_hand: |by| by.worker(&[]) + " 2>/dev/null",
        needs: &[Need::Ready, Need::Promised(Promise::CommandLine)],
        run: on_stderr,
    },
    Check {
        id: "logs.json",
        suite: Suite::Contract,
        level: Level::Must,
        promise: "logs JSON lines when it is asked to",
        contract: "With `--log-format json` each event is a JSON object with `timestamp`, `level` and `message`.",
        explanation: "A line on standard error that isn't a JSON object with a level fails it.",
        by_hand: |by| by.worker(&[("--log-format", "json")]),
        needs: &[Need::Ready, Need::Promised(Promise::CommandLine)],
        run: json,
    },
];

fn on_stderr(subject: &Subject) -> Result<Evidence> {
    let run = run_until_ready(subject, &[])?;
    let lines = log_lines(&run, "log")?;
    let stray = run.stdout.iter().find(|line| has_level(line));
    if let Some(line) = stray {
        let place = "standard output of the worker";
        return Err(Mismatch::new(place, "no log lines", format!("`{line}`")).into());
    }
    ensure_kept(
        run.quiet_lines <= MANY_LINES,
        "log of a worker that nobody asks for anything",
        "a line for each event",
        format!("{} lines in {} ms", run.quiet_lines, QUIET.as_millis()),
    )?;
    Ok(format!("{} lines", lines.len()))
}

fn json(subject: &Subject) -> Result<Evidence> {
    let run = run_until_ready(subject, &["--log-format", "json"])?;
    let lines = log_lines(&run, "log with --log-format json")?;
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
