//! `POST /v1/inference`: from a request to a generation, and its answer in one piece. Answers in
//! pieces are made in `sse`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use crate::api::parse_inference_request;
use crate::body;
use crate::engine::{Generation, GenerationEvent, GenerationRequest, SubmitError};
use crate::error::{ApiError, ErrorCode, shorten};
use crate::log;
use crate::routes::Desk;
use crate::server::Crowded;
use crate::sse;
use crate::state::{Admission, Over, Phase};

pub(crate) mod answer;
use answer::{Answer, Summary};

/// Checks from the outside in: the first thing wrong is the one that is named.
pub(super) async fn inference(
    State(desk): State<Desk>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    require_json(&head.headers)?;
    let body = body::read(&head.headers, body, &desk.bodies).await?;
    let request = parse_inference_request(body.bytes())?;
    drop(body);
    let mut admission = desk.worker.admit().map_err(not_ready)?;
    if head.extensions.get::<Crowded>().is_some() {
        return Err(crowded());
    }
    let generation = submit(&admission, request.generation).await?;
    admission.generating();
    match request.stream {
        true => Ok(sse::respond(generation, admission)),
        false => collect(generation, admission).await,
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    if declared.is_some_and(is_json) {
        return Ok(());
    }
    let got = match declared {
        Some(declared) => shorten(&String::from_utf8_lossy(declared)),
        None => "none".to_owned(),
    };
    Err(ApiError::new(
        ErrorCode::UnsupportedMediaType,
        format!("content-type: got {got}, allowed is application/json"),
    ))
}

/// `application/json`, with or without parameters; a charset other than UTF-8 isn't JSON.
fn is_json(content_type: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content_type) else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                let charset = value.trim().trim_matches('"');
                ["utf-8", "utf8"]
                    .iter()
                    .any(|utf8| charset.eq_ignore_ascii_case(utf8))
            }
            _ => true,
        })
}

fn not_ready(phase: Phase) -> ApiError {
    let reason = match phase {
        Phase::Draining => "the worker is draining and takes nothing new",
        Phase::Failed => "the worker can't go on and ends",
        Phase::Loading | Phase::Serving => "the model is still loading",
    };
    ApiError::new(ErrorCode::NotReady, reason)
}

/// A generation would keep the connection, and health would find no other.
fn crowded() -> ApiError {
    ApiError::new(
        ErrorCode::QueueFull,
        "as many connections are open as may be, no more requests are allowed to wait",
    )
}

/// Hands the request over, away from the threads that answer health: a long prompt takes a while
/// to tokenize.
async fn submit(admission: &Admission, request: GenerationRequest) -> Result<Generation, ApiError> {
    let engine = Arc::clone(&admission.engine);
    let submitted = tokio::task::spawn_blocking(move || engine.submit(request)).await;
    match submitted {
        Ok(Ok(generation)) => Ok(generation),
        Ok(Err(SubmitError::Stopped)) => {
            admission.worker().fail("the engine has stopped");
            Err(ApiError::new(ErrorCode::NotReady, "the engine has stopped"))
        }
        Ok(Err(refusal)) => Err(refused(refusal)),
        // The panic itself is in the log; the request may be the cause, so the worker goes on.
        Err(_) => Err(ApiError::new(
            ErrorCode::GenerationFailed,
            "the engine failed while it took the request up",
        )),
    }
}

fn refused(refusal: SubmitError) -> ApiError {
    match refusal {
        SubmitError::ContextLengthExceeded {
            prompt_tokens,
            max_tokens,
            context_length,
        } => {
            let field = match prompt_tokens < context_length {
                true => "max_tokens",
                false => "prompt",
            };
            let message = format!(
                "got {prompt_tokens} prompt tokens and max_tokens {max_tokens}, \
                 allowed are {context_length} together"
            );
            ApiError::on_field(ErrorCode::ContextLengthExceeded, field, message)
        }
        SubmitError::EmptyPrompt => ApiError::on_field(
            ErrorCode::InvalidField,
            "prompt",
            "prompt: got a text without tokens, at least one is required",
        ),
        SubmitError::UnknownToken {
            token,
            vocabulary_size,
        } => ApiError::on_field(
            ErrorCode::InvalidField,
            "prompt",
            format!("prompt: got the token {token}, allowed are those below {vocabulary_size}"),
        ),
        SubmitError::QueueFull { capacity } => ApiError::new(
            ErrorCode::QueueFull,
            format!("{capacity} requests wait already, no more are allowed to"),
        ),
        SubmitError::Stopped => ApiError::new(ErrorCode::NotReady, "the engine has stopped"),
    }
}

/// Waits for the whole answer. A client that leaves drops this future, and with it the generation.
async fn collect(mut generation: Generation, admission: Admission) -> Result<Response, ApiError> {
    let mut text = String::new();
    loop {
        match next_event(&mut generation, &admission).await? {
            GenerationEvent::Token { text: piece, .. } => text.push_str(&piece),
            GenerationEvent::Finished(completion) => {
                let summary = Summary::from(completion);
                return Ok(Json(Answer { text, summary }).into_response());
            }
            GenerationEvent::Failed(message) => return Err(failed(message)),
        }
    }
}

/// The next event, unless the engine died or the time to finish is over.
pub(crate) async fn next_event(
    generation: &mut Generation,
    admission: &Admission,
) -> Result<GenerationEvent, ApiError> {
    tokio::select! {
        // Tokens that are there already go out before a cut.
        biased;
        event = generation.events.recv() => match event {
            Some(event) => Ok(event),
            None => Err(failed("the engine gave up without a reason".to_owned())),
        },
        over = admission.worker().until_over() => Err(match over {
            Over::CutOff => ApiError::new(
                ErrorCode::Interrupted,
                "the worker had to stop before the generation was done",
            ),
            Over::Failed(reason) => failed(reason),
        }),
    }
}

/// The engine's own failure, which operators must hear of too.
pub(crate) fn failed(message: String) -> ApiError {
    log::warn(&format!("Generation failed: {message}"));
    ApiError::new(ErrorCode::GenerationFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_fine_and_other_charsets_are_not() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; charset=utf8",
            "application/json;charset=\"UTF8\"",
            "application/json; version=1",
        ] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonl",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
            "application/json; charset=utf",
            "text/plain, application/json",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
        assert!(!is_json(b"application/json; \xff"));
    }
}
