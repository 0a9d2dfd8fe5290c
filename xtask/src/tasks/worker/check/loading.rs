//! While the model loads: what health, readiness, inference and heartbeats say.
//!
//! A model that loads too fast to be seen loading breaks no promise.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::rhythm::beats;
use super::row::{Check, Need};
use crate::tasks::worker::load::polling::Question;
use crate::tasks::worker::net::client::{Client, NoAnswer, Request, Response};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::record::event::{Mismatch, Unmet};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{
    BeatState, Dialect, InferenceRequest, Promise, Readiness, Reason,
};

/// An inference that is held while readiness was denied so often for so long wasn't merely late.
const HELD_ANSWERS: usize = 3;
const HELD: Duration = Duration::from_millis(25);

/// A beat that was under way for longer than this wasn't on a loopback connection.
const UNDER_WAY_MS: f64 = 10.0;

/// While the model loads.
pub const CHECKS: &[Check] = &[
    Check::contract("loading.health", health)
        .promise("reports in health whether its model is loaded")
        .holds(&["H5", "H6"])
        .explanation("Polls a second worker from its start; fails on loading with a loaded model, healthy without one, or loading after it was ready.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Ready, Need::Promised(Promise::Stages)]),
    Check::contract("loading.ready", ready)
        .promise("says why it isn't ready and when to retry, and is ready when it says so")
        .holds(&["H10"])
        .explanation("Polls a second worker from its start; fails on a malformed 503, or if an inference is refused right after ready said true.")
        .by_hand(|by| by.ready("-i"))
        .needs(&[Need::Ready, Need::Promised(Promise::Stages)]),
    Check::contract("loading.inference", inference)
        .promise("refuses inference while it loads instead of holding it")
        .holds(&["E13"])
        .explanation("Sends an inference as soon as the port answers; fails if it is held, or refused with anything but 503 not_ready and Retry-After.")
        .by_hand(|by| by.infer("-i", &InferenceRequest::new("Hello", 1)))
        .needs(&[Need::Ready]),
    Check::contract("loading.heartbeat", heartbeat)
        .promise("tells the hive that it is loading while it loads")
        .holds(&["B2"])
        .explanation("Fails if a heartbeat says Ready before the worker itself does, or Loading afterwards.")
        .by_hand(|by| by.worker(&[]))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)]),
];

fn observed<'s>(subject: &'s Subject) -> Result<&'s LoadingObservation> {
    subject
        .observations
        .of(|| LoadingObservation::make(subject))
}

fn health(subject: &Subject) -> Result<Evidence> {
    let loading = observed(subject)?;
    let mut seen_loading = 0;
    for (number, question) in loading.health.iter().enumerate() {
        let Ok(response) = &question.response else {
            continue;
        };
        let health = subject.dialect().read_health(response)?;
        let is_loading = health.status == "loading";
        seen_loading += usize::from(is_loading);
        ensure_kept(
            health.model_loaded != is_loading,
            "health of a worker that is starting",
            "model_loaded true exactly when it is no longer loading",
            format!(
                "status {}, model_loaded {}",
                health.status, health.model_loaded
            ),
        )?;
        let is_last = number + 1 == loading.health.len();
        let place = "health of a worker that said it is ready";
        ensure_kept(!is_last || !is_loading, place, "healthy", &health.status)?;
    }
    let last = loading.health.last();
    if let Some(Err(cause)) = last.map(|question| &question.response) {
        let place = "health of a worker that said it is ready";
        return Err(Mismatch::new(place, "an answer", cause).into());
    }
    Ok(times_loading(seen_loading))
}

fn ready(subject: &Subject) -> Result<Evidence> {
    let loading = observed(subject)?;
    let mut denied = 0;
    for question in &loading.ready {
        let Ok(response) = &question.response else {
            continue;
        };
        if let Readiness::NotReady(reason) = subject.dialect().read_ready(response)? {
            denied += 1;
            let place = "ready of a worker that is starting, `reason`";
            ensure_kept(reason == "loading", place, "loading", &reason)?;
        }
    }
    let place = "an inference right after ready said yes";
    let first = loading.first.as_ref().map_err(Unmet::clone)?;
    match &first.response {
        Ok(response) => subject
            .dialect()
            .read_completion(response)
            .map_err(|mismatch| Mismatch {
                place: format!("{}, right after ready said yes", mismatch.place),
                ..mismatch
            })?,
        Err(cause) => return Err(Mismatch::new(place, "an answer", cause).into()),
    };
    Ok(times_loading(denied))
}

fn inference(subject: &Subject) -> Result<Evidence> {
    let loading = observed(subject)?;
    let place = "an inference while the model loads";
    let response = match &loading.early.response {
        Ok(response) => response,
        Err(cause) => {
            subject.auxiliaries.ensure_heard()?;
            return Err(Mismatch::new(place, "503 `not_ready`", cause).into());
        }
    };
    if response.status == 200 {
        subject.dialect().read_completion(response)?;
        let denied = denied_meanwhile(subject.dialect(), loading);
        let (first, last) = (denied.first(), denied.last());
        let held = first.zip(last).map_or(Duration::ZERO, |(first, last)| {
            last.asked.saturating_duration_since(first.answered)
        });
        let is_held = denied.len() >= HELD_ANSWERS && held >= HELD;
        let got = format!(
            "an answer that was held while ready said no {} times",
            denied.len()
        );
        ensure_kept(!is_held, place, "503 `not_ready` at once", got)?;
        return Ok(times_loading(0));
    }
    let refused = subject.dialect().read_refusal(response, Reason::NotReady);
    refused.map_err(|mismatch| Mismatch {
        place: place.to_owned(),
        ..mismatch
    })?;
    Ok(String::from("503 not_ready"))
}

