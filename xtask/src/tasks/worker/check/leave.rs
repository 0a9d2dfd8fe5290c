//! Clients that go away: their generation stops, nobody else's does.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::apart::{LATENESS, QUIET_CORES, answers_as_ever, cores_used, ready_auxiliary};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::{EventKind, Heartbeat, Mismatch};
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::{
    BeatState, HeartbeatPayload, InferenceRequest, Promise,
};
use crate::tasks::worker::target::open_stream::{Departure, OpenStream, Progress};
use crate::tasks::worker::target::reference::References;

/// The promise itself.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// A crowd of clients leaves this much work behind, however fast the model: enough for a worker that
/// serves four at a time to be seen at it when it should have stopped.
const WORK_LEFT: Duration = Duration::from_secs(16);

/// The smallest and the largest crowd.
const CROWD: (usize, usize) = (4, 32);

/// How many words tell how long a prompt takes to read.
const SAMPLE_WORDS: u64 = 16;

/// How long a prompt should take to read, where the context has room for it.
const PREFILL: Duration = Duration::from_secs(1);

/// How many come at once where some are to wait for their turn.
const QUEUE: usize = 16;

/// Room for the largest crowd, however few the worker serves at once.
const ROOMY: &[(&str, &str)] = &[("--max-queue", "64")];

/// How long leavers wait for a token that they need not get: the worker may serve one at a time.
const SEEN_LIMIT: Duration = Duration::from_millis(300);

/// Of what a worker uses when it is busy, so much may go on without being taken for generation.
const QUIET_SHARE: f64 = 0.3;

