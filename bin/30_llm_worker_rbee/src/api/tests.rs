//! Bodies by the table, and bodies that nobody would write.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;

fn refusal(body: &str) -> ApiError {
    match parse_inference_request(body.as_bytes()) {
        Err(error) => error,
        Ok(request) => panic!("{body} was taken as {request:?}"),
    }
}

fn accepted(body: &str) -> InferenceRequest {
    parse_inference_request(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error:?}"))
}

#[test]
fn only_a_prompt_is_required() {
    let request = accepted(r#"{"prompt":"Hello"}"#);
    assert_eq!(request.generation.prompt, "Hello".into());
    assert_eq!(request.generation.max_tokens, 128);
    assert_eq!(request.generation.temperature, 0.7);
    assert_eq!(request.generation.seed, None);
    assert!(!request.stream);
}

#[test]
fn every_field_arrives() {
    let request = accepted(
        r#" {"prompt":" \u0000\ud83d\ude00","max_tokens":5.0,"temperature":0,"top_p":1,"top_k":40,
            "seed":18446744073709551615,"stop":["\n","END"],"stream":true} "#,
    );
    let generation = request.generation;
    assert_eq!(generation.prompt, " \0😀".into());
    assert_eq!(generation.max_tokens, 5);
    assert_eq!(generation.temperature, 0.0);
    assert_eq!(generation.top_p, Some(1.0));
    assert_eq!(generation.top_k, Some(40));
    assert_eq!(generation.seed, Some(u64::MAX));
    assert_eq!(generation.stop, ["\n", "END"]);
    assert!(request.stream);
}

#[test]
fn what_is_not_json_is_malformed() {
    let bodies: &[&[u8]] = &[
        b"",
        b"   ",
        b"{",
        b"{\"prompt\":\"a\"",
        b"{\"prompt\":\"a\"} x",
        b"{\"prompt\":\"a\",}",
        b"{'prompt':'a'}",
        b"{\"prompt\":\"a\",\"temperature\":NaN}",
        b"{\"prompt\":\"a\",\"temperature\":-Infinity}",
        b"{\"prompt\":\"a\",\"max_tokens\":05}",
        b"{\"prompt\":\"a\nb\"}",
        b"{\"prompt\":\"\xff\"}",
        b"{\"prompt\":\"\xed\xa0\x80\"}",
        b"{\"prompt\":\"\\ud800\"}",
        b"{\"prompt\":\"\\udc00\\ud800\"}",
        b"{\"\\ud800\":1}",
        b"\xef\xbb\xbf{\"prompt\":\"a\"}",
        b"\0",
    ];
    for body in bodies {
        let error = parse_inference_request(body).unwrap_err();
        assert_eq!(error.code, ErrorCode::MalformedJson, "{body:?}: {error:?}");
    }
}

