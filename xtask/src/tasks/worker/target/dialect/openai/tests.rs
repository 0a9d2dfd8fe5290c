//! What of OpenAI's protocol is read, and what is a broken promise.

use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::tasks::worker::net::framing::Head;
use crate::tasks::worker::net::stream::{FinishReason, StreamReader, StreamedAnswer};

fn dialect() -> OpenAi {
    let key = ApiKey {
        variable: String::from("KEY"),
        value: String::from("k"),
    };
    OpenAi::new(ProfileName::Openai, "m", Some(&key))
}

fn response(request: &str, status: u16, body: &Value) -> Response {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Response {
        request: request.to_owned(),
        status,
        headers: vec![header("content-type", "application/json; charset=utf-8")],
        body: body.to_string().into_bytes(),
        sent: Instant::now(),
        received: Instant::now(),
    }
}

fn chunk(choice: &Value) -> String {
    let chunk = json!({"id": "c", "object": "text_completion", "created": 1, "choices": [choice]});
    format!("data: {chunk}\n\n")
}

fn text(text: &str) -> String {
    chunk(&json!({"index": 0, "text": text, "logprobs": null, "finish_reason": null}))
}

fn end() -> String {
    chunk(&json!({"index": 0, "text": "", "finish_reason": "length"}))
}

fn usage(completion_tokens: u64) -> String {
    let total = 3 + completion_tokens;
    let usage =
        json!({"prompt_tokens": 3, "completion_tokens": completion_tokens, "total_tokens": total});
    let chunk = json!({"id": "c", "object": "text_completion", "choices": [], "usage": usage});
    format!("data: {chunk}\n\n")
}

const DONE: &str = "data: [DONE]\n\n";

fn read(dialect: &OpenAi, parts: &[String]) -> Result<StreamedAnswer, String> {
    let mut reader = StreamReader::new("POST /v1/completions", dialect);
    let head = Head {
        status: 200,
        headers: vec![(
            String::from("content-type"),
            String::from("text/event-stream"),
        )],
    };
    let now = Instant::now();
    reader.head(&head, now);
    reader.body(now, parts.concat().as_bytes());
    let read = reader.finish(None);
    read.map_err(|error| error.into_error().to_string())
}

#[test]
fn a_request_carries_model_key_and_the_wish_for_usage() {
    let asked = InferenceRequest {
        stop: vec![String::from("x")],
        ..InferenceRequest::greedy("Hello", 3)
    };
    let request = dialect().inference_request(&asked, true);
    assert_eq!(request.name(), "POST /v1/completions");
    assert_eq!(request.authorization.as_deref(), Some("Bearer k"));
    let body: Value = serde_json::from_slice(&request.body.unwrap().1).unwrap();
    let expected = json!({"model": "m", "prompt": "Hello", "max_tokens": 3, "temperature": 0.0,
        "stop": "x", "stream": true, "stream_options": {"include_usage": true}});
    assert_eq!(body, expected);
    let chat = InferenceRequest {
        as_chat: true,
        ..asked
    };
    let request = dialect().inference_request(&chat, false);
    assert_eq!(request.path, CHAT);
    let body: Value = serde_json::from_slice(&request.body.unwrap().1).unwrap();
    assert_eq!(
        body["messages"],
        json!([{"role": "user", "content": "Hello"}])
    );
    assert!(body.get("prompt").is_none() && body.get("stream").is_none());
}

#[test]
fn tokens_are_counted_by_the_usage_however_they_are_bundled() {
    let parts = [text("a b"), text("c"), end(), usage(5), DONE.to_owned()];
    let answer = read(&dialect(), &parts).unwrap();
    assert_eq!((answer.text().as_str(), answer.tokens()), ("a bc", 5));
    assert_eq!(answer.completion.prompt_tokens, Some(3));
    assert_eq!(answer.completion.finish_reason, FinishReason::Length);
    assert!(!answer.has_piece_per_token());
    let parts = [text("a"), text("b"), end(), usage(2), DONE.to_owned()];
    assert!(read(&dialect(), &parts).unwrap().has_piece_per_token());
}

#[test]
fn chunks_may_bring_a_role_nothing_or_the_usage_with_the_end() {
    let delta = |delta: Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let parts = [
        delta(json!({"role": "assistant", "content": null}), json!(null)),
        delta(json!({"content": "Hi"}), json!(null)),
        delta(json!({"content": ""}), json!(null)),
        String::from(": a sign of life\n\n"),
        delta(json!({}), json!("stop")),
        usage(1),
        DONE.to_owned(),
    ];
    let answer = read(&dialect(), &parts).unwrap();
    assert_eq!((answer.pieces.len(), answer.text().as_str()), (1, "Hi"));
}

