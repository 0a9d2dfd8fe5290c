//! Start, logs, orderly stop.

use std::time::Duration;

use anyhow::Result;

use super::{Check, Evidence, Need, ensure_kept};
use crate::tasks::worker::net::raw::RawConnection;
use crate::tasks::worker::process::port;
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::record::event::{Level, Mismatch, NO_SURVIVORS, Suite};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::BeatState;
use crate::tasks::worker::target::other_start::OtherStart;

/// The start: first of all.
pub const START: &[Check] = &[
    Check {
        id: "start.answers",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "answers HTTP within a second of its start, while the model is still loading",
        contract: "The port answers within 1 s of the start, while the model is still loading.",
        explanation: "Health is asked for every few milliseconds from the start on; a first answer after more than a second fails it.",
        by_hand: |by| by.health("-i"),
        needs: &[],
        run: answers_soon,
    },
    Check {
        id: "start.ready",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "becomes ready in time and says nothing wrong on the way",
        contract: r#"200 `{"ready":true}` while inference is taken; else 503 `{"ready":false,"reason":"loading"}` (or `draining`) with `Retry-After`."#,
        explanation: "Not being ready within --timeout, an early exit, or a malformed answer on the way fails it.",
        by_hand: |by| by.ready("-i"),
        needs: &[],
        run: becomes_ready,
    },
];

/// Who can reach the port: once the worker is up.
pub const HOST: &[Check] = &[Check {
    id: "start.loopback_only",
    suite: Suite::Isolation,
    level: Level::Must,
    promise: "can't be reached from other machines unless it was told to",
    contract: "A `--host` that others can reach (anything but loopback) needs a token in the environment variable `WORKER_API_TOKEN`.",
    explanation: "Without --host the worker is asked for health at this machine's other addresses; an answer there fails it.",
    by_hand: |by| by.health("-i -m 1 --connect-to 127.0.0.1:18081:127.0.0.2:18081"),
    needs: &[Need::Ready],
    run: loopback_only,
}];

/// The check that a worker fails which ends unasked, whatever else it was asked.
pub const LIVES: &str = "lifecycle.lives";

/// Logs, and the stop: last of all.
pub const END: &[Check] = &[
    Check {
        id: LIVES,
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "lives and answers until it is asked to stop",
        contract: "200 as long as the process lives.",
        explanation: "After all other checks the process has to be there and answer health; an end of the process unasked, or silence, fails it.",
        by_hand: |by| by.health("-i"),
        needs: &[],
        run: lives,
    },
    Check {
        id: "logs.lines",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "logs one line an event, level first",
        contract: "Standard error, one line an event, level first.",
        explanation: "A line that begins with no level and is no JSON object with one fails it.",
        by_hand: |by| by.worker(&[]),
        needs: &[],
        run: logs_lines,
    },
    Check {
        id: "shutdown.orderly",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "stops when it is asked to: a last heartbeat says so, and it exits with 0",
        contract: "The last heartbeat says `Draining`. Exit status 0.",
        explanation: "Another exit status, no end within the drain time, or no last heartbeat with state Draining fails it.",
        by_hand: |by| by.worker(&[]) + " & sleep 5; kill -TERM $!; wait $!; echo $?",
        needs: &[Need::Ready],
        run: stops_orderly,
    },
    Check {
        id: NO_SURVIVORS,
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "leaves no process and no held port behind when it ends",
        contract: "The last heartbeat says `Draining`. Exit status 0.",
        explanation: "After the worker's end a process that it started, in its group or out of it, or a port that is still held fails it; whatever is found is ended.",
        by_hand: |by| {
            by.worker(&[])
                + " & sleep 5; kill -TERM $!; wait $!; ps -o pid,pgid,args -g $!; lsof -nP -iTCP:18081"
        },
        needs: &[],
        run: leaves_nobody,
    },
];

/// How soon the port has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The worker's default drain time and a little for the rest.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// How long a connection to another address may take: it is this machine's own.
const ELSEWHERE_LIMIT: Duration = Duration::from_millis(300);

/// How long the last question for health may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

/// How long the last heartbeat may be under way after the process has ended: the hive, too, may be
/// waiting for a core.
const LAST_BEAT_LIMIT: Duration = Duration::from_secs(3);

const LEVELS: [&str; 8] = [
    "TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL",
];

pub fn answers_soon(subject: &Subject) -> Result<Evidence> {
    let place = "start of the worker";
    let Some(first_answer) = subject.start_up.first_answer else {
        let mismatch = subject.not_ready.clone();
        let none = || Mismatch::new(place, "an answer within 1 s", "none");
        return Err(mismatch.unwrap_or_else(none).into());
    };
    let first_answer_ms = first_answer.as_millis();
    let started = subject.worker.started();
    if subject.jitter.excess(started, first_answer) <= ANSWER_LIMIT {
        return Ok(format!("after {first_answer_ms} ms"));
    }
    let again = OtherStart::of(subject)?
        .first_answer
        .unwrap_or(first_answer);
    let again_ms = again.as_millis();
    ensure_kept(
        again <= ANSWER_LIMIT,
        place,
        "an answer within 1 s",
        format!(
            "the first after {first_answer_ms} ms, and after {again_ms} ms at the best of other starts"
        ),
    )?;
    Ok(format!("after {again_ms} ms, at another start"))
}

