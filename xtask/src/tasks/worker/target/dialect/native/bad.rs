//! The catalog of requests that the contract refuses, and of those at the edge that it takes.

mod bodies;
mod fields;
mod http;

pub use self::bodies::{framing, half_a_request};

use super::inference::PATH;
use crate::tasks::worker::target::dialect::{BadInput, BadRequest, GoodInput};

/// The largest body that a worker takes.
const BODY_LIMIT_BYTES: usize = 1 << 20;

/// Requests that have to be refused.
pub fn requests(kind: BadInput) -> Vec<BadRequest> {
    match kind {
        BadInput::Malformed => bodies::malformed(),
        BadInput::MediaType => bodies::media_types(),
        BadInput::TooLarge => bodies::too_large(),
        BadInput::Absurd => bodies::absurd(),
        BadInput::Field => fields::invalid(),
        BadInput::BeyondContext => fields::beyond_context(),
        BadInput::UnknownPath => http::unknown_paths(),
        BadInput::WrongMethod => http::wrong_methods(),
    }
}

/// Requests at the edge that have to be taken.
pub fn requests_to_take(kind: GoodInput) -> Vec<(String, Vec<u8>)> {
    match kind {
        GoodInput::Field => fields::to_take(),
        GoodInput::Body => bodies::to_take(),
    }
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
        "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{content_type}{framing}\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Instant;

    use crate::tasks::worker::net::client::Response;
    use crate::tasks::worker::target::dialect::native;

    const KINDS: [BadInput; 8] = [
        BadInput::Malformed,
        BadInput::MediaType,
        BadInput::TooLarge,
        BadInput::Absurd,
        BadInput::Field,
        BadInput::BeyondContext,
        BadInput::UnknownPath,
        BadInput::WrongMethod,
    ];

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
        let all = KINDS.map(requests).concat();
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
        let bad = requests(BadInput::Field);
        let bad = bad.iter().find(|bad| bad.name == "max_tokens 0").unwrap();
        let right = r#"{"error":{"code":"invalid_field","message":"max_tokens: got 0, allowed is an integer from 1","field":"max_tokens"}}"#;
        let error = bad.judge(native(), &response(422, right)).unwrap().unwrap();
        assert!(bad.is_named_by(&error.message) && bad.is_explained_by(&error.message));
        assert!(!bad.is_named_by("invalid request"));
        assert!(
            bad.judge(native(), &response(400, right)).is_err(),
            "status"
        );
        assert!(bad.judge(native(), &response(200, "{}")).is_err(), "taken");
        let other = right.replace("\"field\":\"max_tokens\"", "\"field\":\"seed\"");
        assert!(
            bad.judge(native(), &response(422, &other)).is_err(),
            "field"
        );
        let other = right.replace("invalid_field", "bad_request");
        assert!(bad.judge(native(), &response(422, &other)).is_err(), "code");
        assert!(
            bad.judge(native(), &response(422, r#"{"error":"no"}"#))
                .is_err()
        );
        let other = r#"{"error":{"code":"invalid_field","message":" "}}"#;
        assert!(
            bad.judge(native(), &response(422, other)).is_err(),
            "message"
        );
    }
}
