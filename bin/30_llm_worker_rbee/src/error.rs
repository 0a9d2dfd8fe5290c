//! Every refusal that a client can see: one table of codes and statuses, one JSON form. Nothing
//! here decides whether a request is refused.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Seconds that a client is asked to wait before it tries again. Queues and start-ups are short,
/// and a client that waits longer than needed is worse off than one that asks twice.
pub const RETRY_AFTER_S: &str = "1";

/// The stable names of refusals; clients branch on these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The body is not JSON, or not even text.
    MalformedJson,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// A field is missing, unknown, given twice, of the wrong type or out of range.
    InvalidField,
    /// Prompt and answer together don't fit into the context.
    ContextLengthExceeded,
    /// The body is larger than the worker reads.
    BodyTooLarge,
    /// No such path.
    NotFound,
    /// The path exists, the method on it does not.
    MethodNotAllowed,
    /// As many requests wait as may.
    QueueFull,
    /// The worker is loading or draining.
    NotReady,
    /// A token is needed, and the right one did not come.
    Unauthorized,
    /// No `Host`, or several, or one that is no host.
    InvalidHost,
    /// A `Host` that is not this machine's own name.
    ForbiddenHost,
    /// The body came too slowly.
    RequestTimeout,
    /// The engine could not go on.
    GenerationFailed,
    /// The worker stopped before the generation was done.
    Interrupted,
    /// Somebody cancelled the request by its id.
    Cancelled,
    /// A field that others have and this worker doesn't.
    Unsupported,
    /// Another model than the one that is served.
    ModelNotFound,
}

impl ErrorCode {
    /// Status and spelling: the only place where codes meet statuses and spellings.
    pub fn row(self) -> (StatusCode, &'static str) {
        match self {
            Self::MalformedJson => (StatusCode::BAD_REQUEST, "malformed_json"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::InvalidField => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_field"),
            Self::ContextLengthExceeded => {
                (StatusCode::UNPROCESSABLE_ENTITY, "context_length_exceeded")
            }
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::QueueFull => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::InvalidHost => (StatusCode::BAD_REQUEST, "invalid_host"),
            Self::ForbiddenHost => (StatusCode::FORBIDDEN, "forbidden_host"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::GenerationFailed => (StatusCode::INTERNAL_SERVER_ERROR, "generation_failed"),
            Self::Cancelled => (StatusCode::CONFLICT, "cancelled"),
            Self::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, "unsupported"),
            Self::ModelNotFound => (StatusCode::NOT_FOUND, "model_not_found"),
            Self::Interrupted => (StatusCode::SERVICE_UNAVAILABLE, "interrupted"),
        }
    }
}

/// A refusal on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What clients branch on.
    pub code: ErrorCode,
    /// What people read: what was got, and what is allowed.
    pub message: String,
    /// The field of the request that is to blame, where one is.
    pub field: Option<String>,
    /// The method that would have been right, for a 405.
    pub allow: Option<&'static str>,
}

impl ApiError {
    /// A refusal that blames no field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            allow: None,
        }
    }

    /// A refusal that blames the field.
    pub fn on_field(code: ErrorCode, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(code, message)
        }
    }

    /// The path exists, but answers only `allow`.
    pub fn method_not_allowed(got: &str, allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(
                ErrorCode::MethodNotAllowed,
                format!("got {}, this path takes {allow}", shorten(got)),
            )
        }
    }

    /// The JSON that goes out as a body, or as the data of an `event: error`.
    pub fn to_json(&self) -> serde_json::Value {
        let (_, code) = self.code.row();
        serde_json::to_value(Envelope {
            error: Detail {
                code,
                message: &self.message,
                field: self.field.as_deref(),
            },
        })
        .expect("an error of strings is always JSON")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, _) = self.code.row();
        let mut response = (status, axum::Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        match self.code {
            ErrorCode::QueueFull | ErrorCode::NotReady | ErrorCode::Interrupted => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            ErrorCode::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of the body would otherwise be taken for the next request.
            ErrorCode::RequestTimeout => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        // Protocols that word errors in their own way find it there.
        response.extensions_mut().insert(self);
        response
    }
}

/// Cuts what a client sent to a length that fits into a message, with control characters escaped.
pub fn shorten(got: &str) -> String {
    const LONGEST_CHARS: usize = 60;
    let mut chars = got.chars();
    let mut short: String = chars
        .by_ref()
        .take(LONGEST_CHARS)
        .flat_map(|c| {
            let escaped: Vec<char> = match c.is_control() {
                true => c.escape_default().collect(),
                false => vec![c],
            };
            escaped
        })
        .collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_retried_says_when() {
        for code in [
            ErrorCode::QueueFull,
            ErrorCode::NotReady,
            ErrorCode::Interrupted,
        ] {
            let response = ApiError::new(code, "later").into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], "1", "{code:?}");
        }
        let response = ApiError::new(ErrorCode::InvalidField, "never").into_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn the_field_is_left_out_where_none_is_to_blame() {
        let bare = ApiError::new(ErrorCode::NotFound, "no such path").to_json();
        assert_eq!(
            bare,
            serde_json::json!({"error": {"code": "not_found", "message": "no such path"}})
        );
        let blamed = ApiError::on_field(ErrorCode::InvalidField, "stop", "wrong").to_json();
        assert_eq!(blamed["error"]["field"], "stop");
    }

    #[test]
    fn long_and_hostile_text_is_cut_and_escaped() {
        assert_eq!(shorten("a\nb\u{1b}"), "a\\nb\\u{1b}");
        assert_eq!(shorten(&"é".repeat(61)), format!("{}...", "é".repeat(60)));
    }
}
