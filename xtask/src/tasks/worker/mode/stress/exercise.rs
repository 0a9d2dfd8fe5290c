//! What the workers of a stress run are asked, and what they have to answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::tasks::worker::load::generator::Turn;
use crate::tasks::worker::load::sample::RequestSample;
use crate::tasks::worker::load::sustained::Exercise;
use crate::tasks::worker::load::windowed::Addressee;
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::net::recording::record;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::RequestOutcome;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::dialect::{Dialect, InferenceRequest};
use crate::tasks::worker::target::worker::WorkerHandle;

/// How long answers about health may take.
pub const HEALTH_LIMIT: Duration = Duration::from_millis(250);

/// A greedy request and the text that every worker with the same model answers.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is asked.
    pub request: InferenceRequest,
    /// What has to be answered.
    pub text: String,
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

/// Where the load goes that is put on a worker.
pub fn addressee(worker: &WorkerHandle, stop: &StopFlag) -> Addressee {
    let launch = worker.launch();
    Addressee {
        port: launch.port,
        spelling: launch.dialect,
        stop: stop.clone(),
    }
}

/// Asks a worker once. Fails with a [`Mismatch`] unless the answer keeps the rules.
pub fn ask_once(
    worker: &WorkerHandle,
    request: &InferenceRequest,
    limit: Duration,
    stop: &StopFlag,
) -> Result<RequestSample> {
    stop.check()?;
    let (port, dialect) = (worker.launch().port, worker.launch().dialect);
    let bytes = dialect
        .inference_request(request, true)
        .to_closing_bytes(port);
    let recording = record(port, &bytes, limit, stop);
    stop.check()?;
    let turn = Turn {
        stream: 0,
        scheduled: None,
    };
    let place = place_of(request);
    let sample = RequestSample::of(&recording, turn, &place, dialect);
    match &sample.outcome {
        RequestOutcome::Valid => Ok(sample),
        RequestOutcome::Invalid { reason } | RequestOutcome::Failed { reason } => {
            Err(Mismatch::new(place, "an answer by the rules", reason).into())
        }
    }
}

/// What a worker is asked under load: the orders, and whether it is healthy and itself.
pub fn exercise(worker: &WorkerHandle, orders: &[Order], limit: Duration) -> Exercise {
    let (worker_id, dialect) = (worker.launch().worker_id.clone(), worker.launch().dialect);
    let request = |order: &Order| {
        let request = dialect.inference_request(&order.request, true);
        (place_of(&order.request), request)
    };
    let requests = orders.iter().map(request).collect();
    let orders = orders.to_vec();
    Exercise {
        requests,
        judge_text: Arc::new(move |number, text| orders[number].expect(text)),
        limit,
        health: dialect.health_request(),
        judge_health: Arc::new(move |response| judge_health(dialect, response, &worker_id)),
        health_limit: HEALTH_LIMIT,
    }
}

/// Whether the worker lives, and whether it is the one that was meant.
fn judge_health(
    dialect: &dyn Dialect,
    response: &Response,
    worker_id: &str,
) -> Result<(), Mismatch> {
    let health = dialect.read_health(response)?;
    let named = health.worker_id.unwrap_or_default();
    let got = (health.status.as_str(), named.as_str());
    if got == ("healthy", worker_id) {
        return Ok(());
    }
    let expected = format!("healthy, from {worker_id}");
    let got = format!("{}, from {}", got.0, got.1);
    Err(Mismatch::new(&response.request, expected, got))
}
