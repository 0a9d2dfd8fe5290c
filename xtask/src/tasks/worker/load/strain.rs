//! A load that may go on for hours: streams that ask one worker again and again and keep nothing but
//! counts, and somebody who asks for its health meanwhile. The worker may be gone for a while.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::timed;
use super::timed::Timed;
use crate::tasks::worker::net::client::{Client, NoAnswer};
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::RequestOutcome;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::random::Random;
use crate::tasks::worker::target::dialect;
use crate::tasks::worker::target::dialect::InferenceRequest;

/// A reader needs next to no stack.
const STACK_BYTES: usize = 256 << 10;

/// How soon a request that found the queue full is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A request that fails may be the first to know that the worker is gone: it is judged after this.
const SECOND_THOUGHT: Duration = Duration::from_millis(400);

/// How often a stream looks whether its worker is back.
const BACK_INTERVAL: Duration = Duration::from_millis(10);

/// After so many failures nothing more is to be learned.
const FAILURES: u64 = 100;

/// How often health is asked for.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// How long an answer about health may take before it counts as none.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);

/// Slow answers beyond these are counted and not kept.
const SLOW_KEPT: usize = 10_000;

/// A greedy request and the text that every worker with the same model answers.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is asked.
    pub request: InferenceRequest,
    /// What has to be answered.
    pub text: String,
}

/// What came of a worker's requests so far.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answered by the rules, with the right text.
    pub requests: u64,
    /// Tokens of all answers that kept the rules of streams, whatever they said.
    pub tokens: u64,
    /// Not answered so.
    pub failures: u64,
    /// Found the queue full.
    pub refused: u64,
    /// Were under way when the worker was killed.
    pub cut: u64,
    /// The first that failed.
    pub trouble: Option<Mismatch>,
}

/// What came of the questions for a worker's health so far.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// How many were answered.
    pub answers: u64,
    /// The slowest of those that were as quick as they have to be.
    pub longest_quick: Duration,
    /// When those were asked, and how long they took, that took longer than they may.
    pub slow: Vec<(Instant, Duration)>,
    /// The first answer that was wrong, or none.
    pub trouble: Option<Mismatch>,
}

/// The load on one worker. It ends when this is dropped.
#[derive(Debug)]
pub struct Strain {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    worker_id: String,
    port: u16,
    orders: Vec<(Vec<u8>, Order)>,
    /// The longest that one request may take.
    limit: Duration,
    /// An answer about health that takes longer is kept.
    health_limit: Duration,
    over: AtomicBool,
    /// How often the worker went; odd while it is gone.
    absences: AtomicU64,
    busy: AtomicUsize,
    client: Mutex<Client>,
    tally: Mutex<Tally>,
    pulse: Mutex<Pulse>,
}

/// Asks whatever listens on the port, once. Fails with a [`Mismatch`] unless the answer keeps the rules.
pub fn ask_once(port: u16, request: &InferenceRequest, limit: Duration) -> Result<Timed> {
    let bytes = timed::spell(&request.to_request(true));
    let timed = timed::record(port, &bytes, limit).digest();
    match &timed.outcome {
        RequestOutcome::Valid => Ok(timed),
        RequestOutcome::Invalid { reason } | RequestOutcome::Failed { reason } => {
            Err(Mismatch::new(place_of(request), "an answer by the rules", reason).into())
        }
    }
}

impl Order {
    /// Fails unless this is the text.
    pub fn expect(&self, text: &str) -> Result<(), Mismatch> {
        if text == self.text {
            return Ok(());
        }
        let expected = format!("the greedy text `{}`", self.text);
        Err(Mismatch::new(
            place_of(&self.request),
            expected,
            format!("`{text}`"),
        ))
    }
}

fn place_of(request: &InferenceRequest) -> String {
    format!("the answer to `{}`", request.prompt)
}

impl Strain {
    /// Puts a worker under the load of so many streams, which pick orders by chance.
    pub fn start(
        worker_id: &str,
        port: u16,
        client: Client,
        orders: &[Order],
        streams: u32,
        (limit, health_limit): (Duration, Duration),
    ) -> Result<Self> {
        let spell = |order: &Order| {
            let bytes = timed::spell(&order.request.to_request(true));
            (bytes, order.clone())
        };
        let shared = Arc::new(Shared {
            worker_id: worker_id.to_owned(),
            port,
            orders: orders.iter().map(spell).collect(),
            limit,
            health_limit,
            over: AtomicBool::new(false),
            absences: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            client: Mutex::new(client),
            tally: Mutex::default(),
            pulse: Mutex::default(),
        });
        let strain = Self { shared };
        for stream in 0..streams {
            let seed = u64::from(port) << 16 | u64::from(stream);
            strain.spawn(move |shared| shared.ask_again_and_again(Random::new(seed)))?;
        }
        strain.spawn(|shared| shared.ask_for_health())?;
        Ok(strain)
    }