#[test]
fn a_wrong_field_is_named() {
    let cases = [
        (r#"{}"#, "prompt"),
        (r#"[]"#, "prompt"),
        (r#""Hello""#, "prompt"),
        (r#"null"#, "prompt"),
        (r#"{"prompt":""}"#, "prompt"),
        (r#"{"prompt":null}"#, "prompt"),
        (r#"{"prompt":7}"#, "prompt"),
        (r#"{"prompt":["a"]}"#, "prompt"),
        (r#"{"max_tokens":5}"#, "prompt"),
        (r#"{"prompt":"a","max_token":5}"#, "max_token"),
        (r#"{"prompt":"a","prompt":"b"}"#, "prompt"),
        (r#"{"prompt":"a","max_tokens":0}"#, "max_tokens"),
        (r#"{"prompt":"a","max_tokens":-1}"#, "max_tokens"),
        (r#"{"prompt":"a","max_tokens":-1e400}"#, "max_tokens"),
        (r#"{"prompt":"a","max_tokens":1.5}"#, "max_tokens"),
        (r#"{"prompt":"a","max_tokens":"5"}"#, "max_tokens"),
        (r#"{"prompt":"a","max_tokens":true}"#, "max_tokens"),
        (r#"{"prompt":"a","max_tokens":null}"#, "max_tokens"),
        (r#"{"prompt":"a","temperature":2.0000001}"#, "temperature"),
        (r#"{"prompt":"a","temperature":-0.1}"#, "temperature"),
        (r#"{"prompt":"a","temperature":1e400}"#, "temperature"),
        (r#"{"prompt":"a","temperature":"NaN"}"#, "temperature"),
        (r#"{"prompt":"a","top_p":0}"#, "top_p"),
        (r#"{"prompt":"a","top_p":1.1}"#, "top_p"),
        (r#"{"prompt":"a","top_k":0}"#, "top_k"),
        (r#"{"prompt":"a","top_k":2.5}"#, "top_k"),
        (r#"{"prompt":"a","seed":-1}"#, "seed"),
        (r#"{"prompt":"a","seed":18446744073709551616}"#, "seed"),
        (r#"{"prompt":"a","seed":1.5}"#, "seed"),
        (r#"{"prompt":"a","stop":""}"#, "stop"),
        (r#"{"prompt":"a","stop":["x",""]}"#, "stop"),
        (r#"{"prompt":"a","stop":["x",1]}"#, "stop"),
        (r#"{"prompt":"a","stop":{}}"#, "stop"),
        (r#"{"prompt":"a","stream":"true"}"#, "stream"),
        (r#"{"prompt":"a","stream":1}"#, "stream"),
    ];
    for (body, field) in cases {
        let error = refusal(body);
        assert_eq!(error.code, ErrorCode::InvalidField, "{body}: {error:?}");
        assert_eq!(error.field.as_deref(), Some(field), "{body}: {error:?}");
    }
}

#[test]
fn messages_name_what_came_and_what_may() {
    let message = refusal(r#"{"prompt":"a","temperature":"hot"}"#).message;
    assert_eq!(
        message,
        r#"temperature: got the string "hot", allowed is a number from 0 to 2"#
    );
    let message = refusal(r#"{"prompt":"a","tempreature":1}"#).message;
    assert!(message.contains("tempreature") && message.contains("temperature,"));
}

#[test]
fn seventeen_stop_strings_are_one_too_many() {
    let list = |n: usize| {
        format!(
            r#"{{"prompt":"a","stop":[{}]}}"#,
            vec!["\"x\""; n].join(",")
        )
    };
    assert_eq!(accepted(&list(16)).generation.stop.len(), 16);
    assert_eq!(accepted(&list(0)).generation.stop.len(), 0);
    assert_eq!(refusal(&list(17)).field.as_deref(), Some("stop"));
}

#[test]
fn more_tokens_than_any_context_holds_are_left_to_the_engine() {
    for huge in ["2147483648", "1e30", "9".repeat(400).as_str()] {
        let request = accepted(&format!(r#"{{"prompt":"a","max_tokens":{huge}}}"#));
        assert_eq!(request.generation.max_tokens, i32::MAX as u32);
    }
}

#[test]
fn the_smallest_top_p_is_still_above_zero() {
    let top_p = accepted(r#"{"prompt":"a","top_p":1e-300}"#)
        .generation
        .top_p;
    assert!(top_p.unwrap() > 0.0);
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    for field in ["prompt", "stop", "unknown"] {
        let error = refusal(&format!(r#"{{"prompt":"a","{field}":{deep}}}"#));
        assert_eq!(error.code, ErrorCode::InvalidField);
    }
    assert_eq!(refusal(&deep).code, ErrorCode::InvalidField);
    let open = "{\"a\":".repeat(150_000);
    assert_eq!(refusal(&open).code, ErrorCode::MalformedJson);
}

#[test]
fn a_message_is_short_however_long_the_value() {
    let long = "x".repeat(500_000);
    let bodies = [
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"prompt":"a","stream":"{long}"}}"#),
        format!(r#"{{"prompt":"a","seed":{}}}"#, "7".repeat(500_000)),
    ];
    for body in bodies {
        let error = refusal(&body);
        assert!(error.message.len() < 300, "{} bytes", error.message.len());
        assert!(error.field.unwrap().len() < 100);
    }
}

/// Any JSON, with the contract's own names among the keys so that the checks behind them are met.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 40, 8, |inner| {
        let key = prop_oneof![
            proptest::sample::select(FIELDS.as_slice()).prop_map(str::to_owned),
            ".{0,8}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
            proptest::collection::vec((key, inner), 0..8)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Whatever is accepted keeps the contract; whatever is refused is refused by one of two codes.
fn holds(body: &[u8]) {
    match parse_inference_request(body) {
        Ok(request) => {
            let generation = request.generation;
            assert!(generation.prompt != "".into() && generation.max_tokens >= 1);
            assert!((0.0..=2.0).contains(&generation.temperature));
            assert!(generation.top_p.is_none_or(|p| p > 0.0 && p <= 1.0));
            assert!(generation.top_k.is_none_or(|k| k >= 1));
            assert!(generation.stop.len() <= 16 && generation.stop.iter().all(|s| !s.is_empty()));
        }
        Err(error) => {
            assert!(matches!(
                error.code,
                ErrorCode::MalformedJson | ErrorCode::InvalidField
            ));
            assert_eq!(error.field.is_some(), error.code == ErrorCode::InvalidField);
        }
    }
}

proptest! {
    #[test]
    fn fuzzed_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        holds(&body);
    }

    #[test]
    fn fuzzed_json_is_answered(value in any_json()) {
        holds(value.to_string().as_bytes());
    }

    #[test]
    fn fuzzed_good_bodies_are_answered(at in 0usize..100, byte in any::<u8>(), cut in 0usize..120) {
        let mut body = br#"{"prompt":"a\u00e9","max_tokens":5,"temperature":0.5,"stop":["x"],"seed":7,"stream":true}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(cut.max(1));
        holds(&body);
    }
}
