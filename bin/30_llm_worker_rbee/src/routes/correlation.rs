//! Names for requests: every answer carries one in `X-Correlation-ID`, the client's own where it
//! sent one, and `POST /v1/cancel` ends what goes by it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::fields::{Field, invalid, read_body};
use crate::error::{ApiError, ErrorCode, shorten};
use crate::routes::{Desk, generation};

/// Where requests and answers carry the name.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");
/// Longer names are replaced: they go into logs.
const LONGEST_BYTES: usize = 128;

/// A request's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CorrelationId {
    text: String,
    was_given: bool,
}

impl CorrelationId {
    /// A name that nobody can guess.
    pub(crate) fn new() -> Self {
        // The keys of each are drawn from the system's randomness.
        let (high, low) = (RandomState::new(), RandomState::new());
        Self {
            text: format!("{:016x}{:016x}", high.hash_one(0), low.hash_one(0)),
            was_given: false,
        }
    }

    /// The client's, if it sent one that fits into a log line.
    fn given_in(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(HEADER)?.to_str().ok()?;
        let is_name = (1..=LONGEST_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_name.then(|| Self {
            text: text.to_owned(),
            was_given: true,
        })
    }

    /// The name.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The name, if it is the client's own.
    pub(crate) fn given(&self) -> Option<&str> {
        self.was_given.then_some(self.text.as_str())
    }
}

/// Gives each request its name, and each answer that of its request.
pub(super) async fn correlate(mut request: Request, next: Next) -> Response {
    let id = CorrelationId::given_in(request.headers()).unwrap_or_else(CorrelationId::new);
    let value = HeaderValue::from_str(id.text());
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(value) = value {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// The requests that are being served, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    next: u64,
    cancels: HashMap<String, HashMap<u64, watch::Sender<bool>>>,
}

impl Requests {
    /// From now on the request can be cancelled, until the ticket is dropped.
    pub(crate) fn register(&self, id: CorrelationId) -> Ticket {
        let (cancel, cancelled) = watch::channel(false);
        let mut register = self.lock();
        let number = register.next;
        register.next += 1;
        let same_name = register.cancels.entry(id.text.clone()).or_default();
        same_name.insert(number, cancel);
        Ticket {
            id,
            number,
            cancelled,
            requests: self.clone(),
        }
    }

    /// Cancels all that go by the name, and says how many.
    fn cancel(&self, id: &str) -> usize {
        let register = self.lock();
        let Some(same_name) = register.cancels.get(id) else {
            return 0;
        };
        for cancel in same_name.values() {
            cancel.send_replace(true);
        }
        same_name.len()
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        // No invariant spans the places that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place in the register.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: CorrelationId,
    number: u64,
    cancelled: watch::Receiver<bool>,
    requests: Requests,
}

impl Ticket {
    /// The request's name.
    pub(crate) fn id(&self) -> &CorrelationId {
        &self.id
    }

    /// Returns once somebody has cancelled the request.
    pub(crate) async fn cancelled(&mut self) {
        // The sender is in the register as long as the ticket lives.
        let _ = self.cancelled.wait_for(|cancelled| *cancelled).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut register = self.requests.lock();
        if let Some(same_name) = register.cancels.get_mut(&self.id.text) {
            same_name.remove(&self.number);
            if same_name.is_empty() {
                register.cancels.remove(&self.id.text);
            }
        }
    }
}

/// `POST /v1/cancel`: `{"correlation_id":"..."}`.
pub(super) async fn cancel(
    State(desk): State<Desk>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    const NAME: &str = "correlation_id";
    let (_, body) = generation::read(&desk, request).await?;
    let fields = read_body(body.bytes(), NAME, &[NAME])?;
    let Some((name, value)) = fields.first() else {
        return Err(invalid(
            NAME,
            format!("{NAME} is missing: a string is required"),
        ));
    };
    let id = Field { name, value }.not_empty_string()?;
    match desk.requests.cancel(&id) {
        0 => Err(ApiError::on_field(
            ErrorCode::NotFound,
            NAME,
            format!("no request is being served by the name {}", shorten(&id)),
        )),
        cancelled => Ok(Json(json!({ "cancelled": cancelled }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_that_fit_into_a_log_line() {
        let given = |value: &str| {
            let headers = HeaderMap::from_iter([(HEADER, value.parse().unwrap())]);
            CorrelationId::given_in(&headers).is_some()
        };
        assert!(given("a") && given("8f14e45f-ceea-467f") && given(&"x".repeat(128)));
        assert!(!given("") && !given("a b") && !given("é") && !given(&"x".repeat(129)));
        assert_ne!(CorrelationId::new(), CorrelationId::new());
    }

    #[test]
    fn who_is_done_leaves_no_name_behind() {
        let requests = Requests::default();
        let id = CorrelationId::new();
        let (first, second) = (requests.register(id.clone()), requests.register(id.clone()));
        assert_eq!(requests.cancel(id.text()), 2);
        assert!(*first.cancelled.borrow() && *second.cancelled.borrow());
        drop(first);
        assert_eq!(requests.cancel(id.text()), 1);
        drop(second);
        assert_eq!(requests.cancel(id.text()), 0);
        assert!(requests.lock().cancels.is_empty());
    }
}
