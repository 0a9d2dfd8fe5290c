//! When heartbeats came, held against when they were due. Judges nothing of what they say.

use anyhow::Result;

use super::judge::ensure_kept;
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{
    HeartbeatPayload, is_heartbeat_request, read_heartbeat,
};

/// How late a beat may be.
pub fn tolerance_ms(interval_ms: f64) -> f64 {
    (interval_ms / 10.0).max(100.0)
}

/// Each beat but the first: when it arrived, its number, and by how much it came later than an
/// interval after the one before, less what we were late ourselves.
pub fn lateness(subject: &Subject) -> Result<Vec<(f64, u32, f64)>> {
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let beats = beats(subject)?;
    let late = beats.windows(2).map(|pair| {
        let (before_ms, arrived_ms) = (pair[0].0.arrived_ms, pair[1].0.arrived_ms);
        let due_ms = before_ms + interval_ms;
        let late_ms = arrived_ms - due_ms - lag_ms(subject, due_ms, arrived_ms);
        (arrived_ms, pair[1].0.number, late_ms)
    });
    Ok(late.collect())
}

/// The first late beat after the first `seen`, where one of them is late by far, or more than this
/// part of them are late.
pub fn late_beat(subject: &Subject, seen: usize, excused: f64) -> Result<Option<Mismatch>> {
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let tolerance_ms = tolerance_ms(interval_ms);
    let beats = lateness(subject)?;
    let looked_at = beats.get(seen.saturating_sub(1)..).unwrap_or_default();
    let late = looked_at
        .iter()
        .filter(|(_, _, late_ms)| *late_ms > tolerance_ms);
    let late: Vec<_> = late.collect();
    let is_far = late.iter().any(|(_, _, late_ms)| *late_ms > interval_ms);
    let is_often = late.len() as f64 > looked_at.len() as f64 * excused;
    let first = late.first().filter(|_| is_far || is_often);
    Ok(first.map(|(_, number, late_ms)| {
        Mismatch::new(
            format!("heartbeat #{number}"),
            format!("{interval_ms:.0} ms after the one before, {tolerance_ms:.0} ms late at most"),
            format!("late by {late_ms:.0} ms"),
        )
    }))
}

/// By how much the latest beat so far was late.
pub fn latest_ms(subject: &Subject) -> Result<f64> {
    let beats = lateness(subject)?;
    Ok(beats
        .iter()
        .map(|(_, _, late_ms)| *late_ms)
        .fold(0.0, f64::max))
}

/// Fails where beats come without a reason. One that was held up on its way is known by its time.
pub fn ensure_not_too_often(
    beats: &[(Heartbeat, HeartbeatPayload)],
    interval_ms: f64,
) -> Result<(), Mismatch> {
    let Some(mut before) = beats.first() else {
        return Ok(());
    };
    let mut late_ms: f64 = 0.0;
    for repeat in repeats(beats) {
        let arrived_ms = repeat.0.arrived_ms - before.0.arrived_ms;
        let said_ms = (repeat.1.timestamp - before.1.timestamp).num_milliseconds() as f64;
        let gap_ms = arrived_ms.max(said_ms);
        // After a late one the next is sooner, if it is on time itself.
        let shortest_ms = interval_ms - tolerance_ms(interval_ms) - late_ms;
        late_ms = (gap_ms - interval_ms + late_ms).clamp(0.0, interval_ms);
        ensure_kept(
            gap_ms >= shortest_ms,
            &format!("heartbeat #{}", repeat.0.number),
            format!("one beat every {interval_ms:.0} ms and one for each change of state"),
            format!("another after {gap_ms:.0} ms without a change"),
        )?;
        before = repeat;
    }
    Ok(())
}

/// Beats that bring no new state: those that are there because an interval is over.
pub fn repeats(
    beats: &[(Heartbeat, HeartbeatPayload)],
) -> impl Iterator<Item = &(Heartbeat, HeartbeatPayload)> {
    let pairs = beats.windows(2);
    pairs
        .filter(|pair| pair[0].1.state == pair[1].1.state)
        .map(|pair| &pair[1])
}

/// How late we were ourselves between two moments of the run.
pub fn lag_ms(subject: &Subject, from_ms: f64, to_ms: f64) -> f64 {
    let journal = subject.context.journal;
    let jitter = subject
        .jitter
        .between(journal.instant(from_ms), journal.instant(to_ms));
    jitter.as_secs_f64() * 1e3
}

/// Every request to the hive so far, each of which has to be a well-formed heartbeat.
pub fn beats(subject: &Subject) -> Result<Vec<(Heartbeat, HeartbeatPayload)>> {
    subject.hive.ensure_alive()?;
    let read = |request: Heartbeat| -> Result<_, Mismatch> {
        is_heartbeat_request(&request)?;
        let payload = read_heartbeat(&request)?;
        Ok((request, payload))
    };
    let all: Result<Vec<_>, Mismatch> = subject.hive.heartbeats().into_iter().map(read).collect();
    Ok(all?)
}