/// Clients that go away.
pub const CHECKS: &[Check] = &[
    Check::resilience("leave.fin", |auxiliaries| leave_in_decode(auxiliaries, "leave-fin", Departure::Fin))
        .promise("stops generating within a second when clients close their streams")
        .holds(&["K1"])
        .explanation("Closes a crowd of streams after the first token; fails if 2 s later the worker is still Busy, still uses the processor or answers late.")
        .by_hand(|by| by.stream("-N -m 1", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("leave.rst", |auxiliaries| leave_in_decode(auxiliaries, "leave-rst", Departure::Reset))
        .promise("stops generating within a second when clients reset their connections")
        .holds(&["K1"])
        .explanation("Resets a crowd of streams after the first token; fails if 2 s later the worker is still Busy, still uses the processor or answers late.")
        .by_hand(|by| by.stream("-N -m 1", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("leave.extra_bytes", leave_with_extra_bytes)
        .promise("stops generating within a second when clients that sent extra bytes leave")
        .holds(&["K5"])
        .explanation("Sends a line break after the body of each of a crowd of plain requests, as some clients do, and closes them; fails if 2 s later the worker is still Busy, still uses the processor or answers late.")
        .by_hand(|by| by.infer("-m 1", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("leave.prefill", leave_in_prefill)
        .promise("stops working within a second when clients leave before their first token")
        .holds(&["K3"])
        .explanation("Sends a crowd of long prompts and leaves at once, half by FIN, half by RST; fails if the worker is still busy 2 s afterwards.")
        .by_hand(|by| by.stream("-m 0.05", &InferenceRequest::new("(a long one)", 100)))
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("leave.plain", leave_plain)
        .promise("stops working within a second when clients that wait for a whole answer leave")
        .holds(&["K2"])
        .explanation("Abandons a crowd of plain requests while they run; fails if the worker is still busy 2 s afterwards.")
        .by_hand(|by| by.infer("-m 0.5", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("leave.queued", leave_queued)
        .promise("generates nothing for clients that left while they were queued")
        .holds(&["K3"])
        .explanation("In a crowd, those without a token leave and the others read to the end; fails if the worker is still busy 2 s after that.")
        .by_hand(|by| by.infer("-m 0.2", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)]),
    Check::resilience("leave.others", leave_beside_others)
        .promise("keeps serving everybody else when a client leaves")
        .holds(&["K4"])
        .explanation("Lets clients come and leave beside two that stay; fails if those two get a different text, an error or a broken stream.")
        .by_hand(|by| by.stream("-N", &InferenceRequest::new("Once upon a time", 200)))
        .needs(&[Need::Ready]),
];

/// A worker that waits for the end of the connection alone doesn't see it behind bytes that it hasn't
/// read. Not streamed: whoever writes tokens is told by the connection itself.
fn leave_with_extra_bytes(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    leave_plain_after(auxiliaries, "leave-extra-bytes", |requests| {
        for mut request in requests {
            request.send_more(b"\r\n")?;
            request.leave(Departure::Fin)?;
        }
        Ok(())
    })
}

/// Lets each of a crowd of streams leave once the first of them has a token.
fn leave_in_decode(auxiliaries: &Auxiliaries, name: &str, how: Departure) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, name, ROOMY)?;
    let idle = cores_used(&auxiliary)?;
    let mut streams = crowd(&auxiliary, known, &known.long.request, true)?;
    let first = streams[0].read_tokens(1, known.long.limit(0))?;
    ensure_kept(
        matches!(first, Progress::Tokens(_) | Progress::Ended),
        "a stream",
        "a first token",
        format!("{first:?}"),
    )?;
    let busy = cores_used(&auxiliary)?;
    streams
        .into_iter()
        .try_for_each(|stream| stream.leave(how))?;
    stop(auxiliaries, &auxiliary, known, idle, busy)
}

fn leave_in_prefill(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "leave-prefill", ROOMY)?;
    let idle = cores_used(&auxiliary)?;
    let request = slow_to_begin(&auxiliary, known)?;
    super::apart::wait_until_idle(&auxiliary)?;
    let mut streams = crowd(&auxiliary, known, &request, true)?;
    let begun = streams[0].progress()?;
    leave_both_ways(streams)?;
    let evidence = stop(auxiliaries, &auxiliary, known, idle, None)?;
    Ok(match begun {
        Progress::Waiting | Progress::Tokens(0) => evidence,
        _ => format!("{evidence}; the first had its first token already"),
    })
}

fn leave_plain(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    leave_plain_after(auxiliaries, "leave-plain", leave_both_ways)
}

/// Lets a crowd leave whose answers would come in one piece.
fn leave_plain_after(
    auxiliaries: &Auxiliaries,
    name: &str,
    leave: impl FnOnce(Vec<OpenStream>) -> Result<()>,
) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, name, ROOMY)?;
    let idle = cores_used(&auxiliary)?;
    let requests = crowd(&auxiliary, known, &known.long.request, false)?;
    let busy = cores_used(&auxiliary)?;
    leave(requests)?;
    stop(auxiliaries, &auxiliary, known, idle, busy)
}

fn leave_queued(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "leave-queued", ROOMY)?;
    let idle = cores_used(&auxiliary)?;
    let request = known.long.lasting(Duration::from_secs(1));
    let mut streams = Vec::new();
    for _ in 0..QUEUE {
        streams.push(auxiliary.worker.open_stream(&request)?);
    }
    streams[0].read_tokens(1, known.long.limit(0))?;
    let (mut waiting, mut running) = (Vec::new(), Vec::new());
    for mut stream in streams {
        match stream.progress()? {
            Progress::Waiting | Progress::Tokens(0) => waiting.push(stream),
            _ => running.push(stream),
        }
    }
    let (waited, ran) = (waiting.len(), running.len());
    leave_both_ways(waiting)?;
    for stream in running {
        let limit = known.long.limit(QUEUE as u32);
        let answer = stream.finish_stream(limit);
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        known
            .long
            .expect_beginning("a stream beside those that left", &answer.text())?;
    }
    let evidence = settle(&auxiliary, known, idle, None)?;
    Ok(format!(
        "{waited} left the queue, {ran} kept running; {evidence}"
    ))
}

fn leave_beside_others(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "leave-others", ROOMY)?;
    let long = &known.long;
    let mut before = auxiliary.worker.open_stream(&long.request)?;
    before.read_tokens(1, long.limit(0))?;
    let mut leavers = Vec::new();
    for _ in 0..4 {
        leavers.push(auxiliary.worker.open_stream(&long.request)?);
    }
    let after = auxiliary.worker.open_stream(&known.short.request)?;
    leavers[0].read_tokens(1, SEEN_LIMIT)?;
    leave_both_ways(leavers)?;
    for (stream, known, place) in [
        (before, long, "a stream that began before others left"),
        (
            after,
            &known.short,
            "a stream that came with those that left",
        ),
    ] {
        let answer = stream.finish_stream(long.limit(6));
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        known.expect(place, &answer.text())?;
    }
    answers_as_ever(&auxiliary, known, "after others left")?;
    Ok(String::from(
        "two streams, whole and with the same text as alone",
    ))
}

