//! `GET /v1/health` and `GET /v1/ready`: read the state, touch nothing, wait for nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::RETRY_AFTER_S;
use crate::state::{Phase, Worker};

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    model_loaded: bool,
    worker_id: String,
}

/// Alive is healthy: 200 in every phase.
pub(super) async fn health(State(worker): State<Arc<Worker>>) -> Json<Health> {
    Json(Health {
        status: match worker.phase() {
            Phase::Loading => "loading",
            Phase::Serving => "healthy",
            Phase::Draining => "draining",
        },
        model_loaded: worker.model_loaded(),
        worker_id: worker.id.clone(),
    })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// 200 only while inference is taken.
pub(super) async fn ready(State(worker): State<Arc<Worker>>) -> Response {
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
