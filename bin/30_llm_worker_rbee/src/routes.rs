//! The paths of the contract, and who answers on them. The answers are in the modules below.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, any};

use crate::auth::{ApiToken, require_token};
use crate::body::Budget;
use crate::error::{ApiError, ErrorCode, shorten};
use crate::host::{require_host, require_own_host};
use crate::state::Worker;

mod health;
mod inference;

pub(crate) use inference::answer::Summary;
pub(crate) use inference::{failed, next_event};

/// What handlers need.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) worker: Arc<Worker>,
    pub(crate) bodies: Budget,
}

/// The whole HTTP side of a worker, without a socket. Requests must carry the token, if there is
/// one, and otherwise name a host that only this machine goes by.
pub fn app(worker: Arc<Worker>, token: Option<ApiToken>) -> Router {
    let desk = Desk {
        worker,
        bodies: Budget::default(),
    };
    let router = Router::new()
        .route("/v1/health", only(Method::GET, any(health::health)))
        .route("/v1/ready", only(Method::GET, any(health::ready)))
        .route(
            "/v1/inference",
            only(Method::POST, any(inference::inference)),
        )
        .fallback(not_found)
        .with_state(desk);
    // The last layer is the first that a request meets.
    match token {
        Some(token) => router
            .layer(middleware::from_fn_with_state(token, require_token))
            .layer(middleware::from_fn(require_host)),
        None => router.layer(middleware::from_fn(require_own_host)),
    }
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
        "no such path: {got}, there are GET /v1/health, GET /v1/ready and POST /v1/inference"
    );
    ApiError::new(ErrorCode::NotFound, message)
}
