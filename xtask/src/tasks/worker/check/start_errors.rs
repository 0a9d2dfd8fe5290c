//! Starts that can't work: one clear line, a status that isn't 0, and no worker that serves anyway.

use std::time::Duration;

use anyhow::Result;

use super::corrupt_models;
use super::judge::{Evidence, ensure_kept};
use super::launch_failures::{BareRun, EXIT_LIMIT, StartErrors};
use super::logs::has_level;
use super::row::{Check, Need};
use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::dialect::{BeatState, Promise};

const EXPLANATION: &str = "Fails if it serves anyway, exits with 0, crashes, stays, or writes anything to standard error but log lines and one line `error: what: cause`.";

/// Starts that can't work.
pub const CHECKS: &[Check] = &[
    Check::contract_apart("start_errors.missing_model", |auxiliaries| judge(auxiliaries, &["missing model", "folder as model"]))
        .promise("refuses to start without its model")
        .holds(&["S2", "S3", "S4", "S5"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--model", "missing.gguf")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.not_a_model", |auxiliaries| judge(auxiliaries, &["text file as model", "empty file as model"]))
        .promise("refuses to start with a text file or an empty file as its model")
        .holds(&["S6", "C3"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--model", "README.md")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.truncated_model", |auxiliaries| judge(auxiliaries, &["half a model", "a model without its end"]))
        .promise("refuses to start with a model whose end is missing")
        .holds(&["S7"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--model", "half.gguf")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.unsupported_model", |auxiliaries| judge(auxiliaries, &["unknown architecture", "unknown quantisation"]))
        .promise("refuses to start with an unknown architecture or quantisation")
        .holds(&["S8"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--model", "unknown.gguf")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.taken_port", |auxiliaries| judge(auxiliaries, &["taken port"]))
        .promise("refuses to start on a port that is in use")
        .holds(&["S9"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--port", "19200")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.unknown_backend", |auxiliaries| judge(auxiliaries, &["unknown backend"]))
        .promise("refuses to start on an unknown backend")
        .holds(&["S10"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--backend", "abacus")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.absent_backend", |auxiliaries| judge(auxiliaries, &["metal", "cuda"]))
        .promise("never falls back to the CPU when the requested backend is missing")
        .holds(&["S10", "S13"])
        .explanation("Tries --backend metal off macOS, and cuda without an NVIDIA device; fails if it serves anyway, or like the other start errors.")
        .by_hand(|by| by.worker(&[("--backend", "metal")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.absent_device", |auxiliaries| judge(auxiliaries, &["absent device", "second device"]))
        .promise("refuses to start on a device that this machine lacks")
        .holds(&["S11", "C6"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--device", "4242")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.open_host", |auxiliaries| judge(auxiliaries, &["open host without a token"]))
        .promise("refuses to listen beyond loopback without a token")
        .holds(&["S17"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--host", "0.0.0.0")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.no_name", |auxiliaries| judge(auxiliaries, &["no name"]))
        .promise("refuses to start without a name")
        .holds(&["C2"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--worker-id", "''")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.plain_in_json", |auxiliaries| judge(auxiliaries, &["JSON logs and no model"]))
        .promise("says plainly why it can't start, also where its log is JSON")
        .holds(&["L4"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--model", "missing.gguf"), ("--log-format", "json")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.one_line", |auxiliaries| judge(auxiliaries, &["a line break in the model's name"]))
        .promise("keeps to one line, whatever the names in it")
        .holds(&["L5"])
        .explanation(EXPLANATION)
        .by_hand(|by| by.worker(&[("--model", "$'no\\nmodel.gguf'")]))
        .needs(&[Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("start_errors.last_word", last_word)
        .promise("sends Failed as its last heartbeat if it can't serve and has sent any")
        .holds(&["B3"])
        .explanation("Starts a worker with half a model and a hive of its own; fails if it sends heartbeats and the last one says anything but Failed.")
        .by_hand(|by| by.worker(&[("--model", "half.gguf")]))
        .needs(&[Need::Promised(Promise::CommandLine), Need::Promised(Promise::Heartbeats)]),
];

/// How long the end of a worker that can't serve is awaited, which others judge.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long its last heartbeat may be under way in the hive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(1);

fn last_word(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let folder = auxiliaries.context.folder.join("last-word-model");
    std::fs::create_dir_all(&folder)?;
    let model = corrupt_models::half(&auxiliaries.launch.model, &folder)?;
    let auxiliary = auxiliaries.start("last-word", |launch| launch.model = model)?;
    let ended = auxiliary.wait_for_exit(END_LIMIT)?;
    std::fs::remove_dir_all(&folder)?;
    if ended.is_none() {
        return Ok(String::from("it didn't exit, which other checks judge"));
    }
    let said = || -> Result<Vec<BeatState>> {
        let beats = auxiliary.beats()?.into_iter();
        Ok(beats.map(|(_, beat)| beat.state).collect())
    };
    let waited = auxiliary
        .stop
        .wait_for("the last heartbeat", ARRIVAL_LIMIT, || {
            Ok((said()?.last() == Some(&BeatState::Failed)).then_some(()))
        });
    in_time(waited)?;
    let said = said()?;
    let place = "heartbeats of a worker that couldn't serve";
    let kept = said.last().is_none_or(|last| *last == BeatState::Failed);
    ensure_kept(
        kept,
        place,
        "state Failed as the last one",
        format!("{said:?}"),
    )?;
    Ok(match said.len() {
        0 => String::from("it exited before it sent anything"),
        count => format!("the last of {count}"),
    })
}

fn judge(auxiliaries: &Auxiliaries, names: &[&str]) -> Result<Evidence> {
    let errors = auxiliaries
        .observations
        .of(|| StartErrors::make(auxiliaries))?;
    let mut lines = Vec::new();
    for (name, run) in errors.of(names) {
        lines.push(error_line(name, run)?);
    }
    anyhow::ensure!(!lines.is_empty(), "this machine can't produce such a start");
    Ok(format!("{} starts, one clear line each", lines.len()))
}

/// The one line that says why the worker didn't serve.
fn error_line(name: &str, run: &BareRun) -> Result<String, Mismatch> {
    let place = format!("a start with {name}");
    let refused = run
        .exit
        .is_some_and(|exit| exit.code().is_some_and(|code| code != 0));
    let expected = "an exit status other than 0";
    ensure_kept(
        refused && !run.became_ready,
        &place,
        expected,
        run.describe(),
    )?;
    let place = format!("{place}, standard error");
    let expected = "one line `error: what: cause`, and otherwise only log lines";
    let (errors, others): (Vec<_>, Vec<_>) = run
        .stderr
        .iter()
        .filter(|(_, line)| !line.trim().is_empty())
        .partition(|(_, line)| line.starts_with("error:"));
    let shown = || {
        let lines: Vec<&str> = run.stderr.iter().map(|(_, line)| line.as_str()).collect();
        match lines.as_slice() {
            [] => String::from("nothing"),
            lines => format!("`{}`", lines[..lines.len().min(5)].join(" / ")),
        }
    };
    let [(at, error)] = errors.as_slice() else {
        return Err(Mismatch::new(place, expected, shown()));
    };
    // What a command line parser says of a wrong value is for it to say.
    let is_usage = ["unknown backend", "no name"].contains(&name);
    let has_cause = error
        .strip_prefix("error: ")
        .and_then(|rest| rest.split_once(": "))
        .is_some_and(|(what, cause)| !what.trim().is_empty() && !cause.trim().is_empty());
    let is_clear = has_cause && others.iter().all(|(_, line)| has_level(line));
    ensure_kept(is_usage || is_clear, &place, expected, shown())?;
    let stayed = run.lived.saturating_sub(*at);
    ensure_kept(
        stayed <= EXIT_LIMIT,
        &place,
        "an exit within 2 s of that line",
        format!("an exit {:.1} s after it", stayed.as_secs_f64()),
    )?;
    Ok(error.clone())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    fn run(code: Option<i32>, stderr: &[&str]) -> BareRun {
        let line = |line: &&str| (Duration::from_millis(100), (*line).to_owned());
        BareRun {
            exit: code.map(|code| ExitStatus::from_raw(code << 8)),
            became_ready: false,
            lived: Duration::from_millis(200),
            stdout: Vec::new(),
            stderr: stderr.iter().map(line).collect(),
            quiet_lines: 0,
        }
    }

    #[test]
    fn one_clear_line_is_right_and_nothing_else_is() {
        let good = "error: model x.gguf: no such file";
        assert_eq!(
            error_line("missing model", &run(Some(1), &[good])).unwrap(),
            good
        );
        assert!(error_line("x", &run(Some(1), &["[INFO] Loading", good])).is_ok());
        assert!(error_line("x", &run(Some(0), &[good])).is_err(), "status 0");
        assert!(error_line("x", &run(None, &[good])).is_err(), "stays");
        assert!(error_line("x", &run(Some(1), &[])).is_err(), "silent");
        assert!(
            error_line("x", &run(Some(1), &[good, good])).is_err(),
            "two"
        );
        assert!(
            error_line("x", &run(Some(1), &["error: no"])).is_err(),
            "no cause"
        );
        assert!(error_line("x", &run(Some(1), &[good, "  at load.rs:5"])).is_err());
        let late = BareRun {
            lived: Duration::from_secs(4),
            ..run(Some(1), &[good])
        };
        assert!(error_line("x", &late).is_err(), "late");
        let killed = BareRun {
            exit: Some(ExitStatus::from_raw(11)),
            ..run(None, &[good])
        };
        assert!(error_line("x", &killed).is_err(), "crash");
    }
}
