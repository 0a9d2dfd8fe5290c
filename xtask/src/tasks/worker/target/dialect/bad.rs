//! Requests that have to be refused, and the answers that are right for them. Pure.
//!
//! Where the contract names one answer, one is right; where it is silent (is a lone surrogate still
//! JSON?), every orderly one is.

mod bodies;
mod fields;
mod http;

pub use bodies::{
    absurd, bodies_to_take, framing, half_a_request, malformed, media_types, too_large,
};
pub use fields::{beyond_context, fields_to_take, invalid_fields};
pub use http::{unknown_paths, wrong_methods};

use serde_json::Value;

use super::Refusal;
use super::fields::shorten;
use super::refusal::read_any_refusal;
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::record::event::Mismatch;

/// The largest body that a worker takes.
pub const BODY_LIMIT_BYTES: usize = 1 << 20;

/// A request, byte by byte, and the answers that are right for it.
#[derive(Debug, Clone)]
pub struct BadRequest {
    /// What is wrong with it: "max_tokens -1".
    pub name: String,
    /// What goes over the wire.
    pub bytes: Vec<u8>,
    /// Each status and code that is right.
    pub right: Vec<(u16, &'static str)>,
    /// Whether taking it is right as well.
    pub may_be_taken: bool,
    /// The field that the error has to name.
    pub field: Option<&'static str>,
    /// Words of which the message should have one: they name what was got.
    pub got: Vec<String>,
    /// Words of which the message should have one: they name what is allowed.
    pub allowed: &'static [&'static str],
}

impl BadRequest {
    fn new(name: impl Into<String>, bytes: Vec<u8>, status: u16, code: &'static str) -> Self {
        Self {
            name: name.into(),
            bytes,
            right: vec![(status, code)],
            may_be_taken: false,
            field: None,
            got: Vec::new(),
            allowed: &[],
        }
    }

    /// Reads the answer; fails unless it is one of those that are right.
    ///
    /// `None` where the worker took the request and may.
    pub fn judge(&self, response: &Response) -> Result<Option<Refusal>, Mismatch> {
        let place = self.name.as_str();
        if self.may_be_taken && response.status == 200 {
            return Ok(None);
        }
        let expected = || {
            let right: Vec<String> = self
                .right
                .iter()
                .map(|(status, code)| format!("{status} {code}"))
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
        let error = read_any_refusal(response)?;
        let is_right = self
            .right
            .iter()
            .any(|(status, code)| *status == response.status && *code == error.code);
        if !is_right {
            let got = format!("{} {}", response.status, error.code);
            return Err(Mismatch::new(place, expected(), got));
        }
        if error.code == "invalid_field"
            && let Some(field) = self.field
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
fn words_for(value: &Value) -> Vec<String> {
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

/// A request to the inference endpoint with this body, under the name of JSON.
pub fn post_json(body: &[u8]) -> Vec<u8> {
    post(body)
}

fn post(body: &[u8]) -> Vec<u8> {
    post_as(Some("application/json"), body)
}

fn post_as(content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.len());
    post_framed(content_type, &length, body)
}

/// The same, with whatever is to say where the body ends.
fn post_framed(content_type: Option<&str>, framing: &str, body: &[u8]) -> Vec<u8> {
    let content_type =
        content_type.map_or(String::new(), |kind| format!("Content-Type: {kind}\r\n"));
    let head = format!(
        "POST /v1/inference HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{content_type}{framing}\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Instant;

    fn all() -> Vec<BadRequest> {
        [
            malformed(),
            media_types(),
            too_large(),
            absurd(),
            invalid_fields(),
            beyond_context(),
            unknown_paths(),
            wrong_methods(),
        ]
        .concat()
    }

    fn response(status: u16, body: &str) -> Response {
        Response {
            request: String::from("POST /x"),
            status,
            headers: vec![(
                String::from("content-type"),
                String::from("application/json"),
            )],
            body: body.as_bytes().to_vec(),
            sent: Instant::now(),
            received: Instant::now(),
        }
    }

    #[test]
    fn every_bad_request_has_a_name_of_its_own_and_a_right_answer() {
        let all = all();
        let names: HashSet<_> = all.iter().map(|bad| &bad.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() > 90, "{}", all.len());
        for bad in &all {
            assert!(!bad.right.is_empty(), "{}", bad.name);
            assert!(
                bad.right
                    .iter()
                    .all(|(status, _)| (400..500).contains(status))
            );
        }
    }

    #[test]
    fn a_refusal_is_judged_by_status_code_and_field() {
        let bad = invalid_fields();
        let bad = bad.iter().find(|bad| bad.name == "max_tokens 0").unwrap();
        let right = r#"{"error":{"code":"invalid_field","message":"max_tokens: got 0, allowed is an integer from 1","field":"max_tokens"}}"#;
        let error = bad.judge(&response(422, right)).unwrap().unwrap();
        assert!(bad.is_named_by(&error.message) && bad.is_explained_by(&error.message));
        assert!(!bad.is_named_by("invalid request"));
        assert!(bad.judge(&response(400, right)).is_err(), "status");
        assert!(bad.judge(&response(200, "{}")).is_err(), "taken");
        let other = right.replace("\"field\":\"max_tokens\"", "\"field\":\"seed\"");
        assert!(bad.judge(&response(422, &other)).is_err(), "field");
        let other = right.replace("invalid_field", "bad_request");
        assert!(bad.judge(&response(422, &other)).is_err(), "code");
        assert!(bad.judge(&response(422, r#"{"error":"no"}"#)).is_err());
        let other = r#"{"error":{"code":"invalid_field","message":" "}}"#;
        assert!(bad.judge(&response(422, other)).is_err(), "message");
    }
}
