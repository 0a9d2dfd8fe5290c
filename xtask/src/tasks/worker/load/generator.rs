//! The load generator: threads that do a job again and again, in closed loops of streams or in an
//! open loop of arrivals. What the job is, and what is kept of it, is for its callers to say.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::Load;
use crate::tasks::worker::record::random::Random;

/// How many arrivals of an open loop may be under way at once. More wait, and their lateness shows.
const MOST_AT_ONCE: usize = 512;

/// A thread that reads needs next to no stack, and there may be hundreds.
const STACK_BYTES: usize = 256 << 10;

/// Whoever failed waits this long before trying again: else a refusal becomes a flood.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// After so many failures nothing more is to be learned.
const FAILURES: usize = 100;

/// How often an open loop whose arrivals wait looks whether they may go.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What a load does, over and over.
pub trait Job: Send + Sync + 'static {
    /// Leave to do it once.
    type Ticket: Send + 'static;

    /// Leave to do it once more at this moment; `None` where it isn't wanted any more.
    fn take(&self, at: Instant) -> Option<Self::Ticket>;

    /// Does it once.
    fn run(&self, turn: Turn, ticket: Self::Ticket) -> Next;
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Which stream's; the arrival's number in an open loop.
    pub stream: u32,
    /// The intended start; only in an open loop.
    pub scheduled: Option<Instant>,
}

/// What a stream of a closed loop does after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Goes on at once.
    Again,
    /// Goes on after a pause.
    After(Duration),
    /// Goes on after a pause, unless too much has failed already.
    AfterFailure,
    /// Ends.
    Stop,
}

/// A load that is under way. Nothing is begun any more once this is dropped.
#[derive(Debug)]
pub struct LoadGenerator {
    shared: Arc<GeneratorState>,
}

#[derive(Debug, Default)]
struct GeneratorState {
    over: AtomicBool,
    failures: AtomicUsize,
    /// Threads that haven't ended yet, and turns of an open loop that are under way.
    busy: AtomicUsize,
}

impl<F: Fn(Turn) -> Next + Send + Sync + 'static> Job for F {
    type Ticket = ();

    fn take(&self, _at: Instant) -> Option<()> {
        Some(())
    }

    fn run(&self, turn: Turn, (): ()) -> Next {
        self(turn)
    }
}

impl LoadGenerator {
    /// Starts a load. Its threads are left to their last turn: nobody waits for them when a run is
    /// interrupted.
    pub fn start<J: Job>(load: Load, job: &Arc<J>) -> Result<Self> {
        let generator = Self {
            shared: Arc::default(),
        };
        match load {
            Load::Closed { streams } => {
                for stream in 0..streams {
                    let job = Arc::clone(job);
                    let body = move |shared: &Arc<GeneratorState>| shared.repeat(stream, &*job);
                    spawn(&generator.shared, "stream", body)?;
                }
            }
            Load::Open {
                rate_per_s,
                burstiness,
                seed,
            } => {
                let mut random = Random::new(seed);
                let gap = move || Duration::from_secs_f64(random.gap_s(rate_per_s, burstiness));
                let mut due = Duration::ZERO;
                let dues = std::iter::repeat_with(gap).map(move |gap| {
                    due += gap;
                    due
                });
                return Self::start_when_due(dues, job);
            }
            Load::Trace { .. } => bail!("a trace says itself when its requests are due"),
        }
        Ok(generator)
    }

    /// Starts a load whose turns are due so long after its beginning.
    pub fn start_when_due<J: Job>(
        dues: impl Iterator<Item = Duration> + Send + 'static,
        job: &Arc<J>,
    ) -> Result<Self> {
        let generator = Self {
            shared: Arc::default(),
        };
        let job = Arc::clone(job);
        let body = move |shared: &Arc<GeneratorState>| shared.arrive(dues, &job);
        spawn(&generator.shared, "arrivals", body)?;
        Ok(generator)
    }

    /// Begins nothing more.
    pub fn end(&self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }

    /// Waits until nothing is under way any more. `alive` is asked all the while, and its error ends
    /// the load.
    pub fn settle(
        &self,
        limit: Duration,
        stop: &StopFlag,
        alive: impl Fn() -> Result<()>,
    ) -> Result<()> {
        stop.wait_for("the last answers of a load", limit, || {
            alive()?;
            Ok((self.shared.busy.load(Ordering::Acquire) == 0).then_some(()))
        })
    }
}

impl Drop for LoadGenerator {
    fn drop(&mut self) {
        self.end();
    }
}

