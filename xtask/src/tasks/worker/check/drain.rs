//! Being asked to stop while there is work, while the model loads, and twice.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::apart::{LATENESS, ready_auxiliary};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::process::group::GroupSignal;
use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::{
    BeatState, InferenceRequest, Promise, Readiness, Reason,
};
use crate::tasks::worker::target::open_stream::{
    OpenStream, Progress, read_last_event, read_whole,
};
use crate::tasks::worker::target::reference::References;

/// More than any request here takes.
const AMPLE: &[(&str, &str)] = &[("--drain-timeout", "60")];

/// The same, with so long between heartbeats that none comes by the clock.
const AMPLE_AND_QUIET: &[(&str, &str)] =
    &[("--drain-timeout", "60"), ("--heartbeat-interval", "60")];

/// The shortest drain that a worker can be asked for.
const SHORT: &[(&str, &str)] = &[("--drain-timeout", "1")];
const SHORT_LIMIT: Duration = Duration::from_secs(1);

/// How many requests come after the one that runs: some of them wait, where the worker does few at once.
const OTHERS: u32 = 4;

/// So long after its last byte a request has been taken.
const TO_BE_TAKEN: Duration = Duration::from_millis(100);

/// How long a question may take while the worker stops.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// Far enough apart that two signals are not taken for one.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(300);

/// Ways to stop.
pub const CHECKS: &[Check] = &[
    Check::resilience("drain.finishes", finishes)
        .promise("finishes what runs and what waits when it is asked to stop, and exits with 0")
        .holds(&["T6"])
        .explanation("Sends SIGTERM after the first token of a long stream, with four short ones behind it; fails if one of them is incomplete or refused, the exit status isn't 0, or the last heartbeat isn't Draining.")
        .by_hand(|by| by.stream("-N", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("drain.refuses", refuses)
        .promise("reports that it is draining, and accepts nothing new, while it finishes what is running")
        .holds(&["T2", "T3", "T4", "T5"])
        .explanation("Sends SIGTERM during a stream; fails unless ready says 503 draining, health says draining, new inference is refused with 503 not_ready, and a heartbeat says Draining.")
        .by_hand(|by| by.ready("-i"))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::Stages)]),
    Check::resilience("drain.deadline", deadline)
        .promise("ends when --drain-timeout expires, and tells its clients so")
        .holds(&["T6"])
        .explanation("Stops a worker with --drain-timeout 1 during long streams; fails if the process lives on, its exit status isn't 0, or a stream has no last event.")
        .by_hand(|by| by.stream("-N", &InferenceRequest::new("Once upon a time", 2000)))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::CommandLine)]),
    Check::resilience("drain.second_signal", second_signal)
        .promise("ends at once when it is asked to stop a second time")
        .holds(&["T11"])
        .explanation("Sends SIGTERM twice during long streams; fails if the process lives on.")
        .by_hand(|by| by.stream("-N", &InferenceRequest::new("Once upon a time", 2000)))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("drain.interrupt", interrupt)
        .promise("stops in the same orderly way on Ctrl-C")
        .holds(&["T1"])
        .explanation("Sends SIGINT to an idle worker; fails if the exit status isn't 0 or the last heartbeat isn't Draining.")
        .by_hand(|by| by.ready("-i"))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("drain.while_loading", while_loading)
        .promise("stops in the same orderly way while it is loading its model")
        .holds(&["T10"])
        .explanation("Sends SIGTERM as soon as the port answers; fails if the process lives on or its exit status isn't 0.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::Stages)]),
];

