//! What the workers of a stress run are asked under load, and what they have to answer.

use std::sync::Arc;
use std::time::Duration;

use crate::tasks::worker::check::stress::HEALTH_LIMIT;
use crate::tasks::worker::load::sustained::Exercise;
use crate::tasks::worker::load::windowed::Addressee;
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::dialect::{Dialect, InferenceRequest};
use crate::tasks::worker::target::reference::Reference;
use crate::tasks::worker::target::worker::WorkerHandle;

/// Where the answer to a request is judged, in messages.
pub fn place_of(request: &InferenceRequest) -> String {
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

/// What a worker is asked under load: for known texts, and whether it is healthy and itself.
pub fn exercise(worker: &WorkerHandle, references: &[Reference], limit: Duration) -> Exercise {
    let (worker_id, dialect) = (worker.launch().worker_id.clone(), worker.launch().dialect);
    let request = |reference: &Reference| {
        let request = dialect.inference_request(&reference.request, true);
        (place_of(&reference.request), request)
    };
    let requests = references.iter().map(request).collect();
    let references = references.to_vec();
    Exercise {
        requests,
        judge_text: Arc::new(move |number, text| {
            let reference = &references[number];
            reference.expect(&place_of(&reference.request), text)
        }),
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
    let named = health.worker_id.as_deref().unwrap_or(worker_id);
    let got = (health.status.as_str(), named);
    if got == ("healthy", worker_id) {
        return Ok(());
    }
    let expected = format!("healthy, from {worker_id}");
    let got = format!("{}, from {}", got.0, got.1);
    Err(Mismatch::new(&response.request, expected, got))
}
