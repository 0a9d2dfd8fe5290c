//! `GET /v1/info`, `GET /metrics` and `GET /openapi.yaml`: what this worker is, how it has been doing,
//! and what may be asked of it.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::metrics::CONTENT_TYPE;
use crate::routes::Desk;

/// What doesn't change as long as the worker lives.
pub(super) async fn info(State(Desk { worker, about, .. }): State<Desk>) -> Json<Value> {
    Json(json!({
        "implementation": "llm-worker-rbee",
        "version": env!("CARGO_PKG_VERSION"),
        "worker_id": worker.id,
        "model": about.model_ref,
        "backend": about.backend,
        "device": about.device,
    }))
}

/// All figures, as Prometheus reads them.
pub(super) async fn metrics(State(desk): State<Desk>) -> impl IntoResponse {
    let engine = desk.worker.engine();
    let stats = engine.map(|engine| engine.stats()).unwrap_or_default();
    let text = desk.metrics.render(stats);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}

/// The description of all paths, as it is in the repository.
pub(super) async fn description() -> impl IntoResponse {
    const DESCRIPTION: &str = include_str!("../../../../openapi.yaml");
    ([(header::CONTENT_TYPE, "application/yaml")], DESCRIPTION)
}