    /// Whatever fails from now on isn't the worker's fault: it was killed.
    pub fn mark_gone(&self) {
        if !self.is_gone() {
            self.shared.absences.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It is there again.
    pub fn mark_back(&self, client: Client) {
        *lock(&self.shared.client) = client;
        if self.is_gone() {
            self.shared.absences.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether the worker is away.
    pub fn is_gone(&self) -> bool {
        is_gone(self.shared.absences.load(Ordering::SeqCst))
    }

    /// What came of the requests so far.
    pub fn tally(&self) -> Tally {
        lock(&self.shared.tally).clone()
    }

    /// What came of the questions so far.
    pub fn pulse(&self) -> Pulse {
        lock(&self.shared.pulse).clone()
    }

    /// Sends no more requests.
    pub fn end(&self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }

    /// Waits until everything that was under way at the end has come.
    pub fn settle(&self, stop: &StopFlag) -> Result<()> {
        let limit = self.shared.limit + SECOND_THOUGHT * 2 + HEALTH_PATIENCE;
        stop.wait_for("the last answers", limit, || {
            Ok((self.shared.busy.load(Ordering::SeqCst) == 0).then_some(()))
        })
    }

    /// The threads are left to their last answer: nobody waits for them when a run is interrupted.
    fn spawn(&self, body: impl FnOnce(&Shared) + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.busy.fetch_add(1, Ordering::SeqCst);
        let thread = std::thread::Builder::new()
            .name(String::from("stream"))
            .stack_size(STACK_BYTES);
        let started = thread.spawn(move || {
            body(&shared);
            shared.busy.fetch_sub(1, Ordering::SeqCst);
        });
        started.context("cannot start another thread")?;
        Ok(())
    }
}

impl Drop for Strain {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn ask_again_and_again(&self, mut random: Random) {
        while !self.over.load(Ordering::SeqCst) && lock(&self.tally).failures < FAILURES {
            let before = self.absences.load(Ordering::SeqCst);
            if is_gone(before) {
                std::thread::sleep(BACK_INTERVAL);
                continue;
            }
            let (bytes, order) = &self.orders[random.index(self.orders.len())];
            let recording = timed::record(self.port, bytes, self.limit);
            if recording.found_queue_full() {
                lock(&self.tally).refused += 1;
                std::thread::sleep(RETRY_INTERVAL);
                continue;
            }
            let timed = recording.digest();
            let kept = match &timed.outcome {
                RequestOutcome::Valid => order.expect(&timed.text),
                RequestOutcome::Invalid { reason } | RequestOutcome::Failed { reason } => {
                    std::thread::sleep(SECOND_THOUGHT);
                    let place = place_of(&order.request);
                    Err(Mismatch::new(place, "an answer by the rules", reason))
                }
            };
            let was_there = self.absences.load(Ordering::SeqCst) == before;
            let is_whole = timed.outcome == RequestOutcome::Valid;
            let mut tally = lock(&self.tally);
            if is_whole {
                tally.tokens += timed.chunks.iter().map(|(_, n)| u64::from(*n)).sum::<u64>();
            }
            match kept {
                Ok(()) => tally.requests += 1,
                Err(_) if !was_there && !is_whole => tally.cut += 1,
                Err(mismatch) => {
                    tally.failures += 1;
                    tally.trouble.get_or_insert(mismatch);
                }
            }
        }
    }

    fn ask_for_health(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let before = self.absences.load(Ordering::SeqCst);
            if !is_gone(before) {
                let asked = Instant::now();
                let kept = self.health();
                let took = asked.elapsed();
                if kept.is_err() {
                    std::thread::sleep(SECOND_THOUGHT);
                }
                if self.absences.load(Ordering::SeqCst) == before {
                    self.note_health(asked, took, kept);
                }
            }
            std::thread::sleep(HEALTH_INTERVAL);
        }
    }

    fn note_health(&self, asked: Instant, took: Duration, kept: Result<()>) {
        let mut pulse = lock(&self.pulse);
        match kept.map_err(anyhow::Error::downcast::<Mismatch>) {
            Ok(()) => pulse.answers += 1,
            Err(Ok(mismatch)) => {
                pulse.trouble.get_or_insert(mismatch);
            }
            // The run was interrupted.
            Err(Err(_)) => {}
        }
        if took <= self.health_limit {
            pulse.longest_quick = pulse.longest_quick.max(took);
        } else if pulse.slow.len() < SLOW_KEPT {
            pulse.slow.push((asked, took));
        }
    }

    /// Asks whether the worker lives, and whether it is the one that was meant.
    fn health(&self) -> Result<()> {
        let client = lock(&self.client).clone();
        let response = match client.send(&dialect::health_request(), HEALTH_PATIENCE) {
            Ok(response) => response,
            Err(error) => {
                let no_answer = error.downcast::<NoAnswer>()?;
                bail!(Mismatch::new(
                    no_answer.request,
                    "an answer",
                    no_answer.cause
                ));
            }
        };
        let health = dialect::read_health(&response)?;
        let got = (health.status.as_str(), health.worker_id.as_str());
        if got != ("healthy", self.worker_id.as_str()) {
            let expected = format!("healthy, from {}", self.worker_id);
            let got = format!("{}, from {}", got.0, got.1);
            bail!(Mismatch::new(response.request, expected, got));
        }
        Ok(())
    }
}

impl Pulse {
    /// How long each slow answer took, less what was lost by ourselves in that time.
    pub fn excesses(&self, jitter: &JitterWatch) -> Vec<Duration> {
        let slow = self.slow.iter();
        slow.map(|(asked, took)| jitter.excess(*asked, *took))
            .collect()
    }
}

fn is_gone(absences: u64) -> bool {
    absences % 2 == 1
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
