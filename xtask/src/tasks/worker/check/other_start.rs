//! The start once more, with a second worker: a machine that was busy elsewhere is not the worker's
//! fault, and a worker that is slow is slow again.

use std::time::Duration;

use anyhow::Result;

use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::target::Subject;

/// How often the start is tried, until one was quick enough.
const ATTEMPTS: usize = 4;

/// What quick enough is, by those who ask.
const QUICK_ENOUGH: Duration = Duration::from_secs(1);

/// How long we look at one.
const LIMIT: Duration = Duration::from_secs(5);

/// How long one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(1);

/// What was seen at the best of several starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct OtherStart {
    /// From the start until the first HTTP answer.
    pub first_answer: Option<Duration>,
    /// From the start until the first heartbeat was there.
    pub first_beat: Option<Duration>,
}

impl OtherStart {
    /// The other starts of this run, which are made when somebody needs them.
    pub fn of<'s>(subject: &'s Subject) -> Result<&'s OtherStart> {
        subject.observations.of(|| Self::make(subject))
    }

    /// Starts workers of its own and keeps the quickest times.
    fn make(subject: &Subject) -> Result<OtherStart> {
        let mut best = OtherStart::default();
        for attempt in 1..=ATTEMPTS {
            let auxiliary = subject
                .auxiliaries
                .start(&format!("start-{attempt}"), |_| {})?;
            let worker = &auxiliary.worker;
            let mut seen = OtherStart::default();
            let waited = subject.context.stop.wait_for("a second start", LIMIT, || {
                worker.ensure_alive()?;
                // Neither what we lost meanwhile nor what the machine took is the worker's.
                let since_start = || {
                    let excess = subject
                        .jitter
                        .excess(worker.started(), worker.started().elapsed());
                    let waited = worker.waited_for_processor();
                    excess.min(worker.started().elapsed().saturating_sub(waited))
                };
                if seen.first_beat.is_none() && !auxiliary.hive.heartbeats().is_empty() {
                    seen.first_beat = Some(since_start());
                }
                if seen.first_answer.is_none() {
                    let answer = worker
                        .quiet_client()
                        .send(&auxiliary.worker.dialect().health_request(), QUESTION_LIMIT);
                    seen.first_answer = answer.ok().map(|_| since_start());
                }
                let is_whole = seen.first_beat.is_some() && seen.first_answer.is_some();
                Ok(is_whole.then_some(()))
            });
            in_time(waited)?;
            best.first_answer = quicker(best.first_answer, seen.first_answer);
            best.first_beat = quicker(best.first_beat, seen.first_beat);
            let is_quick = |time: Option<Duration>| time.is_some_and(|time| time <= QUICK_ENOUGH);
            if is_quick(best.first_answer) && is_quick(best.first_beat) {
                break;
            }
        }
        Ok(best)
    }
}

fn quicker(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quicker_one_is_the_one_that_came() {
        let (a, b) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(2)));
        assert_eq!(quicker(a, b), a);
        assert_eq!(quicker(None, b), b);
        assert_eq!(quicker(None, None), None);
    }
}
