//! A load that may go on for hours: streams that ask one worker again and again and keep nothing but
//! counts, and somebody who asks for its health meanwhile. The worker may be gone for a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::generator::{LoadGenerator, Next, Turn};
use super::polling::ask;
use super::sample::RequestSample;
use super::windowed::Addressee;
use crate::tasks::worker::net::client::{Client, Response};
use crate::tasks::worker::net::http::Request;
use crate::tasks::worker::net::recording::record;
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::process::wait::wait_until;
use crate::tasks::worker::record::bench::{Load, RequestOutcome};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::random::Random;

/// The status of a refusal that asks to come back later.
const QUEUE_FULL: u16 = 429;

/// How soon a request that found the queue full is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A request that fails may be the first to know that the worker is gone: it is judged after this.
const SECOND_THOUGHT: Duration = Duration::from_millis(400);

/// How often a stream looks whether its worker is back.
const BACK_INTERVAL: Duration = Duration::from_millis(10);

/// How often health is asked for.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// How long an answer about health may take before it counts as none.
const HEALTH_PATIENCE: Duration = Duration::from_secs(3);

/// Slow answers beyond these are counted and not kept.
const SLOW_KEPT: usize = 10_000;

/// Holds a text against what is right for the request of that number.
pub type JudgeText = Arc<dyn Fn(usize, &str) -> Result<(), Mismatch> + Send + Sync>;

/// Holds an answer about health against what is right.
pub type JudgeHealth = Arc<dyn Fn(&Response) -> Result<(), Mismatch> + Send + Sync>;

/// What a sustained load asks, and what has to be answered.
#[derive(Clone)]
pub struct Exercise {
    /// Names and requests of streams, of which each stream picks one by chance, again and again.
    pub requests: Arc<[(String, Request)]>,
    /// Whether this is the right text for the request of that number.
    pub judge_text: JudgeText,
    /// The longest that one request may take.
    pub limit: Duration,
    /// Asks for health.
    pub health: Request,
    /// Whether this is the right answer to it.
    pub judge_health: JudgeHealth,
    /// An answer about health that takes longer is kept.
    pub health_limit: Duration,
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
pub struct HealthTally {
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
pub struct SustainedLoad {
    shared: Arc<SharedLoad>,
    streams: LoadGenerator,
    health: LoadGenerator,
}

struct SharedLoad {
    exercise: Exercise,
    /// How often the worker went; odd while it is gone.
    absences: AtomicU64,
    /// How the worker is reached in this life of it: for streams, and for health.
    reached: Mutex<(Addressee, Client)>,
    tally: Mutex<Tally>,
    health: Mutex<HealthTally>,
}

impl SustainedLoad {
    /// Puts a worker under the load of so many streams.
    pub fn start(
        addressee: Addressee,
        client: Client,
        exercise: Exercise,
        streams: u32,
    ) -> Result<Self> {
        let port = addressee.port;
        let shared = Arc::new(SharedLoad {
            exercise,
            absences: AtomicU64::new(0),
            reached: Mutex::new((addressee, client)),
            tally: Mutex::default(),
            health: Mutex::default(),
        });
        let randoms: Vec<_> = (0..streams)
            .map(|stream| Mutex::new(Random::new(u64::from(port) << 16 | u64::from(stream))))
            .collect();
        let one = Arc::clone(&shared);
        let ask = move |turn: Turn| one.ask(turn, &mut lock(&randoms[turn.stream as usize]));
        let one = Arc::clone(&shared);
        let ask_for_health = move |_: Turn| one.ask_for_health();
        Ok(Self {
            streams: LoadGenerator::start(Load::Closed { streams }, &Arc::new(ask))?,
            health: LoadGenerator::start(Load::Closed { streams: 1 }, &Arc::new(ask_for_health))?,
            shared,
        })
    }