/// Does so many things at once, and gives what came of them in their order.
pub fn at_once<T: Send + 'static>(
    count: u32,
    limit: Duration,
    stop: &StopFlag,
    body: impl Fn(u32) -> T + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let results = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&results);
    let job = move |turn: Turn| {
        let result = body(turn.stream);
        lock(&sink).push((turn.stream, result));
        Next::Stop
    };
    let load = LoadGenerator::start(Load::Closed { streams: count }, &Arc::new(job))?;
    load.settle(limit, stop, || Ok(()))?;
    let mut results = std::mem::take(&mut *lock(&results));
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

impl GeneratorState {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// A stream of a closed loop.
    fn repeat<J: Job>(&self, stream: u32, job: &J) {
        let turn = Turn {
            stream,
            scheduled: None,
        };
        while !self.is_over() {
            let Some(ticket) = job.take(Instant::now()) else {
                return;
            };
            match job.run(turn, ticket) {
                Next::Again => {}
                Next::After(pause) => std::thread::sleep(pause),
                Next::AfterFailure => self.note_failure(),
                Next::Stop => return,
            }
        }
    }

    /// An open loop: each turn when it is due, on a thread of its own.
    fn arrive<J: Job>(self: &Arc<Self>, dues: impl Iterator<Item = Duration>, job: &Arc<J>) {
        let began = Instant::now();
        for (stream, due) in (0..).zip(dues) {
            let due = began + due;
            let Some(ticket) = job.take(due) else { return };
            // This thread is busy, too.
            while Instant::now() < due || self.busy.load(Ordering::Relaxed) > MOST_AT_ONCE {
                if self.is_over() {
                    return;
                }
                let left = due.saturating_duration_since(Instant::now());
                std::thread::sleep(left.clamp(Duration::from_micros(50), POLL_INTERVAL));
            }
            let job = Arc::clone(job);
            let turn = Turn {
                stream,
                scheduled: Some(due),
            };
            let started = spawn(self, "arrival", move |shared| {
                if job.run(turn, ticket) == Next::AfterFailure {
                    shared.note_failure();
                }
            });
            if started.is_err() {
                return;
            }
        }
    }

    fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(AFTER_FAILURE);
    }
}

fn spawn(
    shared: &Arc<GeneratorState>,
    name: &str,
    body: impl FnOnce(&Arc<GeneratorState>) + Send + 'static,
) -> Result<()> {
    /// Says at the end of a thread that it has ended, also where it panics.
    struct Busy(Arc<GeneratorState>);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.busy.fetch_sub(1, Ordering::Release);
        }
    }
    shared.busy.fetch_add(1, Ordering::Relaxed);
    let busy = Busy(Arc::clone(shared));
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES);
    let started = thread.spawn(move || body(&busy.0));
    started.context("cannot start another thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn settle(load: &LoadGenerator) {
        load.settle(LIMIT, &StopFlag::default(), || Ok(())).unwrap();
    }

    #[test]
    fn a_stream_goes_on_until_it_is_told_to_stop() {
        let turns = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&turns);
        let job = Arc::new(move |turn: Turn| {
            let mut turns = lock(&sink);
            turns.push(turn.stream);
            let own = turns.iter().filter(|stream| **stream == turn.stream);
            if own.count() == 3 {
                Next::Stop
            } else {
                Next::After(Duration::from_millis(1))
            }
        });
        settle(&LoadGenerator::start(Load::Closed { streams: 4 }, &job).unwrap());
        let mut turns = lock(&turns).clone();
        turns.sort_unstable();
        assert_eq!(turns, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn failures_end_a_load_before_they_become_a_flood() {
        let failures = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&failures);
        let job = Arc::new(move |_: Turn| {
            counted.fetch_add(1, Ordering::Relaxed);
            Next::AfterFailure
        });
        let load = LoadGenerator::start(Load::Closed { streams: 40 }, &job).unwrap();
        settle(&load);
        let failures = failures.load(Ordering::Relaxed);
        assert!((FAILURES..FAILURES + 40).contains(&failures), "{failures}");
    }

    #[test]
    fn an_ended_load_begins_nothing_more_and_a_dead_worker_ends_the_wait() {
        let job = Arc::new(|_: Turn| Next::After(Duration::from_millis(1)));
        let load = LoadGenerator::start(Load::Closed { streams: 2 }, &job).unwrap();
        let dead = || anyhow::bail!("it is dead");
        let error = load.settle(LIMIT, &StopFlag::default(), dead).unwrap_err();
        assert_eq!(error.to_string(), "it is dead");
        load.end();
        settle(&load);
    }

    #[test]
    fn what_happens_at_once_is_told_in_order() {
        let squares = at_once(50, LIMIT, &StopFlag::default(), |number| number * number);
        let expected: Vec<u32> = (0..50).map(|number| number * number).collect();
        assert_eq!(squares.unwrap(), expected);
    }
}
