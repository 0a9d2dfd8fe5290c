//! What OpenAI's clients may ask of a real model beside its text: how likely its tokens were, and JSON.

use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::running::{WorkerCommand, post};

/// How far a log-probability may be from the reference's, as the engine's own test has it: in the
/// middle, and ever.
const MIDDLE_NATS: f64 = 0.08;
const ALL_NATS: f64 = 0.8;

fn asked(port: u16, path: &str, body: &Value) -> Value {
    let (status, text) = post(port, path, body);
    assert_eq!(status, 200, "{body}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The chunks of a streamed answer, without the last line.
fn chunks(port: u16, path: &str, mut body: Value) -> Vec<Value> {
    body["stream"] = json!(true);
    let (status, text) = post(port, path, &body);
    assert_eq!(status, 200, "{body}: {text}");
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let data = lines.filter(|line| *line != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// The columns of all chunks, one after the other.
fn joined(parts: impl Iterator<Item = Value>, columns: &[&str]) -> Value {
    let mut whole = json!({});
    for part in parts.filter(|part| !part.is_null()) {
        for name in columns {
            let more = part[name].as_array().unwrap().clone();
            match &mut whole[name] {
                Value::Array(column) => column.extend(more),
                empty => *empty = json!(more),
            }
        }
    }
    whole
}

#[test]
fn streamed_logprobs_are_those_of_the_plain_answer_and_fit_its_text() {
    let (_worker, port) = WorkerCommand::default().serve();
    let text = json!({"prompt": "The capital of France is", "max_tokens": 60, "temperature": 1.5,
                      "seed": 3, "stop": ["e"], "logprobs": 5});
    let whole = asked(port, "/v1/completions", &text);
    let told = &whole["choices"][0]["logprobs"];
    let columns = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
    let parts = chunks(port, "/v1/completions", text);
    let of = |part: &Value| part["choices"][0]["logprobs"].clone();
    assert_eq!(&joined(parts.iter().map(of), &columns), told);
    for column in columns {
        let length = told[column].as_array().unwrap().len();
        assert_eq!(whole["usage"]["completion_tokens"], length, "{column}");
    }

    let chat = json!({"messages": [{"role": "user", "content": "What is your name?"}],
                      "max_tokens": 60, "temperature": 2, "seed": 5, "logprobs": true,
                      "top_logprobs": 3});
    let whole = asked(port, "/v1/chat/completions", &chat);
    let choice = &whole["choices"][0];
    let parts = chunks(port, "/v1/chat/completions", chat);
    let joined = joined(parts.iter().map(of), &["content"]);
    assert_eq!(joined["content"], choice["logprobs"]["content"]);
    // The bytes of all tokens are the text, whatever tokens its characters were cut into.
    let content = joined["content"].as_array().unwrap();
    let bytes = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().into_iter().flatten());
    let bytes: Vec<u8> = bytes.map(|byte| byte.as_u64().unwrap() as u8).collect();
    let said = String::from_utf8_lossy(&bytes);
    let said = said.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let text = choice["message"]["content"].as_str().unwrap();
    assert_eq!(text.trim_end_matches(char::REPLACEMENT_CHARACTER), said);
    assert!(
        content
            .iter()
            .all(|token| token["top_logprobs"].as_array().unwrap().len() == 3)
    );
}

#[test]
fn logprobs_are_the_references_and_greedy_takes_the_likeliest() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.test-models/references");
    let reference = std::fs::read_to_string(Path::new(folder).join("tiny.json")).unwrap();
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let (_worker, port) = WorkerCommand::default().serve();
    let mut off = Vec::new();
    for position in reference["positions"].as_array().unwrap() {
        let passage = position["passage"].as_u64().unwrap() as usize;
        let ids = reference["passages"][passage]["ids"].as_array().unwrap();
        let prefix = &ids[..position["tokens"].as_u64().unwrap() as usize];
        let body = json!({"prompt": prefix, "max_tokens": 1, "temperature": 0, "logprobs": 5});
        let told = asked(port, "/v1/completions", &body)["choices"][0]["logprobs"].take();
        // Where the model ends the text, no token is told.
        let Some(chosen) = told["tokens"][0].as_str() else {
            continue;
        };
        let top = told["top_logprobs"][0].as_object().unwrap();
        let (likeliest, logprob) = top
            .iter()
            .max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap()))
            .unwrap();
        assert_eq!(
            (likeliest.as_str(), logprob),
            (chosen, &told["token_logprobs"][0])
        );
        for one in position["top"].as_array().unwrap() {
            let text = one[2].as_str().unwrap_or_default();
            if let Some(logprob) = top.get(text) {
                off.push((logprob.as_f64().unwrap() - one[1].as_f64().unwrap()).abs());
            }
        }
    }
    off.sort_by(f64::total_cmp);
    assert!(off.len() > 300, "only {} were compared", off.len());
    let (middle, all) = (off[off.len() / 2], off[off.len() - 1]);
    assert!(middle <= MIDDLE_NATS && all <= ALL_NATS, "{middle}, {all}");
}

