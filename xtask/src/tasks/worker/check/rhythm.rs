//! When heartbeats came, held against when they were due. Judges nothing of what they say.

use anyhow::Result;

use super::judge::ensure_kept;
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::HeartbeatPayload;

/// How late a beat may be.
pub fn tolerance_ms(interval_ms: f64) -> f64 {
    (interval_ms / 10.0).max(100.0)
}

/// Each beat but the first: when it arrived, its number, and by how much it came later than an
/// interval after the one before, less what we were late ourselves.
pub fn lateness(subject: &Subject) -> Result<Vec<(f64, u32, f64)>> {
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let beats = beats(subject)?;
    subject.hive.ensure_one_clock()?;
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
            format!("{interval_ms:.0} ms after the one before, at most {tolerance_ms:.0} ms late"),
            format!("late by {late_ms:.0} ms"),
        )
    }))
}

/// So many beats off the grid are no accident, if they are more than this part of all.
const OFF_GRID: usize = 3;
const OFF_GRID_PART: f64 = 0.3;

/// Fails where the beats leave the grid that they are counted on, each by so little that no single gap
/// shows it.
pub fn ensure_on_grid(subject: &Subject) -> Result<()> {
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let tolerance_ms = tolerance_ms(interval_ms);
    let all = beats(subject)?;
    let moments = all.iter().enumerate().map(|(number, (arrival, beat))| {
        let arrived_ms = arrival.arrived_ms;
        let is_repeat = number > 0 && all[number - 1].1.state == beat.state;
        Moment {
            arrived_ms,
            is_repeat,
            // What came while we were late ourselves says nothing.
            counts: lag_ms(subject, arrived_ms - tolerance_ms, arrived_ms) < tolerance_ms / 2.0,
        }
    });
    let moments: Vec<Moment> = moments.collect();
    let Some((off, repeats)) = drift(&moments, interval_ms, tolerance_ms) else {
        return Ok(());
    };
    Err(Mismatch::new(
        "periodic heartbeats",
        format!("one every {interval_ms:.0} ms, counted from the first, give or take {tolerance_ms:.0} ms"),
        format!("{off} of {repeats} off that grid: they drift"),
    )
    .into())
}

/// When a beat came.
#[derive(Debug, Clone, Copy)]
struct Moment {
    arrived_ms: f64,
    /// Whether it brought no new state.
    is_repeat: bool,
    /// Whether its arrival is to be trusted.
    counts: bool,
}