pub fn loopback_only(subject: &Subject) -> Result<Evidence> {
    let (port, stop) = (subject.worker.launch().port, subject.context.stop);
    let addresses = port::other_addresses();
    for address in &addresses {
        let Ok(mut connection) = RawConnection::open_at(*address, port, ELSEWHERE_LIMIT, stop)
        else {
            stop.check()?;
            continue;
        };
        connection.send_request(&subject.dialect().health_request(), HEALTH_LIMIT)?;
        let answer = connection.read_answer("health", HEALTH_LIMIT);
        let is_ours = answer
            .and_then(|answer| Ok(subject.dialect().read_health(&answer)?))
            .is_ok_and(|health| {
                health.worker_id.as_ref() == Some(&subject.worker.launch().worker_id)
            });
        ensure_kept(
            !is_ours,
            &format!("health at {address}"),
            "no answer but on 127.0.0.1",
            "the worker's",
        )?;
    }
    Ok(format!("{} other addresses tried", addresses.len()))
}

pub fn becomes_ready(subject: &Subject) -> Result<Evidence> {
    if let Some(mismatch) = &subject.not_ready {
        return Err(mismatch.clone().into());
    }
    if let Some(mismatch) = &subject.start_up.mismatch {
        return Err(mismatch.clone().into());
    }
    let ready_ms = subject.start_up.ready.unwrap_or_default().as_millis();
    Ok(format!("after {ready_ms} ms"))
}

pub fn lives(subject: &Subject) -> Result<Evidence> {
    subject.worker.ensure_alive()?;
    // What keeps a worker from being ready, and what health says, are other checks' matters.
    if subject.not_ready.is_none() {
        subject.ask(&subject.dialect().health_request(), HEALTH_LIMIT)?;
    }
    Ok(format!(
        "for {:.1} s",
        subject.worker.started().elapsed().as_secs_f64()
    ))
}

pub fn logs_lines(subject: &Subject) -> Result<Evidence> {
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

pub fn stops_orderly(subject: &Subject) -> Result<Evidence> {
    let exit = match subject.worker.stop_orderly(STOP_LIMIT) {
        Ok(exit) => exit,
        Err(error) => return Err(blame_timeout(error)),
    };
    let place = "stop of the worker";
    ensure_kept(
        exit.status.code() == Some(0),
        place,
        "exit status 0",
        exit.describe(),
    )?;
    subject.hive.ensure_alive()?;
    // Beats that follow each other closely may overtake each other on their way: the last one is the
    // one that arrived last, or the one that was sent last.
    let last_states = || -> Result<Vec<BeatState>> {
        let heartbeats = subject.hive.heartbeats();
        let beats = heartbeats
            .iter()
            .map(|beat| subject.dialect().read_heartbeat(beat));
        let beats = beats.collect::<Result<Vec<_>, _>>()?;
        let sent_last = beats.iter().max_by_key(|beat| beat.sequence);
        let last = beats.last().into_iter().chain(sent_last);
        Ok(last.map(|beat| beat.state).collect())
    };
    let draining = subject
        .context
        .stop
        .wait_for("the last heartbeat", LAST_BEAT_LIMIT, || {
            Ok(last_states()?.contains(&BeatState::Draining).then_some(()))
        });
    if let Err(error) = draining {
        error.downcast::<TimedOut>()?;
        let got = last_states()?
            .first()
            .map_or(String::from("no heartbeat"), |state| format!("{state:?}"));
        return Err(Mismatch::new(place, "a last heartbeat with state Draining", got).into());
    }
    say_who_and_in_order(subject)?;
    Ok(String::from("exit status 0"))
}

/// The beats of the stop, too, say whose they are, and that they come after all others.
fn say_who_and_in_order(subject: &Subject) -> Result<()> {
    let heartbeats = subject.hive.heartbeats();
    let beats = heartbeats
        .iter()
        .map(|beat| subject.dialect().read_heartbeat(beat));
    let beats = beats.collect::<Result<Vec<_>, _>>()?;
    let worker_id = &subject.worker.launch().worker_id;
    let sent_last = beats.iter().max_by_key(|beat| beat.sequence);
    for beat in beats
        .iter()
        .filter(|beat| beat.state == BeatState::Draining)
    {
        let place = "last heartbeat, `worker_id`";
        ensure_kept(
            beat.worker_id == *worker_id,
            place,
            worker_id,
            &beat.worker_id,
        )?;
    }
    if let Some(last) = sent_last.filter(|last| last.state != BeatState::Draining) {
        let expected = format!("more than {}, which said {:?}", last.sequence, last.state);
        let place = "last heartbeat, `sequence`";
        return Err(Mismatch::new(place, expected, "less").into());
    }
    Ok(())
}

pub fn leaves_nobody(subject: &Subject) -> Result<Evidence> {
    let left_behind = subject.worker.end();
    ensure_kept(
        left_behind.is_empty(),
        "the process table after the worker's end",
        "no process of the worker's and no held port",
        left_behind.join("; "),
    )?;
    Ok(Evidence::new())
}

/// `[INFO] ...`, `INFO ...`, or a JSON object with a `level`.
pub(super) fn has_level(line: &str) -> bool {
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

fn blame_timeout(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<TimedOut>() {
        Ok(timed_out) => {
            let got = format!("still running after {} s", timed_out.limit.as_secs());
            Mismatch::new("stop of the worker", "an end after SIGTERM", got).into()
        }
        Err(error) => error,
    }
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