/// Requests that come to a good deal of work together.
fn crowd(
    auxiliary: &AuxiliaryWorker,
    known: &References,
    request: &InferenceRequest,
    streamed: bool,
) -> Result<Vec<OpenStream>> {
    let each_s = known.long.took.as_secs_f64().max(1e-3);
    let size = (WORK_LEFT.as_secs_f64() / each_s).ceil() as usize + 1;
    let request = auxiliary
        .worker
        .dialect()
        .inference_request(request, streamed);
    let open = |_| {
        auxiliary
            .worker
            .open_on(auxiliary.worker.connect()?, &request)
    };
    (0..size.clamp(CROWD.0, CROWD.1)).map(open).collect()
}

fn leave_both_ways(streams: Vec<OpenStream>) -> Result<()> {
    for (number, stream) in streams.into_iter().enumerate() {
        let is_even = number % 2 == 0;
        stream.leave(if is_even {
            Departure::Fin
        } else {
            Departure::Reset
        })?;
    }
    Ok(())
}

/// A request with as long a prompt as leaves most of the context for tokens to generate after it.
fn slow_to_begin(auxiliary: &AuxiliaryWorker, known: &References) -> Result<InferenceRequest> {
    let prompt = |words: u64| "word ".repeat(words as usize);
    let sample = InferenceRequest::greedy(&prompt(SAMPLE_WORDS), 1);
    let sent = Instant::now();
    let answer = auxiliary
        .worker
        .infer_within(&sample, known.long.limit(0))?;
    let took_s = sent.elapsed().as_secs_f64();
    // The whole context has room for the long request at least.
    let room = known.long.tokens;
    let words_in_room = room / 4 * SAMPLE_WORDS / answer.prompt_tokens()?.max(1);
    let words_in_time = SAMPLE_WORDS as f64 * PREFILL.as_secs_f64() / took_s.max(1e-3);
    let words = words_in_room.min(words_in_time as u64).max(1);
    let prompt_tokens = words * answer.prompt_tokens()?.max(1) / SAMPLE_WORDS + 1;
    let tokens = room
        .saturating_sub(prompt_tokens + prompt_tokens / 8)
        .max(1);
    Ok(InferenceRequest::greedy(&prompt(words), tokens as u32))
}

/// All clients have just left: [`settle`], and how long the worker went on, as far as it tells.
fn stop(
    auxiliaries: &Auxiliaries,
    auxiliary: &AuxiliaryWorker,
    known: &References,
    idle: Option<f64>,
    busy: Option<f64>,
) -> Result<Evidence> {
    let journal = auxiliaries.context.journal;
    let left_ms = journal.elapsed_ms(Instant::now());
    let evidence = settle(auxiliary, known, idle, busy)?;
    let told = |(request, beat): &(Heartbeat, HeartbeatPayload)| {
        request.arrived_ms >= left_ms && beat.state == BeatState::Ready
    };
    if let Some((request, _)) = auxiliary.beats()?.into_iter().find(told) {
        let after_ms = request.arrived_ms - left_ms;
        journal.emit(EventKind::StopMeasured { after_ms });
    }
    Ok(evidence)
}

/// From now on nothing is asked for: soon the worker says so, does nothing, and takes requests.
fn settle(
    auxiliary: &AuxiliaryWorker,
    known: &References,
    idle: Option<f64>,
    busy: Option<f64>,
) -> Result<Evidence> {
    let left = Instant::now();
    let idle = idle.unwrap_or_default();
    let share = busy.map_or(0.0, |busy| (busy - idle) * QUIET_SHARE);
    let quiet = idle + share.max(QUIET_CORES);
    let has_heartbeat = auxiliary.worker.launch().has_heartbeat;
    let (mut state, mut used) = (None, None);
    let limit = STOP_LIMIT + LATENESS;
    let rests = auxiliary.wait_for("the worker to be at rest", limit, || {
        used = cores_used(auxiliary)?;
        state = auxiliary.last_state()?;
        let is_quiet = used.is_none_or(|used| used <= quiet);
        let is_idle = !has_heartbeat || state == Some(BeatState::Ready);
        Ok((is_quiet && is_idle).then_some(()))
    })?;
    let after_s = left.elapsed().as_secs_f64();
    if rests.is_some() {
        answers_as_ever(auxiliary, known, "after the clients left")?;
        return Ok(format!("at rest after {after_s:.1} s"));
    }
    let place = format!("{after_s:.1} s after the clients left");
    let expected = "an end of their generation within 1 s";
    let got = match (state, used) {
        (Some(state), _) if state != BeatState::Ready => format!("state {state:?}"),
        (_, Some(used)) => format!("{used:.2} cores in use, {quiet:.2} would be quiet"),
        _ => String::from("no heartbeat"),
    };
    Err(Mismatch::new(place, expected, got).into())
}
