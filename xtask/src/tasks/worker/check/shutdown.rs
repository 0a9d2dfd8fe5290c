//! An orderly stop.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{BeatState, Promise};

/// The stop.
pub const CHECKS: &[Check] = &[
    Check::isolation("shutdown.orderly", stops_orderly)
        .promise("stops when it is asked to: it sends a last heartbeat and exits with 0")
        .holds(&["T1", "T5", "T8", "T9", "B6"])
        .explanation("Fails if the exit status isn't 0 (where the protocol promises none, an end by SIGTERM is as good), the process outlives the drain time, or the last heartbeat isn't Draining.")
        .by_hand(|by| by.worker(&[]) + " & sleep 5; kill -TERM $!; wait $!; echo $?")
        .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)])
        .at(Phase::End),
];

/// The worker's default drain time and a little for the rest.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// How long the last heartbeat may be under way after the process has ended: the hive, too, may be
/// waiting for a core.
const LAST_BEAT_LIMIT: Duration = Duration::from_secs(3);

fn stops_orderly(subject: &Subject) -> Result<Evidence> {
    let exit = match subject.worker.stop_orderly(STOP_LIMIT) {
        Ok(exit) => exit,
        Err(error) => return Err(blame_timeout(error)),
    };
    subject.worker.expect_orderly(&exit)?;
    if subject.worker.launch().has_heartbeat {
        beats_to_the_end(subject)?;
    }
    Ok(exit.describe())
}

/// The last beat says that the worker is stopping.
fn beats_to_the_end(subject: &Subject) -> Result<()> {
    let place = "stop of the worker";
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
    say_who_and_in_order(subject)
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

fn blame_timeout(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<TimedOut>() {
        Ok(timed_out) => {
            let got = format!("still running after {} s", timed_out.limit.as_secs());
            Mismatch::new("stop of the worker", "an end after SIGTERM", got).into()
        }
        Err(error) => error,
    }
}
