//! Under full load: health, readiness, heartbeats and answers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::rhythm::{lateness, tolerance_ms};
use super::row::{Check, Need};
use crate::tasks::worker::load::generator::{LoadGenerator, Next, Turn};
use crate::tasks::worker::load::polling::{Poll, Question};
use crate::tasks::worker::net::client::{Client, NoAnswer, Request};
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::record::bench::Load;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Dialect, InferenceRequest, Promise, Readiness};

/// How long health may take.
const HEALTH_LIMIT: Duration = Duration::from_millis(250);

/// A single answer that takes longer than this is no accident.
const FAR_BEYOND: Duration = Duration::from_secs(1);

/// The part of slow answers that a busy machine may be to blame for.
const ACCIDENTS: f64 = 0.1;

/// How many requests are under way at any time.
const STREAMS: u32 = 8;

/// The least time that is watched.
const LEAST_WINDOW: Duration = Duration::from_millis(1500);

/// Intervals of heartbeats that are watched: one beat is due, and whoever is late has time to show it.
const INTERVALS: f64 = 1.7;

/// A beat that came so long ago has just come.
const FRESH: Duration = Duration::from_millis(50);

/// How often health and readiness are asked for.
const QUESTION_INTERVAL: Duration = Duration::from_millis(40);

/// How long an answer about health may take before it counts as none.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// How long one request of the load should take alone.
const REQUEST_TIME: Duration = Duration::from_millis(120);

/// How soon a request that found the queue full is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// What was seen of a worker that works as hard as it can.
#[derive(Debug)]
struct LoadObservation {
    /// When the load was full.
    began: Instant,
    /// When it ended.
    ended: Instant,
    /// Questions for health.
    health: Vec<Question>,
    /// Questions for readiness.
    ready: Vec<Question>,
    /// What came of the requests.
    work: LoadWork,
}

/// What came of the requests of a load.
#[derive(Debug, Default)]
struct LoadWork {
    /// How many were answered well.
    answered: usize,
    /// How many found the queue full.
    queue_full: usize,
    /// The first that went wrong.
    trouble: Option<String>,
}

/// Under full load.
pub const CHECKS: &[Check] = &[
    Check::contract("load.answers", answers)
        .promise("answers eight clients at once, or tells them that its queue is full")
        .holds(&["H12"])
        .explanation("Eight clients send requests in a loop; fails on anything but a correct answer or a well-formed 429.")
        .by_hand(|by| by.infer_beside(&InferenceRequest::new("Hello", 64)))
        .needs(&[Need::Ready]),
    Check::contract("load.health", health)
        .promise("answers health within 250 ms under full generation load")
        .holds(&["H8", "H4"])
        .explanation("Polls health 25 times a second under load; fails if an answer is wrong, or if more than a few are slow.")
        .by_hand(|by| by.health("-i -m 1"))
        .needs(&[Need::Ready]),
    Check::contract("load.ready", ready)
        .promise("stays ready under load as long as it accepts requests")
        .holds(&["H12"])
        .explanation("Fails if it says that it isn't ready although every request was accepted, or if an answer is late.")
        .by_hand(|by| by.ready("-i -m 1"))
        .needs(&[Need::Ready]),
    Check::contract("load.heartbeats", heartbeats)
        .promise("sends heartbeats on time under full generation load")
        .holds(&["B11"])
        .explanation("Fails if a heartbeat under load is later than that and our own scheduling jitter doesn't explain it.")
        .by_hand(|by| by.worker(&[("--heartbeat-interval", "1")]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
];

fn observed<'s>(subject: &'s Subject) -> Result<&'s LoadObservation> {
    subject.observations.of(|| LoadObservation::make(subject))
}

