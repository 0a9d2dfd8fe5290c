//! How the contract spells things: paths, request bodies, answers, stream events, heartbeats.
//!
//! The only place above the wire that knows a path or a field's name. Reading is strict: what the
//! contract promises and an answer lacks is a [`Mismatch`]. Nothing here is shared with the worker,
//! so that a mistake on one side can't hide the same mistake on the other.

mod bad;
mod fields;
mod heartbeat;
mod inference;
mod known;
mod refusal;

pub use bad::{
    BadRequest, absurd, beyond_context, bodies_to_take, fields_to_take, framing, half_a_request,
    invalid_fields, malformed, media_types, post_json, too_large, unknown_paths, wrong_methods,
};
pub use fields::{Fields, is_media_type};
pub use heartbeat::{BeatState, HeartbeatPayload, is_heartbeat_request, read_heartbeat};
pub use inference::{
    Completion, FinishReason, InferenceRequest, StreamEvent, read_completion, read_phases,
    read_stream_event,
};

pub use known::{known_end, known_prompt, known_token};
pub use refusal::{Refusal, is_busy_refusal, read_refusal, refusal_in_short};

use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::record::event::Mismatch;

/// What the health answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `loading`, `healthy` or `draining`.
    pub status: String,
    /// Whether the model is in memory.
    pub model_loaded: bool,
    /// Whose answer it is.
    pub worker_id: String,
}

/// What the ready answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// An inference would be accepted.
    Ready,
    /// It would not, for this reason.
    NotReady(String),
}

/// Asks whether the process lives.
pub fn health_request() -> Request {
    get("/v1/health")
}

/// Asks whether an inference would be accepted.
pub fn ready_request() -> Request {
    get("/v1/ready")
}

/// Reads the answer to [`health_request`].
pub fn read_health(response: &Response) -> Result<Health, Mismatch> {
    expect_status(response, &[200])?;
    let fields = Fields::of(response)?;
    let status = fields.text("status")?;
    if !["loading", "healthy", "draining"].contains(&status.as_str()) {
        return Err(fields.wrong("status", "loading, healthy or draining", &status));
    }
    Ok(Health {
        status,
        model_loaded: fields.boolean("model_loaded")?,
        worker_id: fields.text("worker_id")?,
    })
}

/// Reads the answer to [`ready_request`].
pub fn read_ready(response: &Response) -> Result<Readiness, Mismatch> {
    expect_status(response, &[200, 503])?;
    let fields = Fields::of(response)?;
    let ready = fields.boolean("ready")?;
    match (response.status, ready) {
        (200, true) => Ok(Readiness::Ready),
        (503, false) => {
            let reason = fields.text("reason")?;
            if !["loading", "draining"].contains(&reason.as_str()) {
                return Err(fields.wrong("reason", "loading or draining", &reason));
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

/// The answer has one of these statuses.
pub fn expect_status(response: &Response, allowed: &[u16]) -> Result<(), Mismatch> {
    if allowed.contains(&response.status) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(u16::to_string).collect();
    let body = fields::shorten(&String::from_utf8_lossy(&response.body));
    Err(Mismatch::new(
        &response.request,
        format!("status {}", allowed.join(" or ")),
        format!("status {} with {body}", response.status),
    ))
}

/// The answer says when to come back, in whole seconds.
pub fn expect_retry_after(response: &Response) -> Result<(), Mismatch> {
    let value = response.header("retry-after");
    match value.map(str::parse::<u64>) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Mismatch::new(
            format!("{}, status {}", response.request, response.status),
            "a Retry-After header with a number of seconds",
            value.map_or(String::from("none"), |value| format!("`{value}`")),
        )),
    }
}

fn get(path: &str) -> Request {
    Request {
        method: "GET",
        path: path.to_owned(),
        body: None,
    }
}
