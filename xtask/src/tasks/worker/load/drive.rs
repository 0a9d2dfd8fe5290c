//! The load generator: closed loops of streams and open loops of arrivals, each request on a thread
//! that only reads. What came is taken apart when the load is over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::timed;
use super::timed::{Recording, Timed};
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::Load;
use crate::tasks::worker::record::random::Random;

/// How many arrivals of an open loop may be under way at once. More wait, and their lateness shows.
const MOST_AT_ONCE: usize = 512;

/// A reader needs next to no stack, and there may be hundreds.
const STACK_BYTES: usize = 256 << 10;

/// Whoever was refused waits this long before asking again: else a refusal becomes a flood.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Recordings of one stream that are kept as they came. Beyond that they are taken apart at once,
/// which costs the stream some time between two requests, but no memory without end.
const RECORDED_BYTES: usize = 16 << 20;

/// How often the load's end is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// After so many failures nothing more is to be learned.
const FAILURES: usize = 100;

/// How long a load goes on.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Before anything counts.
    pub warm_up: Duration,
    /// From then on, at least.
    pub duration: Duration,
    /// Exactly so many requests that count, whatever time they take.
    pub requests: Option<usize>,
    /// Without `requests`: so many that count have to be over before the load ends,
    pub least: usize,
    /// but it doesn't go on for longer than this.
    pub at_most: Duration,
    /// The longest that one request may take.
    pub limit: Duration,
}

/// The requests that a load sends, over and over, each spelled by [`timed::spell`].
pub type Requests = Arc<[Vec<u8>]>;

/// One request of a load.
#[derive(Debug)]
pub struct RequestSample {
    /// Which stream sent it; the arrival's number in an open loop.
    pub stream: u32,
    /// When it was due; only in an open loop.
    pub scheduled: Option<Instant>,
    /// When it was sent.
    pub sent: Instant,
    /// What came.
    pub timed: Timed,
}

/// What came of a load.
#[derive(Debug)]
pub struct LoadResult {
    /// Every request, in the order in which they were sent.
    pub shots: Vec<RequestSample>,
    /// From the end of the warm-up until the first stream had nothing more to ask.
    pub window: (Instant, Instant),
}

/// What the threads of a load share.
#[derive(Debug)]
struct Shared {
    port: u16,
    warm_up: Requests,
    requests: Requests,
    budget: Budget,
    counts_from: Instant,
    /// Requests sent so far: before the window, and in it.
    warmed: AtomicUsize,
    taken: AtomicUsize,
    /// Requests of the window that are over.
    done: AtomicUsize,
    failures: AtomicUsize,
    /// Nobody wants to know any more.
    over: AtomicBool,
    /// When the first stream had nothing more to ask.
    idle: Mutex<Option<Instant>>,
}

/// Not taken apart yet, as far as memory allows.
enum Answer {
    Recorded(Recording),
    Digested(Instant, Timed),
}

/// Leave to send one request.
#[derive(Debug, Clone, Copy)]
struct Ticket {
    number: usize,
    counts: bool,
}

struct Raw {
    stream: u32,
    scheduled: Option<Instant>,
    answer: Answer,
}

/// Puts whatever listens on the port under a load. `warm_up` and `requests` must not be empty.
///
/// `alive` is asked all the while and ends the load with its error. Requests that are under way
/// when the run is interrupted are left to the end of the process.
pub fn drive(
    port: u16,
    load: Load,
    (warm_up, requests): (Requests, Requests),
    budget: Budget,
    stop: &StopFlag,
    alive: impl Fn() -> Result<()>,
) -> Result<LoadResult> {
    let began = Instant::now();
    let shared = Arc::new(Shared {
        port,
        warm_up,
        requests,
        budget,
        counts_from: began + budget.warm_up,
        warmed: AtomicUsize::new(0),
        taken: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        failures: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        idle: Mutex::new(None),
    });
    let (sender, receiver) = channel();
    match load {
        Load::Closed { streams } => start_streams(&shared, streams, &sender)?,
        Load::Open { rate_per_s, seed } => {
            let random = Random::new(seed);
            start_arrivals(&shared, rate_per_s, random, sender.clone())?;
        }
    }
    drop(sender);
    let raw = collect(&receiver, &shared, stop, alive)?;
    let now = Instant::now();
    let end = shared.idle.lock().map_or(None, |idle| *idle).unwrap_or(now);
    let mut shots: Vec<RequestSample> = raw.into_iter().map(digest).collect();
    shots.sort_by_key(|shot| shot.sent);
    Ok(LoadResult {
        shots,
        window: (shared.counts_from, end.max(shared.counts_from)),
    })
}

