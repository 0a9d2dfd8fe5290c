//! The paths of the contract, and who answers on them. The answers are in the modules below.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, any};

use crate::auth::{ApiToken, require_token};
use crate::body::Budget;
use crate::chat_template::ChatTemplate;
use crate::error::{ApiError, ErrorCode, shorten};
use crate::grammar::Grammars;
use crate::heartbeat::BeatCounts;
use crate::host::{require_host, require_own_host};
use crate::metrics::Metrics;
use crate::state::Worker;

mod correlation;
mod generation;
mod health;
mod inference;
mod info;
mod openai;

pub(crate) use generation::{Running, Step, Token};

use correlation::Requests;

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Where the model came from; clients call it by this name.
    pub model_ref: String,
    /// What computes.
    pub backend: String,
    /// Which of the backend's devices.
    pub device: u32,
}

/// What handlers need.
#[derive(Clone)]
pub struct Desk {
    worker: Arc<Worker>,
    about: Arc<About>,
    bodies: Budget,
    requests: Requests,
    metrics: Arc<Metrics>,
    template: Arc<OnceLock<Result<Arc<ChatTemplate>, String>>>,
    grammars: Arc<Grammars>,
    /// When the worker began, in seconds since 1970.
    started_s: u64,
}

impl Desk {
    /// Serves this worker, and tells what became of its heartbeats.
    pub fn new(worker: Arc<Worker>, about: About, beats: Arc<BeatCounts>) -> Self {
        let metrics = Metrics::new(
            beats,
            vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("worker_id", worker.id.clone()),
                ("model_name", about.model_ref.clone()),
                ("backend", about.backend.clone()),
                ("device", about.device.to_string()),
            ],
        );
        Self {
            worker,
            about: Arc::new(about),
            bodies: Budget::default(),
            requests: Requests::default(),
            metrics: Arc::new(metrics),
            template: Arc::default(),
            grammars: Arc::default(),
            started_s: openai::now_s(),
        }
    }
}

/// The whole HTTP side of a worker, without a socket. Requests must carry the token, if there is
/// one, and otherwise name a host that only this machine goes by.
pub fn app(desk: Desk, token: Option<ApiToken>) -> Router {
    let router = Router::new()
        .route("/v1/health", only(Method::GET, any(health::health)))
        .route("/v1/ready", only(Method::GET, any(health::ready)))
        .route(
            "/v1/inference",
            only(Method::POST, any(inference::inference)),
        )
        .route("/metrics", only(Method::GET, any(info::metrics)))
        .route("/openapi.yaml", only(Method::GET, any(info::description)))
        .route("/v1/info", only(Method::GET, any(info::info)))
        .route("/v1/cancel", only(Method::POST, any(correlation::cancel)))
        // Where servers of OpenAI's protocol are asked whether they are ready.
        .route("/health", only(Method::GET, any(health::ready)))
        .route("/v1/models", only(Method::GET, any(openai::models)))
        .route("/v1/models/{*name}", only(Method::GET, any(openai::model)))
        .route(
            "/v1/completions",
            only(Method::POST, any(openai::completions)),
        )
        .route(
            "/v1/chat/completions",
            only(Method::POST, any(openai::chat)),
        )
        .fallback(not_found)
        .with_state(desk);
    // The last layer is the first that a request meets.
    let router = match token {
        Some(token) => router
            .layer(middleware::from_fn_with_state(token, require_token))
            .layer(middleware::from_fn(require_host)),
        None => router.layer(middleware::from_fn(require_own_host)),
    };
    router
        .layer(middleware::from_fn(openai::in_their_words))
        .layer(middleware::from_fn(correlation::correlate))
}

/// Answers one method. (The framework's own filter would answer HEAD wherever it answers GET, and
/// without our JSON elsewhere.)
fn only(method: Method, route: MethodRouter<Desk>) -> MethodRouter<Desk> {
    route.layer(middleware::from_fn_with_state(method, require_method))
}

async fn require_method(
    State(method): State<Method>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.method() == method {
        return Ok(next.run(request).await);
    }
    let allow = match method {
        Method::POST => "POST",
        _ => "GET",
    };
    Err(ApiError::method_not_allowed(
        request.method().as_str(),
        allow,
    ))
}

async fn not_found(request: Request) -> ApiError {
    let got = shorten(request.uri().path());
    let message = format!(
        "no such path: {got}, there are GET /v1/health, GET /v1/ready and POST /v1/inference, \
         and those of OpenAI's completions"
    );
    ApiError::new(ErrorCode::NotFound, message)
}
