//! The protocol that nearly every client speaks: OpenAI's completions, chat completions and models,
//! as far as this worker can serve them. What it can't is refused by name.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::chat_template::ChatTemplate;
use crate::engine::{Engine, GenerationRequest, Grammar};
use crate::error::{ApiError, ErrorCode, shorten};
use crate::grammar::Refusal;
use crate::routes::{Desk, generation};
use crate::sse;

mod answer;
mod error;
mod logprobs;
mod request;

use answer::{Chunks, Shape};
pub(super) use error::in_their_words;
use request::{Asked, Input};

/// `GET /v1/models`: the one that is served.
pub(super) async fn models(State(desk): State<Desk>) -> Json<Value> {
    Json(json!({"object": "list", "data": [card(&desk)]}))
}

/// `GET /v1/models/NAME`, where the name may have slashes.
pub(super) async fn model(
    State(desk): State<Desk>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    require_model(&desk, &name)?;
    Ok(Json(card(&desk)))
}

fn card(desk: &Desk) -> Value {
    json!({
        "id": desk.about.model_ref,
        "object": "model",
        "created": desk.started_s,
        "owned_by": "llm-worker-rbee",
    })
}

fn require_model(desk: &Desk, name: &str) -> Result<(), ApiError> {
    let served = &desk.about.model_ref;
    match name == served {
        true => Ok(()),
        false => Err(ApiError::on_field(
            ErrorCode::ModelNotFound,
            "model",
            format!("model: got {}, this worker serves {served}", shorten(name)),
        )),
    }
}

/// `POST /v1/completions`
pub(super) async fn completions(
    State(desk): State<Desk>,
    request: Request,
) -> Result<Response, ApiError> {
    answer(desk, request, Shape::Text).await
}

/// `POST /v1/chat/completions`
pub(super) async fn chat(State(desk): State<Desk>, request: Request) -> Result<Response, ApiError> {
    answer(desk, request, Shape::Chat).await
}

async fn answer(desk: Desk, request: Request, shape: Shape) -> Result<Response, ApiError> {
    let (head, body) = generation::read(&desk, request).await?;
    let Asked {
        model,
        input,
        schema,
        mut generation,
        stream,
        extras,
    } = request::parse(body.bytes(), shape)?;
    drop(body);
    if let Some(model) = model {
        require_model(&desk, &model)?;
    }
    generation.prompt = match input {
        Input::Prompt(prompt) => prompt,
        Input::Messages(messages) => {
            let template = template(&desk)?;
            // Templates are programs, and may take a while.
            let rendered = tokio::task::spawn_blocking(move || template.render(&messages)).await;
            let rendered = rendered.unwrap_or_else(|_| Err("it panicked".to_owned()));
            let refused = |cause| {
                let message = format!("messages: the model's chat template says: {cause}");
                ApiError::on_field(ErrorCode::InvalidField, "messages", message)
            };
            rendered.map_err(refused)?.into()
        }
    };
    if let Some(schema) = schema {
        generation.grammar = Some(grammar(&desk, schema).await?);
    }
    require_tokens(&desk, &generation)?;
    let running = generation::begin(&desk, &head, generation).await?;
    let mut chunks = Chunks::new(shape, &running, &desk.about.model_ref, extras);
    if stream {
        return Ok(sse::respond(running, chunks));
    }
    let whole = running.collect().await?;
    Ok(Json(chunks.whole(&whole)).into_response())
}

/// A bias for what is no token of the model would be ignored.
fn require_tokens(desk: &Desk, generation: &GenerationRequest) -> Result<(), ApiError> {
    let biases = &generation.logit_bias;
    if biases.is_empty() {
        return Ok(());
    }
    let engine = engine(desk)?;
    let unknown = biases
        .iter()
        .find(|(token, _)| engine.token(*token).is_none());
    match unknown {
        None => Ok(()),
        Some((token, _)) => Err(ApiError::on_field(
            ErrorCode::InvalidField,
            "logit_bias",
            format!("logit_bias: got {token}, the model has no token of that number"),
        )),
    }
}

/// What holds an answer to the schema, if anything can.
async fn grammar(desk: &Desk, schema: Value) -> Result<Grammar, ApiError> {
    let compiled = Arc::clone(&desk.grammars).compile(engine(desk)?, schema);
    compiled.await.map_err(|refusal| match refusal {
        Refusal::Busy => ApiError::new(
            ErrorCode::QueueFull,
            "too many schemas are being read, no more are allowed to wait",
        ),
        Refusal::Schema(cause) => ApiError::on_field(
            ErrorCode::Unsupported,
            "response_format",
            format!("response_format: no answer can be held to the schema: {cause}"),
        ),
    })
}

fn engine(desk: &Desk) -> Result<Arc<dyn Engine>, ApiError> {
    let engine = desk.worker.engine();
    engine.ok_or_else(|| generation::not_ready(desk.worker.phase()))
}

/// The model's template, read when it is first needed.
fn template(desk: &Desk) -> Result<Arc<ChatTemplate>, ApiError> {
    let engine = engine(desk)?;
    let template = desk.template.get_or_init(|| {
        let source = engine
            .chat_template()
            .ok_or("the model has no chat template: /v1/completions takes a prompt")?;
        ChatTemplate::new(source).map(Arc::new)
    });
    template.clone().map_err(|cause| {
        let message = format!("messages: {cause}");
        ApiError::on_field(ErrorCode::Unsupported, "messages", message)
    })
}

/// Seconds since 1970.
pub(super) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
