//! How likely tokens were, in the two shapes that OpenAI has for it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Shape;
use crate::engine::{Engine, TokenLogprob, TokenText};
use crate::routes::generation::Token;

/// What OpenAI writes for a token that can't come; JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

/// Says of an answer's tokens how likely they were, from its first token on.
pub struct Judge {
    shape: Shape,
    likeliest: u32,
    engine: Arc<dyn Engine>,
    /// Characters of the answer so far.
    offset: usize,
}

impl Judge {
    /// Tells so many of the likeliest beside each token.
    pub fn new(shape: Shape, likeliest: u32, engine: Arc<dyn Engine>) -> Self {
        Self {
            shape,
            likeliest,
            engine,
            offset: 0,
        }
    }

    /// The answer's next tokens.
    pub fn of(&mut self, tokens: &[Token]) -> Value {
        match self.shape {
            Shape::Text => self.columns(tokens),
            Shape::Chat => {
                let content: Value = tokens.iter().map(|token| self.entry(token)).collect();
                json!({"content": content, "refusal": null})
            }
        }
    }

    /// Of completions. The likeliest are told by their text, and the chosen one beside them.
    fn columns(&mut self, tokens: &[Token]) -> Value {
        let mut offsets = Vec::with_capacity(tokens.len());
        for token in tokens {
            offsets.push(self.offset);
            self.offset += token.text.chars().count();
        }
        let top: Value = match self.likeliest {
            0 => Value::Null,
            _ => tokens.iter().map(|token| self.by_text(token)).collect(),
        };
        let chosen = tokens.iter().map(|token| &token.chosen);
        json!({
            "tokens": chosen.clone().map(|one| self.name(one.token)).collect::<Value>(),
            "token_logprobs": chosen.map(logprob).collect::<Value>(),
            "top_logprobs": top,
            "text_offset": offsets,
        })
    }

    fn by_text(&self, token: &Token) -> Value {
        let mut logprobs = Map::new();
        for one in token.top.iter().chain([&token.chosen]) {
            let name = self.name(one.token);
            // Of two tokens with one text, the likelier.
            logprobs.entry(name).or_insert_with(|| logprob(one));
        }
        Value::Object(logprobs)
    }

    /// Of chats.
    fn entry(&self, token: &Token) -> Value {
        let top: Value = token.top.iter().map(|one| self.judged(one)).collect();
        let mut entry = self.judged(&token.chosen);
        entry["top_logprobs"] = top;
        entry
    }

    fn judged(&self, one: &TokenLogprob) -> Value {
        let bytes = match self.engine.token(one.token) {
            Some(TokenText { piece, .. }) if !piece.is_empty() => json!(piece),
            _ => Value::Null,
        };
        json!({"token": self.name(one.token), "logprob": logprob(one), "bytes": bytes})
    }

    /// The token's text, as OpenAI writes it where it isn't whole characters; its name where it adds
    /// nothing to a text.
    fn name(&self, token: u32) -> String {
        let Some(TokenText { piece, name, .. }) = self.engine.token(token) else {
            return String::new();
        };
        if piece.is_empty() {
            return String::from_utf8_lossy(name).into_owned();
        }
        match std::str::from_utf8(piece) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let bytes = piece.iter().map(|byte| format!("\\x{byte:02x}"));
                format!("bytes:{}", bytes.collect::<String>())
            }
        }
    }
}

fn logprob(one: &TokenLogprob) -> Value {
    json!(one.logprob.max(IMPOSSIBLE))
}
