//! The contract of this repository's worker, CONTRACT.md, and nothing else: its paths, bodies,
//! answers, events and heartbeats.

mod bad;
mod heartbeat;
mod inference;
mod refusal;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::bodies;
use super::fields::Fields;
use super::generation::InferenceRequest;
use super::protocol::{
    BadInput, BadRequest, Dialect, GoodInput, Health, HeartbeatPayload, Promise, Readiness, Reason,
    Refusal, expect_retry_after, expect_status,
};
use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::stream::{Completion, StreamDecoder, StreamSpelling};
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::record::facts::Phases;

/// Speaks as CONTRACT.md says.
#[derive(Debug)]
pub struct Native;

impl Dialect for Native {
    /// Everything but chat.
    fn promises(&self, promise: Promise) -> bool {
        promise != Promise::Chat
    }

    fn health_request(&self) -> Request {
        get("/v1/health")
    }

    fn ready_request(&self) -> Request {
        get("/v1/ready")
    }

    fn inference_request(&self, request: &InferenceRequest, stream: bool) -> Request {
        inference::request(request, stream)
    }

    fn read_health(&self, response: &Response) -> Result<Health, Mismatch> {
        read_health(response)
    }

    fn read_ready(&self, response: &Response) -> Result<Readiness, Mismatch> {
        read_ready(response)
    }

    fn read_completion(&self, response: &Response) -> Result<Completion, Mismatch> {
        inference::read_completion(response)
    }

    fn read_phases(&self, body: &Value) -> Option<Phases> {
        inference::read_phases(body)
    }

    fn read_refusal(&self, response: &Response, reason: Reason) -> Result<Refusal, Mismatch> {
        refusal::read(response, reason)
    }

    fn read_error(&self, response: &Response) -> Result<Refusal, Mismatch> {
        refusal::read_error(response)
    }

    fn read_heartbeat(&self, request: &Heartbeat) -> Result<HeartbeatPayload, Mismatch> {
        heartbeat::read(request)
    }

    fn bad_requests(&self, kind: BadInput) -> Vec<BadRequest> {
        bad::requests(kind)
    }

    fn good_requests(&self, kind: GoodInput) -> Vec<(String, Vec<u8>)> {
        bad::requests_to_take(kind)
    }

    fn broken_framing(&self) -> Vec<(&'static str, Vec<u8>)> {
        bad::framing()
    }

    fn half_a_request(&self) -> Vec<u8> {
        bodies::half_a_request(&bad::POST)
    }
}

impl StreamSpelling for Native {
    fn decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(inference::NativeDecoder)
    }

    fn has_event_per_token(&self) -> bool {
        self.promises(Promise::EventPerToken)
    }

    fn error_in_short(&self, body: &[u8]) -> String {
        refusal::in_short(body)
    }
}

/// Reads the answer to [`health_request`].
fn read_health(response: &Response) -> Result<Health, Mismatch> {
    expect_status(response, &[200, 503])?;
    let fields = Fields::of(response)?;
    let status = fields.text("status")?;
    let (allowed, named): (&[&str], _) = match response.status {
        200 => (
            &["loading", "healthy", "draining"],
            "loading, healthy or draining",
        ),
        _ => (&["failed"], "failed with status 503"),
    };
    if !allowed.contains(&status.as_str()) {
        return Err(fields.wrong("status", named, &status));
    }
    Ok(Health {
        status,
        model_loaded: fields.boolean("model_loaded")?,
        worker_id: Some(fields.text("worker_id")?),
    })
}

/// Reads the answer to [`ready_request`].
fn read_ready(response: &Response) -> Result<Readiness, Mismatch> {
    expect_status(response, &[200, 503])?;
    let fields = Fields::of(response)?;
    let ready = fields.boolean("ready")?;
    match (response.status, ready) {
        (200, true) => Ok(Readiness::Ready),
        (503, false) => {
            let reason = fields.text("reason")?;
            if !["loading", "draining", "failed"].contains(&reason.as_str()) {
                return Err(fields.wrong("reason", "loading, draining or failed", &reason));
            }
            expect_retry_after(response)?;
            Ok(Readiness::NotReady(reason))
        }
        (status, ready) => Err(fields.wrong(
            "ready",
            if status == 200 {
                "true with status 200"
            } else {
                "false with status 503"
            },
            &ready.to_string(),
        )),
    }
}

fn get(path: &str) -> Request {
    Request {
        method: "GET",
        path: path.to_owned(),
        authorization: None,
        body: None,
    }
}