impl LoadObservation {
    /// Keeps the worker busy for a while, and asks it questions meanwhile.
    fn make(subject: &Subject) -> Result<LoadObservation> {
        let interval_s = subject.context.config.heartbeat_interval_secs as f64;
        let window = Duration::from_secs_f64(interval_s * INTERVALS).max(LEAST_WINDOW);
        let reference = subject.reference()?;
        let tokens = reference.tokens_in(REQUEST_TIME, 4, 64);
        let limit = reference.limit_of(tokens, STREAMS);
        let (client, stop) = (subject.worker.client().clone(), subject.context.stop);
        // Just after a periodic beat, so that the next one is due under load, a whole interval later.
        if subject.worker.launch().has_heartbeat {
            await_periodic_beat(subject, beats_limit(subject))?;
        }
        let began = Instant::now();
        let work = Arc::new(Mutex::new(LoadWork::default()));
        let (worker, seen) = (client.clone(), Arc::clone(&work));
        let dialect = subject.dialect();
        let job = move |turn: Turn| {
            let request = dialect.inference_request(&load_request(turn.stream, tokens), false);
            work_once(dialect, &worker, &request, limit, &seen)
        };
        let load = LoadGenerator::start(Load::Closed { streams: STREAMS }, &Arc::new(job))?;
        let poll =
            |request: Request| Poll::start(&client, request, QUESTION_INTERVAL, QUESTION_LIMIT);
        let health = poll(dialect.health_request())?;
        let ready = poll(dialect.ready_request())?;
        subject.worker.let_pass(window)?;
        load.end();
        let (health, ready) = (health.end(stop)?, ready.end(stop)?);
        load.settle(limit * 2, stop, || Ok(()))?;
        Ok(LoadObservation {
            began,
            ended: began + window,
            health,
            ready,
            work: std::mem::take(&mut *lock(&work)),
        })
    }
}

fn load_request(stream: u32, tokens: u32) -> InferenceRequest {
    InferenceRequest {
        temperature: Some(1.0),
        seed: Some(u64::from(stream)),
        ..InferenceRequest::greedy(&format!("Tell me more about number {stream}."), tokens)
    }
}

/// One request of a stream. The first that goes wrong ends its stream.
fn work_once(
    dialect: &dyn Dialect,
    client: &Client,
    request: &Request,
    limit: Duration,
    work: &Mutex<LoadWork>,
) -> Next {
    let sent = client.send(request, limit);
    let mut work = lock(work);
    let trouble = match sent {
        Ok(response) if dialect.is_busy(&response) => {
            work.queue_full += 1;
            return Next::After(RETRY_INTERVAL);
        }
        Ok(response) => match dialect.read_completion(&response) {
            Ok(_) => {
                work.answered += 1;
                return Next::Again;
            }
            Err(mismatch) => mismatch.to_string(),
        },
        Err(error) if error.is::<NoAnswer>() => error.to_string(),
        // The run was interrupted.
        Err(_) => return Next::Stop,
    };
    work.trouble.get_or_insert(trouble);
    Next::Stop
}

/// How long the next beat is waited for.
fn beats_limit(subject: &Subject) -> Duration {
    Duration::from_secs(subject.context.config.heartbeat_interval_secs) * 2
}

/// Waits until the last beat is one that brings no new state and has just come, or for `limit`: a worker
/// that doesn't beat is judged elsewhere.
fn await_periodic_beat(subject: &Subject, limit: Duration) -> Result<()> {
    let journal = subject.context.journal;
    let is_periodic = || {
        let beats = subject.hive.heartbeats();
        let [.., before, last] = &beats[..] else {
            return false;
        };
        let state = |beat| {
            let beat = subject.dialect().read_heartbeat(beat);
            beat.ok().map(|beat| beat.state)
        };
        let age_ms = journal.elapsed_ms(Instant::now()) - last.arrived_ms;
        age_ms <= FRESH.as_secs_f64() * 1e3 && state(last) == state(before)
    };
    let stop = subject.context.stop;
    let waited = stop.wait_for("a beat", limit, || Ok(is_periodic().then_some(())));
    in_time(waited).map(drop)
}

fn answers(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    if let Some(trouble) = &load.work.trouble {
        let expected = "a correct answer, or 429 `queue_full`";
        return Err(Mismatch::new("one of eight clients", expected, trouble).into());
    }
    let got = "none";
    ensure_kept(load.work.answered > 0, "eight clients", "answers", got)?;
    let full = match load.work.queue_full {
        0 => String::new(),
        count => format!(", the queue full {count} times"),
    };
    Ok(format!("{} answers{full}", load.work.answered))
}

fn health(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    let worker_id = &subject.worker.launch().worker_id;
    for question in &load.health {
        if let Ok(response) = &question.response {
            let health = subject.dialect().read_health(response)?;
            let is_well = health.status == "healthy" && health.model_loaded;
            let got = format!("{}, model_loaded {}", health.status, health.model_loaded);
            ensure_kept(
                is_well,
                "health under load",
                "healthy, model_loaded true",
                got,
            )?;
            if let Some(named) = &health.worker_id {
                let place = "health under load, `worker_id`";
                ensure_kept(named == worker_id, place, worker_id, named)?;
            }
        }
    }
    let slowest = ensure_quick(subject, &load.health, "health under load")?;
    let count = load.health.len();
    Ok(format!(
        "{count} answers, the slowest after {} ms",
        slowest.as_millis()
    ))
}

