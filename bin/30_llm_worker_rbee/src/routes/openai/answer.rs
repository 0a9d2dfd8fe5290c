//! Answers in OpenAI's form: in one piece, and in chunks.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::logprobs::Judge;
use super::{error, now_s};
use crate::engine::Completion;
use crate::error::ApiError;
use crate::routes::generation::{Running, Token, Whole};
use crate::sse::Wording;

/// Which of the two kinds of completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `/v1/completions`
    Text,
    /// `/v1/chat/completions`
    Chat,
}

/// What an answer tells beside its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extras {
    /// A stream ends with what it took.
    pub usage: bool,
    /// And each chunk before says what it has taken so far.
    pub usage_so_far: bool,
    /// The numbers of the prompt's tokens and of its own, where vLLM has them.
    pub token_ids: bool,
    /// How likely each token was, and so many others.
    pub logprobs: Option<u32>,
}

/// What all parts of an answer have in common, and how each is written.
pub struct Chunks {
    shape: Shape,
    id: String,
    model: String,
    created_s: u64,
    extras: Extras,
    prompt: Vec<u32>,
    generated: usize,
    judge: Option<Judge>,
}

impl Chunks {
    /// For this request.
    pub(crate) fn new(shape: Shape, running: &Running, model: &str, extras: Extras) -> Self {
        let prefix = match shape {
            Shape::Text => "cmpl",
            Shape::Chat => "chatcmpl",
        };
        Self {
            shape,
            id: format!("{prefix}-{}", running.id()),
            model: model.to_owned(),
            created_s: now_s(),
            extras,
            prompt: running.prompt().to_vec(),
            generated: 0,
            judge: extras
                .logprobs
                .map(|likeliest| Judge::new(shape, likeliest, running.engine())),
        }
    }

    /// The answer in one piece.
    pub(crate) fn whole(&mut self, whole: &Whole) -> Value {
        let Whole {
            text,
            tokens,
            completion,
        } = whole;
        let (object, choice) = match self.shape {
            Shape::Text => ("text_completion", json!({"text": text})),
            Shape::Chat => {
                let message = json!({"role": "assistant", "content": text, "refusal": null});
                ("chat.completion", json!({"message": message}))
            }
        };
        let choice = self.choice(choice, tokens, Some(completion.finish_reason.name()));
        let mut answer = self.envelope(object, json!([choice]));
        self.tell_prompt(&mut answer);
        answer["usage"] = usage(completion);
        answer
    }

    /// A chunk with text, with the reason why there is no more, or with neither.
    fn chunk(
        &mut self,
        text: Option<&str>,
        tokens: &[Token],
        finish_reason: Option<&str>,
    ) -> Value {
        let choice = match (self.shape, text) {
            (Shape::Text, text) => json!({"text": text.unwrap_or("")}),
            (Shape::Chat, Some(text)) => json!({"delta": {"content": text}}),
            (Shape::Chat, None) => json!({"delta": {}}),
        };
        let choice = self.choice(choice, tokens, finish_reason);
        self.frame(json!([choice]))
    }

    fn choice(
        &mut self,
        mut choice: Value,
        tokens: &[Token],
        finish_reason: Option<&str>,
    ) -> Value {
        choice["index"] = json!(0);
        choice["logprobs"] = match &mut self.judge {
            Some(judge) if !tokens.is_empty() => judge.of(tokens),
            _ => Value::Null,
        };
        choice["finish_reason"] = json!(finish_reason);
        if self.extras.token_ids {
            let ids = tokens.iter().map(|token| token.chosen.token);
            choice["token_ids"] = ids.collect();
        }
        choice
    }

    fn frame(&self, choices: Value) -> Value {
        let object = match self.shape {
            Shape::Text => "text_completion",
            Shape::Chat => "chat.completion.chunk",
        };
        let mut chunk = self.envelope(object, choices);
        let (prompt, generated) = (self.prompt.len(), self.generated);
        if self.extras.usage_so_far {
            chunk["usage"] = json!({
                "prompt_tokens": prompt,
                "completion_tokens": generated,
                "total_tokens": prompt + generated,
            });
        } else if self.extras.usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// In the first part of an answer.
    fn tell_prompt(&self, answer: &mut Value) {
        if self.extras.token_ids {
            let place = match self.shape {
                Shape::Text => &mut answer["choices"][0],
                Shape::Chat => answer,
            };
            place["prompt_token_ids"] = json!(self.prompt);
        }
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
        let choice = json!({"delta": {"role": "assistant", "content": ""}});
        let choice = self.choice(choice, &[], None);
        let mut chunk = self.frame(json!([choice]));
        self.tell_prompt(&mut chunk);
        Some(data(&chunk))
    }

    fn token(&mut self, token: &Token) -> Bytes {
        self.generated = token.index as usize + 1;
        let mut chunk = self.chunk(Some(&token.text), std::slice::from_ref(token), None);
        if token.index == 0 && self.shape == Shape::Text {
            self.tell_prompt(&mut chunk);
        }
        data(&chunk)
    }

    fn end(&mut self, completion: Completion) -> Bytes {
        let last = self.chunk(None, &[], Some(completion.finish_reason.name()));
        let mut end = data(&last).to_vec();
        if self.extras.usage {
            let mut chunk = self.frame(json!([]));
            chunk["usage"] = usage(&completion);
            end.extend(data(&chunk));
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
