//! `POST /v1/inference`: the contract's own protocol, in one piece and in pieces.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::parse_inference_request;
use crate::engine::Completion;
use crate::error::ApiError;
use crate::routes::generation::Whole;
use crate::routes::{Desk, Token, generation};
use crate::sse::{self, Wording};

mod answer;
use answer::{Answer, Summary};

/// Checks from the outside in: the first thing wrong is the one that is named.
pub(super) async fn inference(
    State(desk): State<Desk>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = generation::read(&desk, request).await?;
    let request = parse_inference_request(body.bytes())?;
    drop(body);
    let running = generation::begin(&desk, &head, request.generation).await?;
    let id = running.given_id().map(str::to_owned);
    if request.stream {
        return Ok(sse::respond(running, Events { id }));
    }
    let Whole {
        text, completion, ..
    } = running.collect().await?;
    let summary = Summary::new(completion, id);
    Ok(Json(Answer { text, summary }).into_response())
}

/// `event: token`, and at last `event: end` or `event: error`.
struct Events {
    /// The client's own name for the request.
    id: Option<String>,
}

impl Wording for Events {
    fn token(&mut self, Token { index, text, .. }: &Token) -> Bytes {
        frame("token", &TokenData { index, text })
    }

    fn end(&mut self, completion: Completion) -> Bytes {
        frame("end", &Summary::new(completion, self.id.take()))
    }

    fn error(&mut self, error: &ApiError) -> Bytes {
        frame("error", &error.to_json())
    }
}

#[derive(Serialize)]
struct TokenData<'a> {
    index: &'a u32,
    text: &'a str,
}

/// JSON has no raw line breaks, so one `data:` line holds it whatever the text.
fn frame(event: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("our own types are always JSON");
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}