fn finishes(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "drain-finishes", AMPLE)?;
    let stream = running_stream(&auxiliary, known)?;
    let mut others = Vec::new();
    let sent = Instant::now();
    for _ in 0..OTHERS {
        others.push(auxiliary.worker.open_stream(&known.short.request)?);
    }
    // What is answered on another connection by now has come later.
    auxiliary.worker.health()?;
    auxiliary.let_pass(TO_BE_TAKEN)?;
    let was_late = auxiliary.jitter.between(sent, Instant::now()) >= TO_BE_TAKEN / 2;
    auxiliary.worker.tell(GroupSignal::Terminate);
    let answer = stream.finish_stream(known.long.limit(OTHERS));
    let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
    known
        .long
        .expect("the stream that was running at SIGTERM", &answer.text())?;
    for other in others {
        let answer = other.finish(known.long.limit(OTHERS));
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        // On a busy machine it may have come too late to be accepted.
        if !(was_late && answer.status == 503) {
            let answer = read_whole(auxiliary.worker.dialect(), &answer)?;
            let place = "a stream beside the one that ran at SIGTERM, running or waiting";
            known.short.expect(place, &answer.text())?;
        }
    }
    let exit = exits_orderly(&auxiliary, 2 * LATENESS)?;
    Ok(format!(
        "{} tokens and {OTHERS} more streams, then {exit}",
        answer.tokens()
    ))
}

fn refuses(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "drain-refuses", AMPLE_AND_QUIET)?;
    let mut stream = running_stream(&auxiliary, known)?;
    auxiliary.worker.tell(GroupSignal::Terminate);
    match questions_while_draining(&auxiliary, known) {
        // It may have had no more to do than what came in before we could ask.
        Err(_) if has_ended(&auxiliary, &mut stream)? => {
            Ok(String::from("it had finished before it could be asked"))
        }
        Err(error) => Err(error),
        Ok(()) => {
            let rest = stream.finish_stream(known.long.limit(0));
            rest.map_err(|error| auxiliary.worker.blame(error))?;
            Ok(Evidence::new())
        }
    }
}

fn questions_while_draining(auxiliary: &AuxiliaryWorker, known: &References) -> Result<()> {
    let turned = auxiliary.wait_for("the worker to say that it is draining", LATENESS, || {
        Ok(match auxiliary.worker.ready()? {
            Readiness::NotReady(reason) => Some(reason),
            Readiness::Ready => None,
        })
    })?;
    let got = turned.unwrap_or_else(|| String::from("still ready 1 s later"));
    ensure_kept(
        got == "draining",
        "ready after SIGTERM",
        "503 with reason draining",
        got,
    )?;
    let health = auxiliary.worker.health()?;
    let got = health.status;
    ensure_kept(
        got == "draining",
        "health after SIGTERM",
        "status draining",
        got,
    )?;
    let dialect = auxiliary.worker.dialect();
    let request = dialect.inference_request(&known.short.request, false);
    let answer = auxiliary.worker.ask(&request, known.short.limit(1))?;
    auxiliary
        .worker
        .dialect()
        .read_refusal(&answer, Reason::NotReady)?;
    if auxiliary.worker.launch().has_heartbeat {
        says_draining(auxiliary)?;
    }
    Ok(())
}

fn has_ended(auxiliary: &AuxiliaryWorker, stream: &mut OpenStream) -> Result<bool> {
    if stream.progress()? != Progress::Ended {
        return Ok(false);
    }
    let exit = auxiliary.wait_for_exit(2 * LATENESS)?;
    Ok(exit.is_some_and(|exit| auxiliary.worker.expect_orderly(&exit).is_ok()))
}

fn deadline(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "drain-deadline", SHORT)?;
    let mut streams = vec![running_stream(&auxiliary, known)?];
    for _ in 0..3 {
        streams.push(auxiliary.worker.open_stream(&known.long.request)?);
    }
    auxiliary.worker.tell(GroupSignal::Terminate);
    let asked = Instant::now();
    exits_orderly(&auxiliary, SHORT_LIMIT + LATENESS)?;
    let after_s = asked.elapsed().as_secs_f64();
    let (mut ended, mut cut, mut refused) = (0, 0, 0);
    for stream in streams {
        let answer = stream.finish(LATENESS);
        // Not `blame`: that the process has ended is what was asked for.
        let answer = answer.map_err(|error| {
            let expected = "an answer, or a stream that ends with `end` or `error`";
            Mismatch::new(
                "a stream at the end of the drain",
                expected,
                error.to_string(),
            )
        })?;
        if answer.status != 200 {
            auxiliary
                .worker
                .dialect()
                .read_refusal(&answer, Reason::NotReady)?;
            refused += 1;
        } else if read_last_event(auxiliary.worker.dialect(), &answer)? {
            ended += 1;
        } else {
            cut += 1;
        }
    }
    Ok(format!(
        "exit after {after_s:.1} s; of 4 streams {ended} ended, {cut} ended with an error event, {refused} refused"
    ))
}

