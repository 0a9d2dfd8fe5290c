//! Requests that have to be refused, and the answers that are right for them. Which they are is the
//! matter of each dialect.
//!
//! Where a protocol names one answer, one is right; where it is silent (is a lone surrogate still
//! JSON?), every orderly one is.

use serde_json::Value;

use super::fields::shorten;
use super::protocol::{BadRequest, Dialect, Refusal};
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::record::event::Mismatch;

impl BadRequest {
    /// A request with one right answer.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>, status: u16, code: &'static str) -> Self {
        Self {
            name: name.into(),
            bytes,
            right: vec![(status, code)],
            may_be_taken: false,
            has_any_body: false,
            allow: None,
            field: None,
            got: Vec::new(),
            allowed: &[],
        }
    }

    /// Reads the answer; fails unless it is one of those that are right.
    ///
    /// `None` where the worker took the request and may, or where its answer's body is its own matter.
    pub fn judge(
        &self,
        dialect: &dyn Dialect,
        response: &Response,
    ) -> Result<Option<Refusal>, Mismatch> {
        let place = self.name.as_str();
        if self.may_be_taken && response.status == 200 {
            return Ok(None);
        }
        let expected = || {
            let right: Vec<String> = self
                .right
                .iter()
                .map(|(status, code)| format!("{status} {code}").trim_end().to_owned())
                .collect();
            right.join(" or ")
        };
        if !self
            .right
            .iter()
            .any(|(status, _)| *status == response.status)
        {
            let body = shorten(&String::from_utf8_lossy(&response.body));
            let got = format!("{} with {body}", response.status);
            return Err(Mismatch::new(place, expected(), got));
        }
        if self.has_any_body {
            return Ok(None);
        }
        let error = dialect.read_error(response)?;
        let is_right = self.right.iter().any(|(status, code)| {
            *status == response.status && (code.is_empty() || *code == error.code)
        });
        if !is_right {
            let got = format!("{} {}", response.status, error.code);
            return Err(Mismatch::new(place, expected(), got));
        }
        if let Some(field) = self.field
            && error.field.as_deref() != Some(field)
        {
            let got = error.field.unwrap_or_else(|| String::from("no field"));
            return Err(Mismatch::new(
                place,
                format!("`field` {field}"),
                shorten(&got),
            ));
        }
        Ok(Some(error))
    }

    /// Whether the message says anything of this very request: the field, or what was got.
    pub fn is_named_by(&self, message: &str) -> bool {
        let field = self.field.map(str::to_owned);
        self.got.is_empty() || self.got.iter().chain(&field).any(|word| has(message, word))
    }

    /// Whether the message says both what was got and what is allowed.
    pub fn is_explained_by(&self, message: &str) -> bool {
        let got = self.got.is_empty() || self.got.iter().any(|word| has(message, word));
        let allowed = self.allowed.is_empty() || self.allowed.iter().any(|word| has(message, word));
        got && allowed
    }
}

fn has(message: &str, word: &str) -> bool {
    message.to_lowercase().contains(&word.to_lowercase())
}

/// The words by which a message may name a value: itself, or its type.
pub fn words_for(value: &Value) -> Vec<String> {
    let types: &[&str] = match value {
        Value::Null => &["null", "none", "nothing"],
        Value::Bool(_) => &["bool"],
        Value::Number(_) => &["number", "float", "integer", "fraction"],
        Value::String(text) if text.is_empty() => &["empty", "\"\"", "''", "0 char"],
        Value::String(_) => &["string", "text"],
        Value::Array(_) => &[
            "array", "list", "sequence", "strings", "items", "entries", "[",
        ],
        Value::Object(_) => &["object", "map", "dict", "{"],
    };
    let itself = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => String::new(),
        other => other.to_string(),
    };
    let mut words: Vec<String> = types.iter().map(|&word| word.to_owned()).collect();
    if !itself.is_empty() && itself.len() <= 40 {
        words.push(itself);
    }
    if let Value::Array(items) = value {
        words.push(items.len().to_string());
    }
    words
}
