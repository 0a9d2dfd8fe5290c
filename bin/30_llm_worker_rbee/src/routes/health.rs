//! `GET /v1/health` and `GET /v1/ready`: read the state, touch nothing, wait for nothing.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::RETRY_AFTER_S;
use crate::routes::Desk;
use crate::state::Phase;

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    model_loaded: bool,
    worker_id: String,
}

/// Alive is healthy, unless there is no engine to be alive for: whoever watches starts another.
pub(super) async fn health(State(Desk { worker, .. }): State<Desk>) -> (StatusCode, Json<Health>) {
    let (code, status) = match worker.phase() {
        Phase::Loading => (StatusCode::OK, "loading"),
        Phase::Serving => (StatusCode::OK, "healthy"),
        Phase::Draining => (StatusCode::OK, "draining"),
        Phase::Failed => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    let health = Health {
        status,
        model_loaded: worker.model_loaded(),
        worker_id: worker.id.clone(),
    };
    (code, Json(health))
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// 200 only while inference is taken.
pub(super) async fn ready(State(Desk { worker, .. }): State<Desk>) -> Response {
    let reason = match worker.phase() {
        Phase::Serving => {
            let ready = Ready {
                ready: true,
                reason: None,
            };
            return Json(ready).into_response();
        }
        Phase::Loading => "loading",
        Phase::Draining => "draining",
        Phase::Failed => "failed",
    };
    let not_ready = Ready {
        ready: false,
        reason: Some(reason),
    };
    let retry_after = [(header::RETRY_AFTER, RETRY_AFTER_S)];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry_after,
        Json(not_ready),
    )
        .into_response()
}
