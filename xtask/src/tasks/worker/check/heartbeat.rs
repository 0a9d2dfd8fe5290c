//! Heartbeats: first, on a change of state, periodic, payload, identity, default interval.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::other_start::OtherStart;
use super::rhythm::{
    beats, ensure_not_too_often, ensure_on_grid, lag_ms, late_beat, latest_ms, repeats,
};
use super::row::{Check, Need};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::record::event::{EventKind, Heartbeat, Mismatch};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::dialect::{
    BeatState, HeartbeatPayload, InferenceRequest, Promise,
};

/// What is told at once. Comes before anything that makes the worker change its state so often that it
/// tells several changes together.
pub const AT_ITS_START: &[Check] = &[
    Check::isolation("heartbeat.first", first_beat)
        .promise("sends its first heartbeat as soon as it starts")
        .holds(&["B8"])
        .explanation("Fails if no heartbeat arrives within a second of the process's start.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
    Check::isolation("heartbeat.states", state_changes)
        .promise("tells the hive at once when it becomes busy, and when it is ready again")
        .holds(&["B2", "B10"])
        .explanation("Sends a request; fails if no heartbeat says Busy during it, or none says Ready right after it.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
];

/// Heartbeats of the worker under test, and the default of another. After `heartbeat.periodic`, which may
/// wait for a beat, nothing takes any time: what comes next finds that beat fresh.
pub const CHECKS: &[Check] = &[
    Check::isolation("heartbeat.default_interval", |subject| default_interval(&subject.auxiliaries))
        .promise("sends a heartbeat every 30 s by default")
        .holds(&["C11"])
        .explanation("Starts a worker without the option; fails if its first heartbeat names an interval other than 30.")
        .by_hand(|by| by.worker(&[]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
    Check::isolation("heartbeat.periodic", periodic)
        .promise("sends one heartbeat each interval, neither late nor more often")
        .holds(&["B9", "B11", "C11"])
        .explanation("Fails if a heartbeat is late, or if there is an extra one without a change of state.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
    Check::isolation("heartbeat.payload", payload)
        .promise("sends complete, well-formed heartbeats whose sequence rises by one")
        .holds(&["B1", "B2", "B4", "B5", "B6", "C8"])
        .explanation("Fails on a missing or malformed field, a gap in the sequence or a wrong timestamp.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
    Check::isolation("heartbeat.identity", identity)
        .promise("identifies itself and its model correctly in heartbeats")
        .holds(&["B1", "C1", "C4", "C5"])
        .explanation("Fails if a field differs from what the worker was started with.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
];

/// How soon after the process's start the first beat has to arrive.
const FIRST_BEAT_LIMIT_MS: f64 = 1000.0;

/// How long a first beat is waited for where it is not its time that counts.
const FIRST_BEAT_WAIT: Duration = Duration::from_secs(5);

/// "At once", with some room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How many intervals the evidence has to cover.
const INTERVALS: u64 = 2;

/// Tokens of the request that keeps the worker busy: enough to be seen, few enough for a slow model.
const BUSY_TOKENS: u32 = 32;

/// "At once" for a change of state: much sooner than the next periodic beat would come.
const CHANGE_LIMIT_MS: f64 = 300.0;

/// How many requests may show that changes are told at once.
const CHANGE_ATTEMPTS: usize = 3;

/// The interval that the contract names as the default.
const DEFAULT_INTERVAL_S: u64 = 30;

/// One lost beat in so many is not the worker's fault: the hive runs on the same busy machine.
const LOST_ONE_IN: u64 = 10;

/// The part of all beats that a machine which is busy now and then may be to blame for: at the first
/// look, and over a whole run, most of which is load.
const ONCE_LATE: f64 = 0.05;
const OFTEN_LATE: f64 = 0.2;

/// How many intervals are looked at where a beat was late.
const AGAIN: u32 = 3;

/// We were late ourselves, and so the machine was busy, when we lost as much between two beats.
const BUSY_MS: f64 = 50.0;

/// With fewer beats than these whole seconds may be chance.
const FEW_BEATS: usize = 4;

/// How much the times in beats may differ from the times between their arrivals.
const CLOCK_DRIFT_MS: f64 = 700.0;

/// How far the worker's wall clock may be from ours: they are the same clock.
const CLOCK_LIMIT_S: i64 = 60;

/// All heartbeats once more, when everything else has been tried.
pub const TO_THE_END: &[Check] = &[Check::contract("heartbeat.to_the_end", to_the_end)
        .promise("keeps sending correct heartbeats to the end, whatever it was sent")
        .holds(&["B6", "B9"])
        .explanation("Judges payload, identity and pace of all heartbeats since the start once more; fails like the checks of each, if they drift off the grid counted from the first, or if there are none at the end.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)])];

fn first_beat(subject: &Subject) -> Result<Evidence> {
    let beats = beats_after(subject, "the first heartbeat", AT_ONCE, |beats| {
        !beats.is_empty()
    })?;
    let started_ms = subject.context.journal.elapsed_ms(subject.worker.started());
    let Some((first, _)) = beats.first() else {
        return Err(Mismatch::new("heartbeats", "a first one at once", "none").into());
    };
    let after_ms = first.arrived_ms - started_ms;
    let after = Duration::from_secs_f64(after_ms.max(0.0) / 1e3);
    let excess = subject.jitter.excess(subject.worker.started(), after);
    if excess.as_secs_f64() * 1e3 <= FIRST_BEAT_LIMIT_MS {
        return Ok(format!("after {after_ms:.0} ms"));
    }
    let again = OtherStart::of(subject)?.first_beat;
    let again_ms = again.map_or(after_ms, |again| again.as_secs_f64() * 1e3);
    ensure_kept(
        again_ms <= FIRST_BEAT_LIMIT_MS,
        "heartbeat #1",
        "an arrival within 1 s of the start",
        format!("{after_ms:.0} ms, and {again_ms:.0} ms in the best of other starts"),
    )?;
    Ok(format!("after {again_ms:.0} ms, at another start"))
}

fn state_changes(subject: &Subject) -> Result<Evidence> {
    let mut late_ms = f64::MAX;
    // A busy machine may be late once; who waits for the next periodic beat does so each time.
    for _ in 0..CHANGE_ATTEMPTS {
        late_ms = late_ms.min(lateness_of_changes(subject)?);
        if late_ms <= CHANGE_LIMIT_MS {
            return Ok(format!("Busy and Ready, max lateness {late_ms:.0} ms"));
        }
    }
    let place = "heartbeats during a request";
    let expected = format!("Busy and Ready within {CHANGE_LIMIT_MS} ms of the changes");
    let got = format!("{late_ms:.0} ms in the best of {CHANGE_ATTEMPTS} requests");
    Err(Mismatch::new(place, expected, got).into())
}

/// How late the later one of the two beats was that a request brings about. Fails where one is missing.
fn lateness_of_changes(subject: &Subject) -> Result<f64> {
    let seen = beats(subject)?.len();
    let began = Instant::now();
    subject
        .worker
        .infer(&InferenceRequest::greedy("Once upon a time", BUSY_TOKENS))?;
    let ended = Instant::now();
    let changes = |beats: &[(Heartbeat, HeartbeatPayload)]| {
        let mut rest = beats.iter().skip(seen);
        let busy = rest.find(|(_, beat)| beat.state == BeatState::Busy)?;
        let ready = rest.find(|(_, beat)| beat.state == BeatState::Ready)?;
        Some((busy.0.arrived_ms, ready.0.arrived_ms))
    };
    let beats = beats_after(subject, "the states of a request", AT_ONCE, |beats| {
        changes(beats).is_some()
    })?;
    let Some((busy_ms, ready_ms)) = changes(&beats) else {
        let states = beats.iter().skip(seen).map(|(_, beat)| beat.state);
        let got = format!("{:?}", states.collect::<Vec<_>>());
        let expected = "Busy when it began and Ready at once after its end";
        return Err(Mismatch::new("heartbeats during a request", expected, got).into());
    };
    let journal = subject.context.journal;
    let late_ms = |began: Instant, arrived_ms: f64| {
        let jitter = subject.jitter.between(began, journal.instant(arrived_ms));
        arrived_ms - journal.elapsed_ms(began) - jitter.as_secs_f64() * 1e3
    };
    Ok(late_ms(began, busy_ms)
        .max(late_ms(ended, ready_ms))
        .max(0.0))
}

fn periodic(subject: &Subject) -> Result<Evidence> {
    let config = subject.context.config;
    let interval_ms = config.heartbeat_interval_secs as f64 * 1e3;
    let window = Duration::from_secs(config.heartbeat_window_secs);
    let covers =
        |beats: &[(Heartbeat, HeartbeatPayload)]| repeats(beats).count() as u64 >= INTERVALS;
    if !covers(&beats(subject)?) {
        let window_ms = window.as_millis() as u64;
        subject
            .context
            .journal
            .emit(EventKind::HeartbeatsWaiting { window_ms });
    }
    let beats = beats_after(subject, "enough heartbeats", window, covers)?;
    let place = "heartbeats";
    ensure_kept(
        covers(&beats),
        place,
        format!("{INTERVALS} periodic ones within {} s", window.as_secs()),
        format!("{} in all", beats.len()),
    )?;
    ensure_not_too_often(&beats, interval_ms)?;
    ensure_they_go_on(subject, &beats)?;
    let Some(mismatch) = late_beat(subject, 0, ONCE_LATE)? else {
        return Ok(format!(
            "{} heartbeats, max lateness {:.0} ms",
            beats.len(),
            latest_ms(subject)?
        ));
    };
    // A machine that was busy elsewhere gets a second look; who is late is late again.
    let seen = beats.len();
    let again = AGAIN * config.heartbeat_interval_secs as u32;
    let again = Duration::from_secs(again.into()) + Duration::from_millis(200);
    beats_after(subject, "heartbeats at a second try", again, |_| false)?;
    match late_beat(subject, seen, 0.0)? {
        Some(_) => Err(mismatch.into()),
        None => Ok(String::from("on time at the second try")),
    }
}

fn to_the_end(subject: &Subject) -> Result<Evidence> {
    payload(subject)?;
    identity(subject)?;
    if let Some(mismatch) = late_beat(subject, 0, OFTEN_LATE)? {
        return Err(mismatch.into());
    }
    ensure_on_grid(subject)?;
    let latest_ms = latest_ms(subject)?;
    let beats = beats(subject)?;
    ensure_they_go_on(subject, &beats)?;
    Ok(format!(
        "{} heartbeats, max lateness {latest_ms:.0} ms",
        beats.len()
    ))
}

/// Fails where the last beat is long ago.
fn ensure_they_go_on(subject: &Subject, beats: &[(Heartbeat, HeartbeatPayload)]) -> Result<()> {
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let now_ms = subject.context.journal.elapsed_ms(Instant::now());
    let last_ms = beats.last().map_or(0.0, |(last, _)| last.arrived_ms);
    let silent_ms = now_ms - last_ms - lag_ms(subject, last_ms, now_ms);
    ensure_kept(
        silent_ms <= 2.0 * interval_ms,
        "heartbeats until now",
        format!("one every {interval_ms:.0} ms"),
        format!("none for {silent_ms:.0} ms"),
    )?;
    Ok(())
}

/// The wall clock of a machine is corrected by less than this while nobody sets it.
const CLOCK_SET: Duration = Duration::from_millis(250);

fn payload(subject: &Subject) -> Result<Evidence> {
    let judged = judge_payload(subject);
    let set_by = subject.jitter.clock_set_by();
    match judged {
        // What a worker reads on a clock that was set is nothing to blame it for.
        Err(error) if set_by > CLOCK_SET && error.is::<Mismatch>() => anyhow::bail!(
            "this machine's clock was set by {:.1} s during the run: {error}",
            set_by.as_secs_f64()
        ),
        judged => judged,
    }
}

fn judge_payload(subject: &Subject) -> Result<Evidence> {
    let now = chrono::Utc::now();
    let mut beats = beats(subject)?;
    let count = beats.len();
    ensure_kept(count > 0, "heartbeats", "at least one", "none")?;
    // Two that are under way at once may overtake each other.
    beats.sort_by_key(|(_, beat)| beat.sequence);
    let mut missing = 0;
    let mut before: Option<(f64, &HeartbeatPayload)> = None;
    for (arrival, beat) in &beats {
        let place = format!("heartbeat #{}", arrival.number);
        let expected = before.map_or(1, |(_, before)| before.sequence + 1);
        missing += beat.sequence.saturating_sub(expected);
        // A beat that was due and got lost on a busy machine leaves a gap, now and then.
        let is_next = beat.sequence == expected;
        let was_busy = before.is_some_and(|(before_ms, _)| {
            lag_ms(subject, before_ms, arrival.arrived_ms) >= BUSY_MS
        });
        let excused = count as u64 / LOST_ONE_IN + u64::from(was_busy);
        let is_gap = before.is_some() && beat.sequence > expected;
        ensure_kept(
            is_next || (is_gap && missing <= excused),
            &format!("{place}, `sequence`"),
            expected.to_string(),
            beat.sequence.to_string(),
        )?;
        let expected = "the current time in UTC, not earlier than in the beat before";
        let in_order = before.is_none_or(|(_, before)| beat.timestamp >= before.timestamp);
        let apart_s = (now - beat.timestamp.to_utc()).num_seconds().abs();
        let fits = in_order
            && apart_s <= CLOCK_LIMIT_S + arrival_span_s(&beats)
            && beat.timestamp.offset().local_minus_utc() == 0;
        let got = beat.timestamp.to_rfc3339();
        ensure_kept(fits, &format!("{place}, `timestamp`"), expected, got)?;
        before = Some((arrival.arrived_ms, beat));
    }
    clock_runs(&beats)?;
    let whole =
        |(_, beat): &(Heartbeat, HeartbeatPayload)| beat.timestamp.timestamp_subsec_millis() == 0;
    ensure_kept(
        count < FEW_BEATS || !beats.iter().all(whole),
        "heartbeats, `timestamp`",
        "times with milliseconds",
        format!("{count} times in whole seconds"),
    )?;
    Ok(format!("{count} heartbeats"))
}

/// Between the first beats and the last, the worker's clock has to go on as ours did.
///
/// Of each half the beat counts that was under way for the shortest time: a busy machine may hold
/// up any of them.
fn clock_runs(beats: &[(Heartbeat, HeartbeatPayload)]) -> Result<(), Mismatch> {
    let (Some(first), Some(last)) = (beats.first(), beats.last()) else {
        return Ok(());
    };
    let middle_ms = f64::midpoint(first.0.arrived_ms, last.0.arrived_ms);
    let behind_ms = |(arrival, beat): &(Heartbeat, HeartbeatPayload)| {
        arrival.arrived_ms - (beat.timestamp - first.1.timestamp).num_milliseconds() as f64
    };
    let least_ms = |is_late: bool| {
        let half = beats
            .iter()
            .filter(|(arrival, _)| (arrival.arrived_ms >= middle_ms) == is_late);
        half.map(behind_ms).reduce(f64::min)
    };
    let (Some(early_ms), Some(late_ms)) = (least_ms(false), least_ms(true)) else {
        return Ok(());
    };
    let drift_ms = late_ms - early_ms;
    ensure_kept(
        drift_ms.abs() <= CLOCK_DRIFT_MS,
        &format!("heartbeat #{}, `timestamp`", last.0.number),
        "a clock that runs as ours does",
        format!("one that fell behind by {drift_ms:.0} ms since the first heartbeats"),
    )
}

fn identity(subject: &Subject) -> Result<Evidence> {
    let launch = subject.worker.launch();
    let beats = beats(subject)?;
    let interval_s = launch.heartbeat_interval_secs.unwrap_or(DEFAULT_INTERVAL_S);
    for (arrival, beat) in &beats {
        let fields = [
            ("worker_id", &launch.worker_id, &beat.worker_id),
            ("model_ref", &launch.model_ref, &beat.model_ref),
            (
                "backend",
                &launch.backend.as_str().to_owned(),
                &beat.backend,
            ),
            (
                "device",
                &launch.device.to_string(),
                &beat.device.to_string(),
            ),
            ("port", &launch.port.to_string(), &beat.port.to_string()),
            (
                "interval_s",
                &interval_s.to_string(),
                &beat.interval_s.to_string(),
            ),
        ];
        for (name, expected, got) in fields {
            let place = format!("heartbeat #{}, `{name}`", arrival.number);
            ensure_kept(expected == got, &place, expected, got)?;
        }
    }
    ensure_kept(!beats.is_empty(), "heartbeats", "at least one", "none")?;
    Ok(Evidence::new())
}

fn default_interval(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    // A machine that stands still for seconds may keep a start from its first beat, but hardly two.
    let mut first = beat_of_defaults(auxiliaries, "default-interval")?;
    if first.is_none() {
        first = beat_of_defaults(auxiliaries, "default-interval-again")?;
    }
    let none = || Mismatch::new("a worker with defaults", "a first heartbeat", "none");
    let interval_s = auxiliaries
        .dialect()
        .read_heartbeat(&first.ok_or_else(none)?)?
        .interval_s;
    let place = "heartbeat #1 of a worker with defaults, `interval_s`";
    let expected = DEFAULT_INTERVAL_S.to_string();
    ensure_kept(
        interval_s == DEFAULT_INTERVAL_S,
        place,
        expected,
        interval_s.to_string(),
    )?;
    Ok(format!("{interval_s} s"))
}

/// The first heartbeat of a worker that was told of no interval.
fn beat_of_defaults(auxiliaries: &Auxiliaries, name: &str) -> Result<Option<Heartbeat>> {
    let auxiliary = auxiliaries.start(name, |launch| {
        launch.heartbeat_interval_secs = None;
    })?;
    auxiliary.beat_after(0, FIRST_BEAT_WAIT)
}

/// The beats once they are `enough`, or as they are when the time is up.
fn beats_after(
    subject: &Subject,
    name: &str,
    limit: Duration,
    enough: impl Fn(&[(Heartbeat, HeartbeatPayload)]) -> bool,
) -> Result<Vec<(Heartbeat, HeartbeatPayload)>> {
    let waited = subject.context.stop.wait_for(name, limit, || {
        subject.worker.ensure_alive()?;
        Ok(enough(&beats(subject)?).then_some(()))
    });
    match waited {
        Ok(()) => beats(subject),
        Err(error) => {
            error.downcast::<TimedOut>()?;
            beats(subject)
        }
    }
}

fn arrival_span_s(beats: &[(Heartbeat, HeartbeatPayload)]) -> i64 {
    match (beats.first(), beats.last()) {
        (Some(first), Some(last)) => ((last.0.arrived_ms - first.0.arrived_ms) / 1e3) as i64,
        _ => 0,
    }
}
