//! Refusals in OpenAI's words. Which they are is decided elsewhere, for all protocols alike.

use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::{ApiError, ErrorCode};

/// Words the refusals of OpenAI's paths as its clients expect them, wherever they came from.
pub async fn in_their_words(request: Request, next: Next) -> Response {
    let is_theirs = match request.uri().path() {
        "/v1/completions" | "/v1/chat/completions" | "/v1/models" => true,
        path => path.starts_with("/v1/models/"),
    };
    let mut response = next.run(request).await;
    let error = response.extensions_mut().remove::<ApiError>();
    match error {
        Some(error) if is_theirs => reworded(response, &error),
        _ => response,
    }
}

/// Status and body change; headers such as `Retry-After` mean the same to everybody.
fn reworded(response: Response, error: &ApiError) -> Response {
    let mut headers = response.into_parts().0.headers;
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_TYPE);
    let mut response = (status(error.code), Json(body(error))).into_response();
    response.headers_mut().extend(headers);
    response
}

/// What OpenAI has no status of its own for is a bad request.
fn status(code: ErrorCode) -> StatusCode {
    match code.row().0 {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    }
}

/// The body of a refusal, and the data of a stream's last event where it failed.
pub fn body(error: &ApiError) -> Value {
    let (_, code) = error.code.row();
    let kind = match status(error.code).as_u16() {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {
        "message": error.message,
        "type": kind,
        "param": error.field,
        "code": code,
    }})
}
