//! A worker from its first millisecond until it is ready: what it says while it loads.

use std::time::Duration;

use anyhow::Result;

use super::Subject;
use super::dialect::{Dialect, InferenceRequest, Readiness};
use crate::tasks::worker::load::polling::{Question, ask};
use crate::tasks::worker::net::client::Response;
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
        let (client, dialect) = (auxiliary.client(), auxiliary.dialect());
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
            let first = ask(client, &request, limit);
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

fn says_ready(dialect: &dyn Dialect, question: &Question) -> bool {
    let read = |response: &Response| dialect.read_ready(response).ok();
    let said = question.response.as_ref().ok().and_then(read);
    said == Some(Readiness::Ready)
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
