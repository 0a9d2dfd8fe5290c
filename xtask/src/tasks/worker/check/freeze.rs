//! A worker that stands still and goes on again.

use std::time::Duration;

use anyhow::{Result, bail};

use super::apart::{INTERVAL, LATENESS, answers_as_ever, ready_auxiliary};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::process::group::GroupSignal;
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::Promise;

/// How many intervals the worker stands still: enough that making up for all of them would show.
const STANDSTILL: u32 = 4;

/// Whoever answers a question within this time isn't standing still.
const HUNG_LIMIT: Duration = Duration::from_secs(1);

/// So many beats may come at the same time: what was due, and a periodic one.
const AT_ONCE: usize = 2;

/// A worker that stands still.
pub const CHECKS: &[Check] = &[Check::resilience("freeze.recovers", recovers)
        .promise("resumes after SIGSTOP and SIGCONT: streams, answers, and heartbeats without a burst")
        .holds(&["B9", "H4"])
        .explanation("Freezes a worker with a running stream for four intervals; fails if the process ends, the stream breaks, a later answer differs, or more than two heartbeats arrive at once.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Ready, Need::Signals, Need::Promised(Promise::OwnProcess)])];

/// Sees to it that nothing is left standing still, whatever happens.
struct Frozen<'c>(&'c AuxiliaryWorker);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.worker.tell(GroupSignal::Thaw);
    }
}

/// How often a worker that was told to stand still is asked whether it does.
const ATTEMPTS: usize = 3;

fn recovers(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "freeze", &[])?;
    let mut stream = auxiliary.worker.open_stream(&known.long.request)?;
    stream.read_tokens(1, known.long.limit(0))?;
    auxiliary.worker.tell(GroupSignal::Freeze);
    let frozen = Frozen(&auxiliary);
    if !stands_still(&auxiliary)? {
        bail!("the worker is frozen, and yet something answers on its port");
    }
    let seen = auxiliary.hive.heartbeats().len();
    auxiliary.let_pass(INTERVAL * STANDSTILL - HUNG_LIMIT)?;
    drop(frozen);
    auxiliary.worker.health()?;
    if auxiliary.worker.launch().has_heartbeat {
        beats_go_on(&auxiliary, seen)?;
    }
    // It has a standstill to catch up on, on a machine that may have other work.
    let answer = stream.finish_stream(known.long.limit(0) + 3 * LATENESS);
    let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
    known
        .long
        .expect("the stream that was frozen", &answer.text())?;
    answers_as_ever(&auxiliary, known, "after SIGCONT")?;
    Ok(String::from("hung while it was frozen, and recovered"))
}

/// Beats come again after the first `seen`, and not all that were missed.
fn beats_go_on(auxiliary: &AuxiliaryWorker, seen: usize) -> Result<()> {
    let beat = auxiliary.beat_after(seen, INTERVAL + LATENESS)?;
    ensure_kept(
        beat.is_some(),
        "heartbeats after SIGCONT",
        format!("one within {} s", INTERVAL.as_secs()),
        "none",
    )?;
    auxiliary.let_pass(INTERVAL / 2)?;
    let came = burst(auxiliary, seen);
    ensure_kept(
        came <= AT_ONCE,
        "heartbeats after SIGCONT",
        format!("at most {AT_ONCE} at once"),
        came.to_string(),
    )?;
    Ok(())
}

/// Whether health goes unanswered. What the system has yet to stop on a busy machine may answer once.
fn stands_still(auxiliary: &AuxiliaryWorker) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        let answer = auxiliary
            .worker
            .quiet_client()
            .send(&auxiliary.worker.dialect().health_request(), HUNG_LIMIT);
        auxiliary.stop.check()?;
        if answer.is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many beats without a change of state came after the first `seen`.
fn burst(auxiliary: &AuxiliaryWorker, seen: usize) -> usize {
    let Ok(beats) = auxiliary.beats() else {
        return 0;
    };
    let pairs = beats.windows(2).skip(seen.saturating_sub(1));
    pairs
        .filter(|pair| pair[0].1.state == pair[1].1.state)
        .count()
}