/// Answers that denied readiness while the early inference was under way.
fn denied_meanwhile<'l>(
    dialect: &dyn Dialect,
    loading: &'l LoadingObservation,
) -> Vec<&'l Question> {
    let is_denied = |question: &&Question| {
        let response = question.response.as_ref().ok();
        let said = response.and_then(|response| dialect.read_ready(response).ok());
        matches!(said, Some(Readiness::NotReady(_)))
            && question.asked > loading.early.asked
            && question.answered < loading.early.answered
    };
    loading.ready.iter().filter(is_denied).collect()
}

fn heartbeat(subject: &Subject) -> Result<Evidence> {
    let journal = subject.context.journal;
    let beats = beats(subject)?;
    if let Some(denied) = subject.start_up.last_not_ready {
        let denied_ms = journal.elapsed_ms(denied) - UNDER_WAY_MS;
        let early = beats.iter().find(|(arrival, beat)| {
            arrival.arrived_ms < denied_ms
                && matches!(beat.state, BeatState::Ready | BeatState::Busy)
        });
        if let Some((arrival, beat)) = early {
            let place = format!("heartbeat #{}, while ready said no", arrival.number);
            return Err(Mismatch::new(place, "Loading", format!("{:?}", beat.state)).into());
        }
    }
    let ready = subject.start_up.ready.unwrap_or_default();
    let ready_ms = journal.elapsed_ms(subject.worker.started() + ready);
    let late = beats.iter().find(|(arrival, beat)| {
        arrival.arrived_ms > ready_ms + 1000.0 && beat.state == BeatState::Loading
    });
    if let Some((arrival, _)) = late {
        let place = format!("heartbeat #{}, a second after it was ready", arrival.number);
        return Err(Mismatch::new(place, "Ready or Busy", "Loading").into());
    }
    let loading = beats
        .iter()
        .filter(|(_, beat)| beat.state == BeatState::Loading);
    Ok(times_loading(loading.count()))
}

fn times_loading(count: usize) -> Evidence {
    match count {
        0 => String::from("it loads too fast to be observed loading"),
        count => format!("observed loading {count} times"),
    }
}

/// How long one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How long a model may take beyond what the first worker needed.
const SLACK: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug)]
struct LoadingObservation {
    /// Questions for health, up to one after it became ready.
    health: Vec<Question>,
    /// Questions for readiness, up to the first that said yes.
    ready: Vec<Question>,
    /// An inference that was asked for as soon as the port answered.
    early: Question,
    /// An inference that was asked for as soon as it said that it is ready.
    first: Result<Question, Unmet>,
}

impl LoadingObservation {
    /// Starts a worker of its own and watches it.
    fn make(subject: &Subject) -> Result<LoadingObservation> {
        let auxiliary = subject.auxiliaries.start("loading", |_| {})?;
        let stop = subject.context.stop;
        let (client, dialect) = (auxiliary.worker.client(), auxiliary.worker.dialect());
        let limit = Duration::from_secs(subject.context.config.timeout_secs) + SLACK;
        let mut health = Vec::new();
        let answers = stop.wait_for("an answer of a second worker", limit, || {
            auxiliary.worker.ensure_alive()?;
            let question = ask(client, &dialect.health_request(), QUESTION_LIMIT);
            let came = question.response.is_ok();
            if came {
                health.push(question);
            }
            Ok(came.then_some(()))
        });
        answers.map_err(late)?;
        let request = InferenceRequest::greedy("Hello", 1);
        let request = dialect.inference_request(&request, false);
        let mut ready = Vec::new();
        std::thread::scope(|scope| {
            let early = scope.spawn(|| ask(client, &request, limit));
            let became = stop.wait_for("a second worker to be ready", limit, || {
                auxiliary.worker.ensure_alive()?;
                let question = ask(client, &dialect.ready_request(), QUESTION_LIMIT);
                let is_ready = says_ready(dialect, &question);
                ready.push(question);
                if !is_ready {
                    health.push(ask(client, &dialect.health_request(), QUESTION_LIMIT));
                }
                Ok(is_ready.then_some(()))
            });
            became.map_err(late)?;
            let heard = auxiliary.worker.line().silence.ensure_heard();
            let first = heard.map(|()| ask(client, &request, limit));
            health.push(ask(client, &dialect.health_request(), QUESTION_LIMIT));
            let early = early
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(LoadingObservation {
                health: std::mem::take(&mut health),
                ready: std::mem::take(&mut ready),
                early,
                first,
            })
        })
    }
}

fn ask(client: &Client, request: &Request, limit: Duration) -> Question {
    let asked = Instant::now();
    let response = client.send(request, limit);
    Question {
        asked,
        answered: Instant::now(),
        response: response.map_err(describe),
    }
}

fn says_ready(dialect: &dyn Dialect, question: &Question) -> bool {
    let read = |response: &Response| dialect.read_ready(response).ok();
    let said = question.response.as_ref().ok().and_then(read);
    said == Some(Readiness::Ready)
}

fn describe(error: anyhow::Error) -> String {
    match error.downcast::<NoAnswer>() {
        Ok(no_answer) => no_answer.cause,
        Err(error) => error.to_string(),
    }
}

fn late(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<TimedOut>() {
        Ok(timed_out) => {
            let expected = format!("ready within {} s", timed_out.limit.as_secs());
            Mismatch::new("start of a second worker", expected, "not ready").into()
        }
        Err(error) => error,
    }
}
