//! A worker that stands still and goes on again.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{
    Check, Evidence, INTERVAL, LATENESS, Level, Mismatch, Need, Subject, Suite, answers_as_ever,
    ensure_kept, ready_companion,
};
use crate::tasks::worker::subject::companion::Companion;
use crate::tasks::worker::subject::dialect::health_request;
use crate::tasks::worker::subject::group::GroupSignal;

/// How many intervals the worker stands still: enough that making up for all of them would show.
const STANDSTILL: u32 = 4;

/// Whoever answers a question within this time isn't standing still.
const HUNG_LIMIT: Duration = Duration::from_secs(1);

/// So many beats may come at the same time: what was due, and a periodic one.
const AT_ONCE: usize = 2;

/// A worker that stands still.
pub const CHECKS: &[Check] = &[Check {
    id: "freeze.recovers",
    suite: Suite::Resilience,
    level: Level::Must,
    promise: "goes on after SIGSTOP and SIGCONT: streams, answers, and beats without a burst",
    contract: "One beat at once when the task starts, one every interval counted from there, and one at once on a change of state.",
    explanation: "A worker with a running stream stands still for four intervals; an end of the process, a broken stream, another answer or more than two beats at once afterwards fails it.",
    curl: "curl -i http://127.0.0.1:18081/v1/health",
    needs: &[Need::Ready, Need::Signals],
    run: recovers,
}];

/// Sees to it that nothing is left standing still, whatever happens.
struct Frozen<'c>(&'c Companion);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.worker.tell(GroupSignal::Thaw);
    }
}

/// How often a worker that was told to stand still is asked whether it does.
const ATTEMPTS: usize = 3;

fn recovers(subject: &Subject) -> Result<Evidence> {
    let (companion, pace) = ready_companion(subject, "freeze", &[])?;
    let mut stream = companion.open_stream(&pace.long.request)?;
    stream.read_tokens(1, pace.long.limit_beside(0))?;
    companion.worker.tell(GroupSignal::Freeze);
    let frozen = Frozen(&companion);
    if !stands_still(&companion)? {
        bail!("the worker stands still, and yet something answers on its port");
    }
    let seen = companion.hive.heartbeats().len();
    companion.let_pass(INTERVAL * STANDSTILL - HUNG_LIMIT)?;
    drop(frozen);
    companion.health()?;
    let beat = companion.beat_after(seen, INTERVAL + LATENESS)?;
    ensure_kept(
        beat.is_some(),
        "heartbeats after SIGCONT",
        format!("one within {} s", INTERVAL.as_secs()),
        "none",
    )?;
    companion.let_pass(INTERVAL / 2)?;
    let came = burst(&companion, seen);
    if came > AT_ONCE {
        let expected = format!("{AT_ONCE} at once at most");
        return Err(Mismatch::new("heartbeats after SIGCONT", expected, came.to_string()).into());
    }
    // It has a standstill to catch up on, on a machine that may have other work.
    let answer = stream.finish_stream(pace.long.limit_beside(0) + 3 * LATENESS);
    let answer = answer.map_err(|error| companion.worker.blame(error))?;
    pace.long
        .expect_text("the stream that stood still", &answer.text())?;
    answers_as_ever(&companion, pace, "after SIGCONT")?;
    Ok(String::from("hung while it stood still, and well again"))
}

/// Whether health goes unanswered. What the system has yet to stop on a busy machine may answer once.
fn stands_still(companion: &Companion) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        let answer = companion
            .worker
            .client()
            .send(&health_request(), HUNG_LIMIT);
        companion.stop.check()?;
        if answer.is_err() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many beats without a change of state came after the first `seen`.
fn burst(companion: &Companion, seen: usize) -> usize {
    let Ok(beats) = companion.beats() else {
        return 0;
    };
    let pairs = beats.windows(2).skip(seen.saturating_sub(1));
    pairs
        .filter(|pair| pair[0].1.state == pair[1].1.state)
        .count()
}