/// How many repeats lie on no grid that explains most of them, and how many repeats there are; `None`
/// where that is no drift. The grid's phase is taken from the repeats: the first beat of all may have
/// been held up on its way. Who counts anew from each change of state is on a grid as well.
fn drift(moments: &[Moment], interval_ms: f64, tolerance_ms: f64) -> Option<(usize, usize)> {
    let mut last_change_ms = moments.first()?.arrived_ms;
    let mut phases = Vec::new();
    let mut from_change = 0;
    for moment in moments.iter().skip(1) {
        if !moment.is_repeat {
            last_change_ms = moment.arrived_ms;
        } else if moment.counts {
            let since_ms = moment.arrived_ms - last_change_ms;
            let phase_ms = since_ms.rem_euclid(interval_ms);
            let is_near = phase_ms.min(interval_ms - phase_ms) <= tolerance_ms;
            // Just after a change nothing is due that is counted from it.
            if is_near && since_ms >= interval_ms - tolerance_ms {
                from_change += 1;
            } else {
                phases.push(moment.arrived_ms.rem_euclid(interval_ms));
            }
        }
    }
    let repeats = phases.len() + from_change;
    let around = |middle: &f64| {
        let distance = |phase: &&f64| {
            let apart_ms = (**phase - middle).rem_euclid(interval_ms);
            apart_ms.min(interval_ms - apart_ms) <= tolerance_ms
        };
        phases.iter().filter(distance).count()
    };
    let on_grid = phases.iter().map(around).max().unwrap_or(0);
    let off = phases.len() - on_grid;
    let is_drift = off >= OFF_GRID && off as f64 > repeats as f64 * OFF_GRID_PART;
    is_drift.then_some((off, repeats))
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

/// Every request to the hive so far, in the order in which they were sent, each of which has to be a
/// well-formed heartbeat.
pub fn beats(subject: &Subject) -> Result<Vec<(Heartbeat, HeartbeatPayload)>> {
    subject.hive.ensure_alive()?;
    let read = |request: Heartbeat| -> Result<_, Mismatch> {
        let payload = subject.dialect().read_heartbeat(&request)?;
        Ok((request, payload))
    };
    let all: Result<Vec<_>, Mismatch> = subject.hive.heartbeats().into_iter().map(read).collect();
    Ok(as_sent(all?, |(_, beat)| (beat.sequence, beat.timestamp)))
}

/// What has arrived, in the order of its numbers, as beats may overtake each other on their way. Where the
/// times that they name contradict their numbers, these are none to go by.
fn as_sent<T, Time: Ord>(arrived: Vec<T>, said: impl Fn(&T) -> (u64, Time)) -> Vec<T> {
    let mut sent: Vec<(usize, T)> = arrived.into_iter().enumerate().collect();
    sent.sort_by_key(|(_, beat)| said(beat).0);
    if !sent.is_sorted_by_key(|(_, beat)| said(beat).1) {
        sent.sort_by_key(|(arrival, _)| *arrival);
    }
    sent.into_iter().map(|(_, beat)| beat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::random::Random;

    const INTERVAL_MS: f64 = 1000.0;

    /// Repeats at these times, with a change of state after each `change_every` of them.
    fn moments(times_ms: impl Iterator<Item = f64>, change_every: usize) -> Vec<Moment> {
        let moment = |arrived_ms, is_repeat| Moment {
            arrived_ms,
            is_repeat,
            counts: true,
        };
        let mut all = vec![moment(0.0, false)];
        for (number, at_ms) in times_ms.enumerate() {
            all.push(moment(at_ms, true));
            if number % change_every == change_every - 1 {
                all.push(moment(at_ms + 437.0, false));
            }
        }
        all
    }

    fn is_drift(moments: &[Moment]) -> bool {
        drift(moments, INTERVAL_MS, 100.0).is_some()
    }

    #[test]
    fn what_is_a_little_longer_or_shorter_each_time_drifts() {
        for period_ms in [950.0, 970.0, 1030.0, 1050.0, 1090.0] {
            let drifting = (1..30).map(|number| f64::from(number) * period_ms);
            assert!(is_drift(&moments(drifting, 5)), "{period_ms}");
        }
    }

    #[test]
    fn jitter_a_late_first_beat_and_counting_from_a_change_are_no_drift() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let first_ms = random.fraction() * 900.0;
            let mut jitter_ms = || random.fraction() * 90.0;
            let jittery: Vec<f64> = (1..60)
                .map(|number| f64::from(number) * INTERVAL_MS - first_ms + jitter_ms())
                .collect();
            assert!(!is_drift(&moments(jittery.into_iter(), 4)));
        }
        let mut at_ms = 0.0;
        let anew = (0..40).map(|number| {
            at_ms += if number > 0 && number % 3 == 0 {
                437.0
            } else {
                0.0
            } + INTERVAL_MS;
            at_ms
        });
        assert!(!is_drift(&moments(anew.collect::<Vec<_>>().into_iter(), 3)));
    }

    #[test]
    fn beats_that_overtook_each_other_are_put_in_order_and_wrong_numbers_are_left() {
        let as_sent = |numbers: &[u64], times: &[u32]| {
            let beats = numbers
                .iter()
                .zip(times)
                .map(|(number, time)| (*number, *time));
            let sent = super::as_sent(beats.collect(), |beat| *beat);
            sent.into_iter()
                .map(|(number, _)| number)
                .collect::<Vec<_>>()
        };
        let overtaken = as_sent(&[1, 3, 4, 5, 6, 7, 8, 2], &[0, 2, 3, 4, 4, 5, 6, 1]);
        assert_eq!(overtaken, [1, 2, 3, 4, 5, 6, 7, 8]);
        for wrong in [[9, 8, 7, 6, 5, 4], [1, 2, 3, 1, 2, 3], [5, 5, 5, 5, 5, 5]] {
            assert_eq!(as_sent(&wrong, &[0, 1, 2, 3, 4, 5]), wrong);
        }
    }

    #[test]
    fn few_beats_and_those_that_came_while_we_were_late_say_nothing() {
        let drifting = |count: u32| (1..count).map(|number| f64::from(number) * 1090.0);
        assert!(!is_drift(&moments(drifting(4), 9)));
        let mut unseen = moments(drifting(30), 9);
        unseen.iter_mut().for_each(|moment| moment.counts = false);
        assert!(!is_drift(&unseen));
    }
}