fn ask_for_json(port: u16, format: &Value, seed: u64, max_tokens: u32) -> (String, String) {
    let body = json!({
        "messages": [{"role": "user", "content": "Hello, who are you? Answer in JSON."}],
        "response_format": format, "seed": seed, "max_tokens": max_tokens,
    });
    let answer = asked(port, "/v1/chat/completions", &body);
    let choice = &answer["choices"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&choice["message"]["content"]),
        text(&choice["finish_reason"]),
    )
}

/// The tiny model has never seen JSON, so that all that is right about it is the grammar's doing.
#[test]
fn json_mode_gives_objects_unless_the_tokens_run_out() {
    let (_worker, port) = WorkerCommand::default().serve();
    let format = json!({"type": "json_object"});
    let mut whole = 0;
    for seed in 0..12 {
        let (text, reason) = ask_for_json(port, &format, seed, 300);
        assert!(text.starts_with('{'), "{text}");
        // Only the syntax: JSON's numbers may be larger than any that we can hold.
        let parsed: Result<&RawValue, _> = serde_json::from_str(&text);
        assert!(parsed.is_ok() || reason == "length", "{text}");
        whole += usize::from(reason == "stop");
        assert_eq!(
            ask_for_json(port, &format, seed, 300),
            (text, reason),
            "the same seed"
        );
    }
    assert!(whole >= 3, "{whole} of 12");
    let (text, reason) = ask_for_json(port, &format, 1, 1);
    assert_eq!(reason, "length");
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
}

#[test]
fn a_json_schema_is_followed_beside_answers_that_nothing_holds() {
    let (_worker, port) = WorkerCommand::default().serve();
    let free = json!({"messages": [{"role": "user", "content": "What is your name?"}],
                      "max_tokens": 60, "temperature": 1.8, "seed": 4, "logprobs": true});
    let alone = asked(port, "/v1/chat/completions", &free)["choices"].take();
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "required": ["name", "age", "mood", "friends"],
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 1, "maximum": 99},
            "mood": {"enum": ["glad", "sad"]},
            "friends": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 8}},
            "note": {"type": ["null", "boolean"]},
        },
    });
    let format = json!({"type": "json_schema",
                        "json_schema": {"name": "person", "strict": true, "schema": schema}});
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            for _ in 0..4 {
                let beside = asked(port, "/v1/chat/completions", &free)["choices"].take();
                assert_eq!(beside, alone);
            }
        });
        for seed in 0..8 {
            let (text, reason) = ask_for_json(port, &format, seed, 1000);
            assert_eq!(reason, "stop", "{text}");
            let person: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
            let person = person.as_object().unwrap();
            assert!(
                person["name"].as_str().unwrap().chars().count() <= 20,
                "{text}"
            );
            assert!(
                (1..=99).contains(&person["age"].as_i64().unwrap()),
                "{text}"
            );
            assert!(
                ["glad", "sad"].contains(&person["mood"].as_str().unwrap()),
                "{text}"
            );
            let friends = person["friends"].as_array().unwrap();
            assert!(
                friends.len() <= 3 && friends.iter().all(Value::is_string),
                "{text}"
            );
            let note = person.get("note");
            assert!(
                note.is_none_or(|note| note.is_null() || note.is_boolean()),
                "{text}"
            );
            assert_eq!(person.len(), 4 + usize::from(note.is_some()), "{text}");
        }
        beside.join().unwrap();
    });
    let refused = json!({"type": "json_schema",
                         "json_schema": {"schema": {"type": "array", "uniqueItems": true}}});
    let body = json!({"messages": [{"role": "user", "content": "a"}], "response_format": refused});
    let (status, text) = post(port, "/v1/chat/completions", &body);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &error["error"]["param"]),
        (400, &json!("response_format")),
        "{text}"
    );
    assert!(text.contains("uniqueItems"), "{text}");
}
