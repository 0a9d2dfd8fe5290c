//! The bad requests of the contract, and how answers to them are judged.

use std::collections::HashSet;
use std::time::Instant;

use super::Native;
use super::bad::requests;
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::target::dialect::protocol::{BadInput, Dialect};

const KINDS: [BadInput; 9] = [
    BadInput::Malformed,
    BadInput::MediaType,
    BadInput::TooLarge,
    BadInput::Absurd,
    BadInput::Field,
    BadInput::BeyondContext,
    BadInput::UnknownPath,
    BadInput::WrongMethod,
    BadInput::ForeignHost,
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
fn a_worker_that_cannot_serve_says_so_with_503_and_in_no_other_way() {
    let health = |status: u16, word: &str| {
        let body = format!(r#"{{"status":"{word}","model_loaded":true,"worker_id":"w"}}"#);
        Native.read_health(&response(status, &body)).is_ok()
    };
    assert!(health(200, "healthy") && health(503, "failed"));
    assert!(!health(200, "failed") && !health(503, "healthy") && !health(500, "failed"));
    let ready = |word: &str| {
        let body = format!(r#"{{"ready":false,"reason":"{word}"}}"#);
        let mut response = response(503, &body);
        let retry = (String::from("retry-after"), String::from("1"));
        response.headers.push(retry);
        Native.read_ready(&response).is_ok()
    };
    assert!(ready("failed") && ready("loading") && !ready("broken"));
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
    let error = bad.judge(&Native, &response(422, right)).unwrap().unwrap();
    assert!(bad.is_named_by(&error.message) && bad.is_explained_by(&error.message));
    assert!(!bad.is_named_by("invalid request"));
    assert!(bad.judge(&Native, &response(400, right)).is_err(), "status");
    assert!(bad.judge(&Native, &response(200, "{}")).is_err(), "taken");
    let other = right.replace("\"field\":\"max_tokens\"", "\"field\":\"seed\"");
    assert!(bad.judge(&Native, &response(422, &other)).is_err(), "field");
    let other = right.replace("invalid_field", "bad_request");
    assert!(bad.judge(&Native, &response(422, &other)).is_err(), "code");
    assert!(
        bad.judge(&Native, &response(422, r#"{"error":"no"}"#))
            .is_err()
    );
    let other = r#"{"error":{"code":"invalid_field","message":" "}}"#;
    assert!(
        bad.judge(&Native, &response(422, other)).is_err(),
        "message"
    );
}
