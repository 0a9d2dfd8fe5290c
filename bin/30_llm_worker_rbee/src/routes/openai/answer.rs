//! Answers in OpenAI's form: in one piece, and in chunks.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::{error, now_s};
use crate::engine::Completion;
use crate::error::ApiError;
use crate::sse::Wording;

/// Which of the two kinds of completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `/v1/completions`
    Text,
    /// `/v1/chat/completions`
    Chat,
}

/// What all parts of an answer have in common, and how each is written.
pub struct Chunks {
    shape: Shape,
    id: String,
    model: String,
    created_s: u64,
    include_usage: bool,
}

impl Chunks {
    /// For the request of this name. With `include_usage` a stream says at its end what it took.
    pub fn new(shape: Shape, request_id: &str, model: &str, include_usage: bool) -> Self {
        let prefix = match shape {
            Shape::Text => "cmpl",
            Shape::Chat => "chatcmpl",
        };
        Self {
            shape,
            id: format!("{prefix}-{request_id}"),
            model: model.to_owned(),
            created_s: now_s(),
            include_usage,
        }
    }

    /// The answer in one piece.
    pub fn whole(&self, text: &str, completion: &Completion) -> Value {
        let (object, mut choice) = match self.shape {
            Shape::Text => ("text_completion", json!({"text": text})),
            Shape::Chat => {
                let message = json!({"role": "assistant", "content": text, "refusal": null});
                ("chat.completion", json!({"message": message}))
            }
        };
        choice["index"] = json!(0);
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = json!(completion.finish_reason.name());
        let mut answer = self.envelope(object, json!([choice]));
        answer["usage"] = usage(completion);
        answer
    }

    /// A chunk with text, with the reason why there is no more, or with neither.
    fn chunk(&self, text: Option<&str>, finish_reason: Option<&str>) -> Bytes {
        let mut choice = match (self.shape, text) {
            (Shape::Text, text) => json!({"text": text.unwrap_or("")}),
            (Shape::Chat, Some(text)) => json!({"delta": {"content": text}}),
            (Shape::Chat, None) => json!({"delta": {}}),
        };
        choice["index"] = json!(0);
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = json!(finish_reason);
        self.frame(json!([choice]), None)
    }

    fn frame(&self, choices: Value, usage: Option<Value>) -> Bytes {
        let object = match self.shape {
            Shape::Text => "text_completion",
            Shape::Chat => "chat.completion.chunk",
        };
        let mut chunk = self.envelope(object, choices);
        if self.include_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        data(&chunk)
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        })
    }
}

impl Wording for Chunks {
    fn begin(&mut self) -> Option<Bytes> {
        if self.shape == Shape::Text {
            return None;
        }
        let delta = json!({"role": "assistant", "content": ""});
        let choice = json!({"delta": delta, "index": 0, "logprobs": null, "finish_reason": null});
        Some(self.frame(json!([choice]), None))
    }

    fn token(&mut self, _: u32, text: &str) -> Bytes {
        self.chunk(Some(text), None)
    }

    fn end(&mut self, completion: Completion) -> Bytes {
        let mut end = self
            .chunk(None, Some(completion.finish_reason.name()))
            .to_vec();
        if self.include_usage {
            end.extend(self.frame(json!([]), Some(usage(&completion))));
        }
        end.extend(b"data: [DONE]\n\n");
        end.into()
    }

    fn error(&mut self, error: &ApiError) -> Bytes {
        data(&error::body(error))
    }
}

fn usage(completion: &Completion) -> Value {
    let Completion {
        prompt_tokens,
        completion_tokens,
        cached_tokens,
        ..
    } = completion;
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    })
}

/// JSON has no raw line breaks, so one line holds it whatever the text.
fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}
