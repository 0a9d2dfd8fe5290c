//! A worker from its first millisecond until it is ready: what it says while it loads.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Subject;
use super::dialect;
use super::dialect::{InferenceRequest, Readiness};
use crate::tasks::worker::load::polling::Question;
use crate::tasks::worker::net::client::{Client, NoAnswer, Response};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::record::event::Mismatch;

/// How long one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How long a model may take beyond what the first worker needed.
const SLACK: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug)]
pub struct LoadingObservation {
    /// Questions for health, up to one after it became ready.
    pub health: Vec<Question>,
    /// Questions for readiness, up to the first that said yes.
    pub ready: Vec<Question>,
    /// An inference that was asked for as soon as the port answered.
    pub early: Question,
    /// An inference that was asked for as soon as it said that it is ready.
    pub first: Question,
}

impl LoadingObservation {
    /// Starts a worker of its own and watches it.
    pub fn make(subject: &Subject) -> Result<LoadingObservation> {
        let auxiliary = subject.auxiliary("loading", |_| {})?;
        let stop = subject.context.stop;
        let client = auxiliary.client();
        let limit = Duration::from_secs(subject.context.config.timeout_secs) + SLACK;
        let mut health = Vec::new();
        let answers = stop.wait_for("an answer of a second worker", limit, || {
            auxiliary.worker.ensure_alive()?;
            let question = ask_health(client);
            let came = question.response.is_ok();
            if came {
                health.push(question);
            }
            Ok(came.then_some(()))
        });
        answers.map_err(late)?;
        let request = InferenceRequest::greedy("Hello", 1);
        let mut ready = Vec::new();
        std::thread::scope(|scope| {
            let early = scope.spawn(|| ask_inference(client, &request, limit));
            let became = stop.wait_for("a second worker to be ready", limit, || {
                auxiliary.worker.ensure_alive()?;
                let question = ask(client, &dialect::ready_request(), QUESTION_LIMIT);
                let is_ready = says_ready(&question);
                ready.push(question);
                if !is_ready {
                    health.push(ask_health(client));
                }
                Ok(is_ready.then_some(()))
            });
            became.map_err(late)?;
            let first = ask_inference(client, &request, limit);
            health.push(ask_health(client));
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

fn ask(
    client: &Client,
    request: &crate::tasks::worker::net::client::Request,
    limit: Duration,
) -> Question {
    let asked = Instant::now();
    let response = client.send(request, limit);
    Question {
        asked,
        answered: Instant::now(),
        response: response.map_err(describe),
    }
}

fn ask_health(client: &Client) -> Question {
    ask(client, &dialect::health_request(), QUESTION_LIMIT)
}

fn ask_inference(client: &Client, request: &InferenceRequest, limit: Duration) -> Question {
    ask(client, &request.to_request(false), limit)
}

fn says_ready(question: &Question) -> bool {
    let read = |response: &Response| dialect::read_ready(response).ok();
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