#[test]
fn a_stream_that_breaks_a_rule_is_told_with_the_rule() {
    let good = [text("a"), end(), usage(1), DONE.to_owned()];
    let with = |at: usize, part: String| {
        let mut parts = good.to_vec();
        parts.insert(at, part);
        parts
    };
    let other_id = text("b").replace("\"c\"", "\"d\"");
    let late = "no text after the finish_reason";
    for (parts, expected) in [
        (good[..3].to_vec(), "exactly one end"),
        (
            [&good[..1], &good[2..]].concat(),
            "a finish_reason before [DONE]",
        ),
        ([&good[..2], &good[3..]].concat(), "the usage before [DONE]"),
        (with(4, text("b")), late),
        (with(4, DONE.to_owned()), "an end as the last event"),
        (with(2, text("b")), late),
        (with(1, other_id), "`id`"),
        (with(1, String::from("data: {\n\n")), "a JSON object"),
        (
            with(1, format!("event: token\n{}", text("b"))),
            "no type of event",
        ),
        (
            with(1, chunk(&json!({"index": 0}))),
            "`text`: expected a string",
        ),
        (
            with(1, text("b").replace("text_completion", "answer")),
            "text_completion or chat.completion.chunk",
        ),
        (
            vec![
                text("a"),
                String::from("data: {\"error\":{\"message\":\"full\",\"type\":\"t\"}}\n\n"),
            ],
            "got error full",
        ),
    ] {
        let error = read(&dialect(), &parts).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let total = usage(1).replace("\"total_tokens\":4", "\"total_tokens\":9");
    let error = read(&dialect(), &with(2, total)).unwrap_err();
    assert!(
        error.contains("`total_tokens`: expected 3 + 1, got 9"),
        "{error}"
    );
}

#[test]
fn a_whole_answer_says_what_it_is_and_what_it_took() {
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let choice = json!({"index": 0, "text": "a b", "finish_reason": "stop"});
    let body = json!({"object": "text_completion", "choices": [choice], "usage": usage});
    let read = |path: &str, body: &Value| {
        let response = response(&format!("POST {path}"), 200, body);
        dialect().read_completion(&response)
    };
    let answer = read(COMPLETIONS, &body).unwrap();
    assert_eq!(
        (answer.text.as_deref(), answer.tokens),
        (Some("a b"), Some(2))
    );
    let chat = json!({"object": "chat.completion", "usage": usage, "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}]});
    assert_eq!(read(CHAT, &chat).unwrap().text.as_deref(), Some("a b"));
    assert!(read(CHAT, &body).is_err() && read(COMPLETIONS, &chat).is_err());
    for lacking in ["object", "choices", "usage"] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().remove(lacking);
        let message = read(COMPLETIONS, &body).unwrap_err().to_string();
        assert!(message.contains(lacking), "{message}");
    }
    let mut open = body;
    open["choices"][0]["finish_reason"] = json!(null);
    assert!(read(COMPLETIONS, &open).is_err());
}

#[test]
fn readiness_is_the_status_and_a_server_without_health_lists_its_models() {
    let dialect = dialect();
    assert_eq!(dialect.health_request().path, HEALTH);
    let answer = |request: &Request, status, body: Value| {
        dialect.read_ready(&response(&request.name(), status, &body))
    };
    let health = dialect.health_request();
    let loading = Readiness::NotReady(String::from("loading"));
    assert_eq!(answer(&health, 503, json!({})).unwrap(), loading);
    assert_eq!(answer(&health, 200, json!({})).unwrap(), Readiness::Ready);
    assert!(answer(&health, 500, json!({})).is_err());
    assert_ne!(answer(&health, 404, json!({})).unwrap(), Readiness::Ready);
    let models = dialect.health_request();
    assert_eq!(models.path, MODELS);
    let list = json!({"object": "list", "data": [{"id": "m"}]});
    assert_eq!(answer(&models, 200, list).unwrap(), Readiness::Ready);
    let none = json!({"object": "list", "data": []});
    assert!(answer(&models, 200, none).is_err());
    assert!(answer(&models, 404, json!({})).is_err());
}

#[test]
fn errors_have_a_message_and_a_type_and_codes_of_any_kind() {
    let read = |status, error: Value| {
        let response = response("POST /v1/completions", status, &json!({"error": error}));
        dialect().read_refusal(&response, Reason::ContextExceeded)
    };
    let error = |code: Value, message: &str| json!({"message": message, "type": "t", "code": code});
    assert!(read(400, error(json!("context_length_exceeded"), "too long")).is_ok());
    assert!(read(400, error(json!(400), "beyond the context size")).is_ok());
    assert!(read(400, error(json!(null), "too long")).is_err());
    assert!(read(500, error(json!("context_length_exceeded"), "x")).is_err());
    assert!(
        read(400, json!({"message": "the context"})).is_err(),
        "type"
    );
    assert!(read(400, json!("the context")).is_err());
}

#[test]
fn a_profile_says_what_a_server_may_do_otherwise_and_why() {
    let told = OpenAi::new(ProfileName::LlamaServer, "m", None).differences();
    assert!(
        told.len() > 1
            && told
                .iter()
                .all(|line| line.starts_with("profile llama-server: "))
    );
    let lenient = |profile| {
        let requests = OpenAi::new(profile, "m", None).bad_requests(BadInput::Field);
        requests
            .iter()
            .filter(|request| request.may_be_taken)
            .count()
    };
    assert_eq!(lenient(ProfileName::Openai), 0);
    assert!(lenient(ProfileName::LlamaServer) > 5);
    for kind in [
        BadInput::Malformed,
        BadInput::Absurd,
        BadInput::Field,
        BadInput::UnknownPath,
    ] {
        for request in dialect().bad_requests(kind) {
            let head = String::from_utf8_lossy(&request.bytes);
            assert!(
                head.contains("\r\nAuthorization: Bearer k\r\n"),
                "{}",
                request.name
            );
        }
    }
}
