//! The worker under full load: what it says of itself meanwhile, and whether it answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tasks::worker::net::client::{Client, NoAnswer, Request, Response};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect;
use crate::tasks::worker::target::dialect::{
    Completion, InferenceRequest, is_busy_refusal, read_heartbeat,
};

/// How many requests are under way at any time.
const STREAMS: u32 = 8;

/// The least time that is watched.
const LEAST_WINDOW: Duration = Duration::from_millis(1500);

/// Intervals of heartbeats that are watched, and a little.
const INTERVALS: f64 = 2.3;

/// How often health and readiness are asked for.
const QUESTION_INTERVAL: Duration = Duration::from_millis(40);

/// How long an answer about health may take before it counts as none.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// How long one request of the load should take alone.
const REQUEST_TIME: Duration = Duration::from_millis(120);

/// How soon a request that found the queue full is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// What was seen.
#[derive(Debug)]
pub struct LoadObservation {
    /// When the load was full.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Questions for health.
    pub health: Vec<Question>,
    /// Questions for readiness.
    pub ready: Vec<Question>,
    /// How many requests were answered well.
    pub answered: usize,
    /// How many found the queue full.
    pub queue_full: usize,
    /// The first request that went wrong.
    pub trouble: Option<String>,
}

/// One question and what came.
#[derive(Debug)]
pub struct Question {
    /// Just before it was sent.
    pub asked: Instant,
    /// When the answer was whole, or when we gave up.
    pub answered: Instant,
    /// The answer, or why there was none.
    pub response: Result<Response, String>,
}

impl LoadObservation {
    /// Keeps the worker busy for a while, and asks it questions meanwhile.
    pub fn make(subject: &Subject) -> Result<LoadObservation> {
        let interval_s = subject.context.config.heartbeat_interval_secs as f64;
        let window = Duration::from_secs_f64(interval_s * INTERVALS).max(LEAST_WINDOW);
        let golden = subject.golden()?;
        let tokens = golden.tokens_in(REQUEST_TIME, 4, 64);
        let limit = golden.limit(tokens, STREAMS);
        let client = &subject.client();
        let over = AtomicBool::new(false);
        // Just after a periodic beat, so that the next one is due under load, a whole interval later.
        await_periodic_beat(subject, Duration::from_secs_f64(interval_s * 2.0))?;
        let began = Instant::now();
        let observed = std::thread::scope(|scope| {
            let over = &over;
            let streams = (0..STREAMS).map(|number| {
                let request = load_request(number, tokens);
                scope.spawn(move || keep_busy(client, &request, limit, over))
            });
            let streams: Vec<_> = streams.collect();
            let ask = |request: Request| move || ask_until(client, &request, over);
            let health = scope.spawn(ask(dialect::health_request()));
            let ready = scope.spawn(ask(dialect::ready_request()));
            let waited = wait(subject, window);
            over.store(true, Ordering::Relaxed);
            let streams: Vec<Busy> = streams
                .into_iter()
                .map(|stream| stream.join().unwrap_or_default())
                .collect();
            let questions = (health.join(), ready.join());
            waited.map(|()| (streams, questions))
        });
        let (streams, (health, ready)) = observed?;
        let lost = "a thread that asked questions broke down";
        Ok(LoadObservation {
            began,
            ended: began + window,
            health: health.ok().context(lost)?,
            ready: ready.ok().context(lost)?,
            answered: streams.iter().map(|stream| stream.answered).sum(),
            queue_full: streams.iter().map(|stream| stream.queue_full).sum(),
            trouble: streams.into_iter().find_map(|stream| stream.trouble),
        })
    }
}

/// Sends all requests at once, and gives the answers in their order. A full queue is waited for.
pub fn at_once(
    client: &Client,
    requests: &[InferenceRequest],
    limit: Duration,
) -> Vec<Result<Completion>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|request| scope.spawn(move || insist(client, request, limit)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|joined| joined.unwrap_or_else(|_| anyhow::bail!("a client's thread broke down")))
            .collect()
    })
}

#[derive(Debug, Default)]
struct Busy {
    answered: usize,
    queue_full: usize,
    trouble: Option<String>,
}

fn load_request(number: u32, tokens: u32) -> InferenceRequest {
    InferenceRequest {
        temperature: Some(1.0),
        seed: Some(u64::from(number)),
        ..InferenceRequest::greedy(&format!("Tell me more about number {number}."), tokens)
    }
}

/// Sends the request again and again.
fn keep_busy(
    client: &Client,
    request: &InferenceRequest,
    limit: Duration,
    over: &AtomicBool,
) -> Busy {
    let mut busy = Busy::default();
    while !over.load(Ordering::Relaxed) && busy.trouble.is_none() {
        let sent = client.send(&request.to_request(false), limit);
        match sent {
            Ok(response) if is_busy_refusal(&response) => {
                busy.queue_full += 1;
                std::thread::sleep(RETRY_INTERVAL);
            }
            Ok(response) => match dialect::read_completion(&response) {
                Ok(_) => busy.answered += 1,
                Err(mismatch) => busy.trouble = Some(mismatch.to_string()),
            },
            Err(error) if error.is::<NoAnswer>() => busy.trouble = Some(error.to_string()),
            Err(_) => break,
        }
    }
    busy
}

fn insist(client: &Client, request: &InferenceRequest, limit: Duration) -> Result<Completion> {
    let began = Instant::now();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let response = client.send(&request.to_request(false), left)?;
        if is_busy_refusal(&response) && !left.is_zero() {
            std::thread::sleep(RETRY_INTERVAL);
            continue;
        }
        return Ok(dialect::read_completion(&response)?);
    }
}

fn ask_until(client: &Client, request: &Request, over: &AtomicBool) -> Vec<Question> {
    let mut questions = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let response = client.send(request, QUESTION_LIMIT);
        questions.push(Question {
            asked,
            answered: Instant::now(),
            response: response.map_err(|error| error.to_string()),
        });
        std::thread::sleep(QUESTION_INTERVAL);
    }
    questions
}

/// Lets the window pass. Ends early when the worker or the run does.
fn wait(subject: &Subject, window: Duration) -> Result<()> {
    let began = Instant::now();
    let name = "the end of the load";
    subject.context.stop.wait_for(name, window * 2, || {
        subject.worker.ensure_alive()?;
        Ok((began.elapsed() >= window).then_some(()))
    })
}

/// Waits for the next beat that brings no new state, or for `limit`: a worker that doesn't beat is
/// judged elsewhere.
fn await_periodic_beat(subject: &Subject, limit: Duration) -> Result<()> {
    let seen = subject.hive.heartbeats().len();
    let is_periodic = || {
        let beats = subject.hive.heartbeats();
        let state = |at: usize| read_heartbeat(&beats[at]).ok().map(|beat| beat.state);
        let last = beats.len().saturating_sub(1);
        last >= seen.max(1) && state(last) == state(last - 1)
    };
    let stop = subject.context.stop;
    match stop.wait_for("a beat", limit, || Ok(is_periodic().then_some(()))) {
        Ok(()) => Ok(()),
        Err(error) => error.downcast::<TimedOut>().map(drop),
    }
}