fn ready(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    for question in &load.ready {
        let Ok(response) = &question.response else {
            continue;
        };
        if let Readiness::NotReady(reason) = subject.dialect().read_ready(response)?
            && load.work.queue_full == 0
        {
            let expected = "ready, since every request was accepted";
            return Err(Mismatch::new(
                "ready under load",
                expected,
                format!("not ready, {reason}"),
            )
            .into());
        }
    }
    let unanswered = load
        .ready
        .iter()
        .find_map(|question| question.response.as_ref().err());
    if let Some(cause) = unanswered {
        return Err(Mismatch::new("ready under load", "an answer", cause).into());
    }
    let slow = load.ready.iter();
    let slow = slow.filter(|question| excess(subject, question) > FAR_BEYOND);
    let (slow_count, count) = (slow.count(), load.ready.len());
    ensure_kept(
        count > 0 && slow_count as f64 <= count as f64 * ACCIDENTS,
        "ready under load",
        "answers that don't wait for the load to end",
        format!("{slow_count} of {count} that took more than a second"),
    )?;
    Ok(format!("{count} answers"))
}

/// How long an answer took, less what we lost ourselves.
fn excess(subject: &Subject, question: &Question) -> Duration {
    let jitter = subject.jitter.between(question.asked, question.answered);
    (question.answered - question.asked).saturating_sub(jitter)
}

/// Fails where answers are slow more often than a busy machine explains; gives the slowest.
fn ensure_quick(subject: &Subject, questions: &[Question], place: &str) -> Result<Duration> {
    let excess = |question: &Question| excess(subject, question);
    let unanswered = questions
        .iter()
        .find_map(|question| question.response.as_ref().err());
    if let Some(cause) = unanswered {
        return Err(Mismatch::new(place, "an answer within 250 ms", cause).into());
    }
    let slow = questions
        .iter()
        .filter(|question| excess(question) > HEALTH_LIMIT);
    let slow_count = slow.count();
    let slowest = questions.iter().map(excess).max().unwrap_or_default();
    let allowed = (questions.len() as f64 * ACCIDENTS).max(1.0) as usize;
    ensure_kept(
        !questions.is_empty() && slow_count <= allowed && slowest < FAR_BEYOND,
        place,
        "answers within 250 ms",
        format!(
            "{slow_count} of {} that took longer, up to {} ms",
            questions.len(),
            slowest.as_millis()
        ),
    )?;
    Ok(slowest)
}

fn heartbeats(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    let Some(mismatch) = late_beat(subject, load)? else {
        return Ok(Evidence::new());
    };
    // A machine that was busy elsewhere gets a second chance; a worker that is late is late again.
    // The next beat may still be one that the load has delayed.
    await_periodic_beat(subject, beats_limit(subject))?;
    subject.worker.let_pass(FRESH * 2)?;
    let again = LoadObservation::make(subject)?;
    match late_beat(subject, &again)? {
        Some(_) => Err(mismatch.into()),
        None => Ok(String::from("on time at the second try")),
    }
}

/// The first beat under this load that was too late.
fn late_beat(subject: &Subject, load: &LoadObservation) -> Result<Option<Mismatch>> {
    let journal = subject.context.journal;
    let (began_ms, ended_ms) = (
        journal.elapsed_ms(load.began),
        journal.elapsed_ms(load.ended),
    );
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let beats = lateness(subject)?;
    // What comes after the load is over says nothing about the silence under it.
    let before_end = beats
        .iter()
        .rfind(|(arrived_ms, ..)| *arrived_ms <= ended_ms);
    let last_ms = before_end.map_or(0.0, |(arrived_ms, ..)| *arrived_ms);
    let is_silent = ended_ms - last_ms > interval_ms + tolerance_ms(interval_ms) + 50.0;
    let during = beats
        .iter()
        .filter(|(arrived_ms, ..)| (began_ms..=ended_ms).contains(arrived_ms));
    let late = during
        .filter(|(_, _, late_ms)| *late_ms > tolerance_ms(interval_ms))
        .map(|(_, number, late_ms)| (format!("heartbeat #{number}, under load"), *late_ms))
        .next();
    let silent = is_silent.then(|| {
        (
            String::from("heartbeats under load"),
            ended_ms - last_ms - interval_ms,
        )
    });
    Ok(late.or(silent).map(|(place, late_ms)| {
        let expected = format!("at most {:.0} ms late", tolerance_ms(interval_ms));
        Mismatch::new(place, expected, format!("late by {late_ms:.0} ms"))
    }))
}