    /// Whatever fails from now on isn't the worker's fault: it was killed.
    pub fn mark_gone(&self) {
        if !self.is_gone() {
            self.shared.absences.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It is there again, and reached like this.
    pub fn mark_back(&self, addressee: Addressee, client: Client) {
        *lock(&self.shared.reached) = (addressee, client);
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

    /// What came of the questions for health so far.
    pub fn health(&self) -> HealthTally {
        lock(&self.shared.health).clone()
    }

    /// Sends no more requests.
    pub fn end(&self) {
        self.streams.end();
        self.health.end();
    }

    /// Waits until everything that was under way at the end has come.
    pub fn settle(&self, stop: &StopFlag) -> Result<()> {
        let limit = self.shared.exercise.limit + SECOND_THOUGHT * 2 + HEALTH_PATIENCE;
        self.streams.settle(limit, stop, || Ok(()))?;
        self.health.settle(limit, stop, || Ok(()))
    }
}

impl SharedLoad {
    /// One request of a stream.
    fn ask(&self, turn: Turn, random: &mut Random) -> Next {
        let before = self.absences.load(Ordering::SeqCst);
        if is_gone(before) {
            return Next::After(BACK_INTERVAL);
        }
        let exercise = &self.exercise;
        let Addressee {
            port,
            spelling,
            stop,
        } = lock(&self.reached).0.clone();
        let number = random.index(exercise.requests.len());
        let (name, request) = &exercise.requests[number];
        let bytes = request.to_closing_bytes(port);
        let recording = record(port, &bytes, exercise.limit, &stop);
        if recording.status() == Some(QUEUE_FULL) {
            lock(&self.tally).refused += 1;
            return Next::After(RETRY_INTERVAL);
        }
        let sample = RequestSample::of(&recording, turn, name, spelling);
        let is_whole = sample.outcome == RequestOutcome::Valid;
        let kept = match &sample.outcome {
            RequestOutcome::Valid => (exercise.judge_text)(number, &sample.text),
            RequestOutcome::Invalid { reason } | RequestOutcome::Failed { reason } => {
                Err(Mismatch::new(name, "an answer by the rules", reason))
            }
        };
        let was_there = is_whole || self.stays(before);
        let mut tally = lock(&self.tally);
        if is_whole {
            tally.tokens += sample.tokens();
        }
        match kept {
            Ok(()) => tally.requests += 1,
            Err(_) if !was_there && !is_whole => tally.cut += 1,
            Err(mismatch) => {
                tally.failures += 1;
                tally.trouble.get_or_insert(mismatch);
                // A worker that answers, though with another text, keeps its load: without it, it
                // would seem to be slower than the others.
                if !is_whole {
                    return Next::AfterFailure;
                }
            }
        }
        Next::Again
    }

    /// Whether the worker has been there all the while since there were so many `absences`, now that
    /// an answer is missing.
    fn stays(&self, absences: u64) -> bool {
        let has_gone = || self.absences.load(Ordering::SeqCst) != absences;
        !wait_until(SECOND_THOUGHT, BACK_INTERVAL, has_gone)
    }

    fn ask_for_health(&self) -> Next {
        let before = self.absences.load(Ordering::SeqCst);
        if !is_gone(before) {
            let (Addressee { stop, .. }, client) = lock(&self.reached).clone();
            let question = ask(&client, &self.exercise.health, HEALTH_PATIENCE);
            let kept = match &question.response {
                Ok(response) => (self.exercise.judge_health)(response),
                Err(cause) => {
                    let name = self.exercise.health.name();
                    Err(Mismatch::new(name, "an answer", cause))
                }
            };
            let was_there = kept.is_ok() || self.stays(before);
            if was_there && stop.check().is_ok() {
                let took = question.answered - question.asked;
                let mut health = lock(&self.health);
                health.note(question.asked, took, kept, self.exercise.health_limit);
            }
        }
        Next::After(HEALTH_INTERVAL)
    }
}

impl HealthTally {
    fn note(
        &mut self,
        asked: Instant,
        took: Duration,
        kept: Result<(), Mismatch>,
        limit: Duration,
    ) {
        match kept {
            Ok(()) => self.answers += 1,
            Err(mismatch) => {
                self.trouble.get_or_insert(mismatch);
            }
        }
        if took <= limit {
            self.longest_quick = self.longest_quick.max(took);
        } else if self.slow.len() < SLOW_KEPT {
            self.slow.push((asked, took));
        }
    }

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
