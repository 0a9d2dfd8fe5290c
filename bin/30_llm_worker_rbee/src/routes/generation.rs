//! From a request to a generation, whatever protocol it came in: read, admitted, handed to the
//! engine, and followed to its end, with all that is counted and logged on the way.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::body::{self, ReadBody};
use crate::engine::{
    Completion, Engine, Generation, GenerationEvent, GenerationRequest, SubmitError, TokenLogprob,
};
use crate::error::{ApiError, ErrorCode, shorten};
use crate::log;
use crate::routes::Desk;
use crate::routes::correlation::{CorrelationId, Ticket};
use crate::server::Crowded;
use crate::state::{Admission, Over, Phase};

/// For [`GenerationRequest::max_tokens`]: whatever the prompt leaves of the context.
pub(super) const AS_MANY_AS_FIT: u32 = u32::MAX;

/// The request's head and its whole body, which is declared as JSON.
pub(super) async fn read(desk: &Desk, request: Request) -> Result<(Parts, ReadBody), ApiError> {
    let (head, body) = request.into_parts();
    require_json(&head.headers)?;
    let body = body::read(&head.headers, body, &desk.bodies).await?;
    Ok((head, body))
}

/// Lets the request in and hands it to the engine. Dropping what comes of it cancels.
pub(super) async fn begin(
    desk: &Desk,
    head: &Parts,
    request: GenerationRequest,
) -> Result<Running, ApiError> {
    let began = Instant::now();
    let mut admission = desk.worker.admit().map_err(not_ready)?;
    if head.extensions.get::<Crowded>().is_some() {
        return Err(crowded());
    }
    let id = head.extensions.get::<CorrelationId>().cloned();
    let ticket = desk
        .requests
        .register(id.unwrap_or_else(CorrelationId::new));
    let generation = submit(&admission, request).await?;
    admission.generating();
    Ok(Running {
        generation,
        admission,
        ticket,
        desk: desk.clone(),
        began,
        last_token: None,
        is_over: false,
    })
}

/// A generation under way. Dropping it cancels.
pub(crate) struct Running {
    generation: Generation,
    admission: Admission,
    ticket: Ticket,
    desk: Desk,
    began: Instant,
    last_token: Option<Instant>,
    is_over: bool,
}

/// One step of an answer.
pub(crate) enum Step {
    /// What most steps are.
    Token(Token),
    /// The last one.
    End(Completion),
}

/// A token of an answer.
pub(crate) struct Token {
    /// 0 for the first, without a gap.
    pub(crate) index: u32,
    /// The text that it completes; maybe empty.
    pub(crate) text: String,
    /// Which token it is, and how likely it was.
    pub(crate) chosen: TokenLogprob,
    /// The likeliest ones, as many as were asked for.
    pub(crate) top: Vec<TokenLogprob>,
}

/// An answer in one piece.
pub(crate) struct Whole {
    /// Its text.
    pub(crate) text: String,
    /// The tokens that it is made of.
    pub(crate) tokens: Vec<Token>,
    /// How it ended.
    pub(crate) completion: Completion,
}

impl Running {
    /// The request's name.
    pub(crate) fn id(&self) -> &str {
        self.ticket.id().text()
    }

    /// The client's own name for the request, if it gave one.
    pub(crate) fn given_id(&self) -> Option<&str> {
        self.ticket.id().given()
    }

    /// The next step, unless the engine died, the time to finish is over, or somebody cancelled.
    pub(crate) async fn next(&mut self) -> Result<Step, ApiError> {
        let event = tokio::select! {
            // Tokens that are there already go out before a cut.
            biased;
            event = self.generation.events.recv() => match event {
                Some(GenerationEvent::Token { index, text, chosen, top }) => {
                    self.note_token();
                    return Ok(Step::Token(Token { index, text, chosen, top }));
                }
                Some(GenerationEvent::Finished(completion)) => Ok(completion),
                Some(GenerationEvent::Failed(message)) => Err(failed(message)),
                None => Err(failed("the engine gave up without a reason".to_owned())),
            },
            over = self.admission.worker().until_over() => Err(match over {
                Over::CutOff => ApiError::new(
                    ErrorCode::Interrupted,
                    "the worker had to stop before the generation was done",
                ),
                Over::Failed(reason) => failed(reason),
            }),
            () = self.ticket.cancelled() => Err(ApiError::new(
                ErrorCode::Cancelled,
                "somebody cancelled the request by its id",
            )),
        };
        self.is_over = true;
        self.note_end(event.as_ref());
        event.map(Step::End)
    }

    /// The prompt's tokens.
    pub(crate) fn prompt(&self) -> &[u32] {
        &self.generation.prompt
    }

    /// What makes the answer.
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.admission.engine)
    }

    /// The whole answer. A client that leaves drops this future, and with it the generation.
    pub(crate) async fn collect(mut self) -> Result<Whole, ApiError> {
        let (mut whole, mut tokens) = (String::new(), Vec::new());
        loop {
            match self.next().await? {
                Step::Token(token) => {
                    whole.push_str(&token.text);
                    tokens.push(token);
                }
                Step::End(completion) => {
                    return Ok(Whole {
                        text: whole,
                        tokens,
                        completion,
                    });
                }
            }
        }
    }

    fn note_token(&mut self) {
        let now = Instant::now();
        let metrics = &self.desk.metrics;
        match self.last_token.replace(now) {
            None => metrics.first_token(now - self.began),
            Some(last) => metrics.next_token(now - last),
        }
    }

    fn note_end(&self, end: Result<&Completion, &ApiError>) {
        let said = match end {
            Ok(completion) => {
                self.desk.metrics.end(completion, self.began.elapsed());
                format!(
                    "{} tokens after {} of prompt, {}",
                    completion.completion_tokens,
                    completion.prompt_tokens,
                    completion.finish_reason.name()
                )
            }
            Err(error) => error.message.clone(),
        };
        self.log(&said);
    }

    /// Only those that were given a name are worth a line each: somebody will look for it.
    fn log(&self, said: &str) {
        if let Some(id) = self.given_id() {
            log::info(&format!("Request {id}: {said}"));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            self.log("the client left");
        }
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

pub(super) fn not_ready(phase: Phase) -> ApiError {
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
    let submitted = tokio::task::spawn_blocking(move || submit_fitting(&*engine, request)).await;
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

/// How long the prompt is shows when the engine refuses it, and may be an estimate at first.
fn submit_fitting(
    engine: &dyn Engine,
    mut request: GenerationRequest,
) -> Result<Generation, SubmitError> {
    if request.max_tokens != AS_MANY_AS_FIT {
        return engine.submit(request);
    }
    let mut least_prompt_tokens = 0;
    loop {
        match engine.submit(request.clone()) {
            Err(SubmitError::ContextLengthExceeded {
                prompt_tokens,
                context_length,
                ..
            }) if (least_prompt_tokens + 1..context_length).contains(&prompt_tokens) => {
                least_prompt_tokens = prompt_tokens;
                request.max_tokens = context_length - prompt_tokens;
            }
            // The number that stands for "as many as fit" means nothing to the client.
            Err(SubmitError::ContextLengthExceeded {
                prompt_tokens,
                context_length,
                ..
            }) => {
                return Err(SubmitError::ContextLengthExceeded {
                    prompt_tokens,
                    max_tokens: 1,
                    context_length,
                });
            }
            outcome => return outcome,
        }
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
