//! Requests that OpenAI's reference refuses, and those at the edge that it takes.

use serde_json::{Value, json};

use super::profile::{Difference, Profile};
use crate::tasks::worker::target::dialect::bodies::{self, GOOD};
use crate::tasks::worker::target::dialect::post::Post;
use crate::tasks::worker::target::dialect::protocol::{BadInput, BadRequest, GoodInput};

/// Words of a prompt that is longer than any context these servers are tried with.
const MANY_WORDS: usize = 300_000;

/// Requests that have to be refused; none where the reference says nothing.
pub fn requests(post: &Post, profile: &Profile, kind: BadInput) -> Vec<BadRequest> {
    match kind {
        BadInput::Malformed => {
            let malformed = bodies::MALFORMED.iter();
            malformed
                .map(|(name, body)| bad(*name, post.body(body)))
                .collect()
        }
        BadInput::Absurd => absurd(post),
        BadInput::Field => fields(post, profile),
        BadInput::BeyondContext => beyond_context(post, profile),
        BadInput::UnknownPath => unknown_paths(post),
        BadInput::MediaType
        | BadInput::TooLarge
        | BadInput::WrongMethod
        | BadInput::ForeignHost
        | BadInput::Order => Vec::new(),
    }
}

/// Requests at the edge that have to be taken.
pub fn requests_to_take(post: &Post, kind: GoodInput) -> Vec<(String, Vec<u8>)> {
    let named = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    match kind {
        GoodInput::Body => vec![
            named("a body in one chunk", post.chunked(GOOD, GOOD.len())),
            named("a body in chunks of a byte", post.chunked(GOOD, 1)),
            named(
                "content type application/json; charset=utf-8",
                post.typed(Some("application/json; charset=utf-8"), GOOD),
            ),
        ],
        GoodInput::Spelling => Vec::new(),
        GoodInput::Field => {
            let values = [
                ("temperature", json!(0)),
                ("temperature", json!(2.0)),
                ("temperature", json!(null)),
                ("top_p", json!(1)),
                ("top_p", json!(0.5)),
                ("seed", json!(0)),
                ("seed", json!(2_147_483_647)),
                ("stop", json!("\u{1}never\u{1}")),
                (
                    "stop",
                    json!(["\u{1}never\u{1}", "a\u{2}", "b\u{3}", "c\u{4}"]),
                ),
                ("stop", json!(null)),
                ("stream", json!(false)),
                ("stream", json!(null)),
                ("n", json!(1)),
                ("user", json!("somebody")),
            ];
            values
                .map(|(field, value)| {
                    let body = with(field, &value);
                    (format!("{field} {value}"), post.body(body.as_bytes()))
                })
                .to_vec()
        }
    }
}

/// 400, with whatever code.
fn bad(name: impl Into<String>, bytes: Vec<u8>) -> BadRequest {
    BadRequest::new(name, bytes, 400, "")
}

/// Any orderly refusal is right.
fn absurd(post: &Post) -> Vec<BadRequest> {
    let requests = bodies::absurd().into_iter();
    requests
        .map(|(name, body, _)| BadRequest {
            right: vec![(400, ""), (413, ""), (422, "")],
            // Which of these JSON allows is a matter of taste, as long as the server survives.
            may_be_taken: true,
            ..bad(name, post.body(body.as_bytes()))
        })
        .collect()
}

fn fields(post: &Post, profile: &Profile) -> Vec<BadRequest> {
    let without_prompt = bad("no prompt", post.body(br#"{"max_tokens":1}"#));
    let wrong = |(field, value): &(&str, Value)| {
        let name = format!("{field} {value}");
        bad(name, post.body(with(field, value).as_bytes()))
    };
    let wrong_types = WRONG_TYPES.iter().flat_map(|(field, values)| {
        let values: Vec<Value> = serde_json::from_str(values).unwrap_or_default();
        values.into_iter().map(|value| (*field, value))
    });
    let wrong_types: Vec<_> = wrong_types.collect();
    let beyond = [
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(-2_147_483_648i64)),
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.01)),
        ("temperature", json!(1e300)),
        ("top_p", json!(-0.5)),
        ("top_p", json!(1.5)),
    ];
    let unknown = ["temprature", "max_token", "stop_sequences", "proмpt"];
    let unknown = unknown.map(|field| (field, json!(1)));
    let lenient = |request: BadRequest, difference| BadRequest {
        may_be_taken: profile.has(difference),
        ..request
    };
    let mut all = vec![without_prompt];
    all.extend(wrong_types.iter().map(wrong));
    let beyond = beyond.iter().map(wrong);
    all.extend(beyond.map(|request| lenient(request, Difference::TakesOtherValues)));
    let unknown = unknown.iter().map(wrong);
    all.extend(unknown.map(|request| lenient(request, Difference::IgnoresUnknownFields)));
    all
}

/// Each field with values of types that it doesn't have, as JSON.
const WRONG_TYPES: [(&str, &str); 7] = [
    ("prompt", r#"[5.5, true, {"text": "Hello"}]"#),
    ("max_tokens", r#"["five", true, [5], {}]"#),
    ("temperature", r#"["warm", [], {}]"#),
    ("top_p", r#"["most", [1], {}]"#),
    ("seed", r#"["one", [1], {}]"#),
    ("stop", r#"[5, true, {}, [1]]"#),
    ("stream", r#"["perhaps", [], {}]"#),
];

fn beyond_context(post: &Post, profile: &Profile) -> Vec<BadRequest> {
    if profile.has(Difference::CutsToContext) {
        let prompt = "word ".repeat(MANY_WORDS);
        let body = json!({"prompt": prompt, "max_tokens": 1}).to_string();
        let name = format!("a prompt of {MANY_WORDS} words");
        return vec![bad(name, post.body(body.as_bytes()))];
    }
    let too_many = [100_000_000u32, 2_000_000_000];
    too_many
        .map(|tokens| {
            let body = with("max_tokens", &json!(tokens));
            bad(format!("max_tokens {tokens}"), post.body(body.as_bytes()))
        })
        .to_vec()
}

/// What such an answer's body says is nobody's promise.
fn unknown_paths(post: &Post) -> Vec<BadRequest> {
    let paths = [
        ("GET", "/v1/nothing"),
        ("POST", "/v1/nothing"),
        ("GET", "/v2/models"),
        ("POST", "/v1/completions/more"),
    ];
    paths
        .map(|(method, path)| BadRequest {
            has_any_body: true,
            ..BadRequest::new(format!("{method} {path}"), post.bare(method, path), 404, "")
        })
        .to_vec()
}

/// A small good request with one field set.
fn with(field: &str, value: &Value) -> String {
    let mut body = json!({"prompt": "Hello", "max_tokens": 1});
    body[field] = value.clone();
    body.to_string()
}