fn second_signal(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "second-signal", AMPLE)?;
    let stream = running_stream(&auxiliary, known)?;
    auxiliary.worker.tell(GroupSignal::Terminate);
    // It may have ended by then, with nothing left to finish.
    auxiliary.wait_for_exit(BETWEEN_SIGNALS)?;
    auxiliary.worker.tell(GroupSignal::Terminate);
    let asked = Instant::now();
    let exit = auxiliary.wait_for_exit(LATENESS)?;
    drop(stream);
    let Some(exit) = exit else {
        let expected = "an end at once";
        let got = format!("still running after {} s", LATENESS.as_secs());
        return Err(Mismatch::new("a second SIGTERM", expected, got).into());
    };
    let after_ms = asked.elapsed().as_millis();
    Ok(format!("{} after {after_ms} ms", exit.describe()))
}

fn interrupt(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, _) = ready_auxiliary(auxiliaries, "interrupt", AMPLE)?;
    auxiliary.worker.tell(GroupSignal::Interrupt);
    exits_orderly(&auxiliary, 2 * LATENESS)
}

fn while_loading(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let auxiliary = auxiliaries.start("stop-while-loading", |launch| {
        launch.set(SHORT);
    })?;
    let answered = auxiliary.wait_for("an answer on the port", 5 * LATENESS, || {
        let answer = auxiliary
            .worker
            .quiet_client()
            .send(&auxiliary.worker.dialect().health_request(), QUESTION_LIMIT);
        auxiliary.stop.check()?;
        Ok(answer.ok())
    })?;
    let Some(answer) = answered else {
        let place = "a worker that is stopped while it loads";
        return Err(Mismatch::new(place, "an answer on its port", "none").into());
    };
    let status = auxiliary.worker.dialect().read_health(&answer)?.status;
    auxiliary.worker.tell(GroupSignal::Terminate);
    let exit = exit_within(&auxiliary, SHORT_LIMIT + 2 * LATENESS)?;
    Ok(format!("{exit}, asked to stop when it said `{status}`"))
}

/// A long stream whose first token is there.
fn running_stream(auxiliary: &AuxiliaryWorker, known: &References) -> Result<OpenStream> {
    let mut stream = auxiliary.worker.open_stream(&known.long.request)?;
    let progress = stream.read_tokens(1, known.long.limit(0))?;
    ensure_kept(
        matches!(progress, Progress::Tokens(1..) | Progress::Ended),
        "a stream",
        "a first token",
        format!("{progress:?}"),
    )?;
    Ok(stream)
}

/// It ends in time with 0, and its last heartbeat said `Draining`.
fn exits_orderly(auxiliary: &AuxiliaryWorker, limit: Duration) -> Result<Evidence> {
    let evidence = exit_within(auxiliary, limit)?;
    if !auxiliary.worker.launch().has_heartbeat {
        return Ok(evidence);
    }
    says_draining(auxiliary)?;
    Ok(evidence)
}

/// Its last heartbeat says `Draining`, soon.
fn says_draining(auxiliary: &AuxiliaryWorker) -> Result<()> {
    let last = auxiliary.stop.wait_for("the last heartbeat", LATENESS, || {
        let state = auxiliary.last_state()?;
        Ok((state == Some(BeatState::Draining)).then_some(()))
    });
    if in_time(last)?.is_none() {
        let got = format!("{:?}", auxiliary.last_state()?);
        let expected = "a last heartbeat with state Draining";
        return Err(Mismatch::new("stop of the worker", expected, got).into());
    }
    Ok(())
}

fn exit_within(auxiliary: &AuxiliaryWorker, limit: Duration) -> Result<Evidence> {
    let place = "stop of the worker";
    let Some(exit) = auxiliary.wait_for_exit(limit)? else {
        let expected = format!("an exit within {:.1} s", limit.as_secs_f64());
        return Err(Mismatch::new(place, expected, "a process that is still running").into());
    };
    auxiliary.worker.expect_orderly(&exit)?;
    Ok(exit.describe())
}