/// Everything that the threads hand in until the last of them is through.
fn collect(
    receiver: &Receiver<Vec<Raw>>,
    shared: &Shared,
    stop: &StopFlag,
    alive: impl Fn() -> Result<()>,
) -> Result<Vec<Raw>> {
    let mut all = Vec::new();
    loop {
        if let Err(error) = stop.check().map_err(Into::into).and_then(|()| alive()) {
            shared.over.store(true, Ordering::Relaxed);
            return Err(error);
        }
        match receiver.recv_timeout(POLL_INTERVAL) {
            Ok(raw) => all.extend(raw),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(all),
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES);
    thread.spawn(body).context("cannot start another thread")?;
    Ok(())
}

fn start_streams(shared: &Arc<Shared>, streams: u32, sender: &Sender<Vec<Raw>>) -> Result<()> {
    for stream in 0..streams {
        let (shared, sender) = (Arc::clone(shared), sender.clone());
        spawn("stream", move || {
            // Nobody listens any more after an interruption.
            let _ = sender.send(shared.ask_again_and_again(stream));
        })?;
    }
    Ok(())
}

/// Sends requests when they are due, each on a thread of its own.
fn start_arrivals(
    shared: &Arc<Shared>,
    rate_per_s: f64,
    mut random: Random,
    sender: Sender<Vec<Raw>>,
) -> Result<()> {
    let shared = Arc::clone(shared);
    spawn("arrivals", move || {
        let under_way = Arc::new(AtomicUsize::new(0));
        let mut due = shared.counts_from - shared.budget.warm_up;
        for number in 0.. {
            due += Duration::from_secs_f64(random.gap_s(rate_per_s));
            let Some(ticket) = shared.take(due) else {
                break;
            };
            while Instant::now() < due || under_way.load(Ordering::Relaxed) >= MOST_AT_ONCE {
                let left = due.saturating_duration_since(Instant::now());
                std::thread::sleep(left.clamp(Duration::from_micros(50), POLL_INTERVAL));
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
            }
            let (shared, sender) = (Arc::clone(&shared), sender.clone());
            let others = Arc::clone(&under_way);
            others.fetch_add(1, Ordering::Relaxed);
            let started = spawn("arrival", move || {
                let raw = shared.ask(number, ticket, Some(due));
                others.fetch_sub(1, Ordering::Relaxed);
                let _ = sender.send(vec![raw]);
            });
            if started.is_err() {
                break;
            }
        }
        shared.note_idle(Instant::now());
    })
}

impl Shared {
    /// A stream of a closed loop.
    fn ask_again_and_again(&self, stream: u32) -> Vec<Raw> {
        let mut asked: Vec<Raw> = Vec::new();
        let mut bytes = 0;
        let mut has_counted = false;
        while let Some(ticket) = self.take(Instant::now()) {
            has_counted |= ticket.counts;
            let mut raw = self.ask(stream, ticket, None);
            bytes += raw.bytes();
            if bytes > RECORDED_BYTES {
                raw = raw.digested();
            }
            asked.push(raw);
        }
        // A stream that never got to ask says nothing about when the load was whole.
        if has_counted {
            self.note_idle(Instant::now());
        }
        asked
    }

    fn ask(&self, stream: u32, ticket: Ticket, scheduled: Option<Instant>) -> Raw {
        let requests = if ticket.counts {
            &self.requests
        } else {
            &self.warm_up
        };
        let request = ticket.number % requests.len();
        let recording = timed::record(self.port, &requests[request], self.budget.limit);
        if recording.has_failed() {
            self.failures.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(AFTER_FAILURE);
        }
        if ticket.counts {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Raw {
            stream,
            scheduled,
            answer: Answer::Recorded(recording),
        }
    }

    /// Leave to send one more request at this moment; `None` where no more are wanted.
    fn take(&self, now: Instant) -> Option<Ticket> {
        if self.over.load(Ordering::Relaxed) || self.failures.load(Ordering::Relaxed) >= FAILURES {
            return None;
        }
        let counts = now >= self.counts_from;
        if !counts {
            let number = self.warmed.fetch_add(1, Ordering::Relaxed);
            return Some(Ticket { number, counts });
        }
        if self.budget.requests.is_none() {
            let lasted = now.saturating_duration_since(self.counts_from);
            let done = self.done.load(Ordering::Relaxed);
            let is_enough = done >= self.budget.least || lasted >= self.budget.at_most;
            if lasted >= self.budget.duration && is_enough {
                return None;
            }
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let is_wanted = self
            .budget
            .requests
            .is_none_or(|requests| number < requests);
        is_wanted.then_some(Ticket { number, counts })
    }

    fn note_idle(&self, at: Instant) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.get_or_insert(at);
        }
    }
}

impl Raw {
    fn bytes(&self) -> usize {
        match &self.answer {
            Answer::Recorded(recording) => recording.bytes(),
            Answer::Digested(..) => 0,
        }
    }

    fn digested(self) -> Raw {
        let answer = match self.answer {
            Answer::Recorded(recording) => Answer::Digested(recording.sent, recording.digest()),
            digested @ Answer::Digested(..) => digested,
        };
        Raw { answer, ..self }
    }
}

fn digest(raw: Raw) -> RequestSample {
    let (sent, timed) = match raw.answer {
        Answer::Recorded(recording) => (recording.sent, recording.digest()),
        Answer::Digested(sent, timed) => (sent, timed),
    };
    RequestSample {
        stream: raw.stream,
        scheduled: raw.scheduled,
        sent,
        timed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::load::calibration_server::{CalibrationServer, Script};
    use crate::tasks::worker::record::bench::RequestOutcome;

    const LIMIT: Duration = Duration::from_secs(60);

    const SCRIPT: Script = Script {
        tokens: 3,
        gap: Duration::from_millis(2),
    };

    fn requests(numbers: std::ops::Range<usize>) -> Requests {
        numbers
            .map(|number| timed::spell(&CalibrationServer::request(number)))
            .collect()
    }

    fn budget(requests: Option<usize>) -> Budget {
        Budget {
            warm_up: Duration::from_millis(20),
            duration: Duration::from_millis(100),
            requests,
            least: 5,
            at_most: LIMIT,
            limit: LIMIT,
        }
    }

    fn driven(port: u16, load: Load, requests_wanted: Option<usize>) -> LoadResult {
        let both = (requests(0..2), requests(2..4));
        let stop = StopFlag::default();
        drive(port, load, both, budget(requests_wanted), &stop, || Ok(())).unwrap()
    }

    fn in_window(driven: &LoadResult) -> Vec<&RequestSample> {
        let counts = |shot: &&RequestSample| shot.sent >= driven.window.0;
        driven.shots.iter().filter(counts).collect()
    }

    #[test]
    fn a_closed_loop_sends_exactly_the_requests_that_are_asked_for() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let driven = driven(worker.port, Load::Closed { streams: 3 }, Some(7));
        let counted = in_window(&driven);
        assert_eq!(counted.len(), 7);
        assert!(driven.shots.len() > 7, "nothing warmed up");
        for shot in counted {
            assert_eq!(shot.timed.outcome, RequestOutcome::Valid);
            assert_eq!(shot.timed.text, " word word word");
            assert!(shot.timed.took >= 3 * SCRIPT.gap, "{shot:?}");
        }
    }

    #[test]
    fn a_closed_loop_lasts_as_long_as_is_asked_for_and_has_enough_requests() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let driven = driven(worker.port, Load::Closed { streams: 1 }, None);
        let (from, to) = driven.window;
        assert!(to - from >= Duration::from_millis(100));
        assert!(in_window(&driven).len() >= 5);
    }

    #[test]
    fn an_open_loop_sends_when_it_is_due_and_not_before() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let load = Load::Open {
            rate_per_s: 200.0,
            seed: 3,
        };
        let driven = driven(worker.port, load, None);
        assert!(driven.shots.len() >= 5);
        for shot in &driven.shots {
            assert!(shot.sent >= shot.scheduled.unwrap(), "{shot:?}");
        }
    }

    #[test]
    fn a_load_that_nobody_answers_ends() {
        let nobody = crate::tasks::worker::process::port::pick_free().unwrap();
        let driven = driven(nobody, Load::Closed { streams: 8 }, None);
        let failed =
            |shot: &&RequestSample| matches!(shot.timed.outcome, RequestOutcome::Failed { .. });
        assert_eq!(
            driven.shots.iter().filter(failed).count(),
            driven.shots.len()
        );
        assert!(!driven.shots.is_empty());
    }

    #[test]
    fn a_worker_that_dies_or_an_interruption_ends_a_load_at_once() {
        let worker = CalibrationServer::start(Script {
            tokens: 1000,
            gap: Duration::from_secs(1),
        })
        .unwrap();
        let run = |stop: &StopFlag, alive: fn() -> Result<()>| {
            let both = (requests(0..1), requests(1..2));
            let load = Load::Closed { streams: 2 };
            drive(worker.port, load, both, budget(None), stop, alive)
        };
        let error = run(&StopFlag::default(), || anyhow::bail!("it is dead")).unwrap_err();
        assert_eq!(error.to_string(), "it is dead");
        let stop = StopFlag::default();
        stop.raise(2);
        assert!(run(&stop, || Ok(())).is_err());
    }
}
