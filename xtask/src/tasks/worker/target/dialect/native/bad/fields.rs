//! Fields that are missing, unknown, of the wrong type or out of range, and values just inside.

use serde_json::{Map, Value, json};

use super::post::POST;
use crate::tasks::worker::target::dialect::bad::words_for;
use crate::tasks::worker::target::dialect::protocol::BadRequest;

/// A prompt for requests that are wrong elsewhere.
const PROMPT: &str = "Hello";

/// What a message says of the values that a field takes; one of the words is enough.
const ALLOWED: &[(&str, &[&str])] = &[
    ("prompt", &["string", "text", "character", "empty"]),
    (
        "max_tokens",
        &["integer", "whole", "positive", "least", "from", "1"],
    ),
    (
        "temperature",
        &["number", "float", "between", "0 to 2", "2"],
    ),
    ("top_p", &["number", "float", "between", "0", "1"]),
    ("top_k", &["integer", "whole", "positive", "least", "from"]),
    ("seed", &["integer", "whole", "number", "from"]),
    ("stop", &["string", "16", "up to"]),
    ("stream", &["true", "false", "bool"]),
];

/// Every wrong value of every field, one a request.
pub fn invalid() -> Vec<BadRequest> {
    let mut all = vec![missing_prompt("no prompt", json!({}))];
    all.push(missing_prompt(
        "everything but a prompt",
        json!({"max_tokens": 2, "seed": 1}),
    ));
    all.extend(
        [
            "temprature",
            "max_token",
            "Prompt",
            "stop_sequences",
            "n",
            "proмpt",
        ]
        .map(unknown),
    );
    all.extend(
        wrong_values()
            .into_iter()
            .map(|(field, value)| wrong(field, value)),
    );
    all
}

/// Values at the edge, which have to be taken: the request's name and its bytes.
pub fn to_take() -> Vec<(String, Vec<u8>)> {
    let sixteen: Vec<String> = (0..16)
        .map(|number| format!("\u{1}{number}\u{1}"))
        .collect();
    let values = [
        ("temperature", json!(0)),
        ("temperature", json!(0.0)),
        ("temperature", json!(2)),
        ("temperature", json!(2.0)),
        ("top_p", json!(1)),
        ("top_p", json!(0.5)),
        ("top_k", json!(1)),
        ("top_k", json!(40)),
        ("seed", json!(0)),
        ("seed", json!(4_294_967_295u32)),
        ("stop", json!("\u{1}never\u{1}")),
        ("stop", json!(["\u{1}never\u{1}"])),
        ("stop", json!(sixteen)),
        ("stream", json!(false)),
        ("max_tokens", json!(1)),
    ];
    let named = values.map(|(field, value)| {
        let name = format!("{field} {value}");
        (name, POST.body(with(field, value).to_string().as_bytes()))
    });
    named.to_vec()
}

/// Prompt and max_tokens that are beyond every context there is.
pub fn beyond_context() -> Vec<BadRequest> {
    [100_000_000u32, 2_000_000_000]
        .map(|max_tokens| {
            let body = with("max_tokens", json!(max_tokens)).to_string();
            let name = format!("max_tokens {max_tokens}");
            let bytes = POST.body(body.as_bytes());
            BadRequest {
                got: vec![max_tokens.to_string(), String::from("token")],
                allowed: &["context", "up to", "at most", "allowed", "limit"],
                ..BadRequest::new(name, bytes, 422, "context_length_exceeded")
            }
        })
        .to_vec()
}

fn wrong_values() -> Vec<(&'static str, Value)> {
    let seventeen: Vec<String> = (0..17)
        .map(|number| format!("\u{1}{number}\u{1}"))
        .collect();
    let mut all = Vec::new();
    let mut add = |field, values: &[Value]| {
        all.extend(values.iter().map(|value| (field, value.clone())));
    };
    add(
        "prompt",
        &[
            json!(null),
            json!(5),
            json!(true),
            json!(["Hello"]),
            json!({"text": "Hello"}),
            json!(""),
        ],
    );
    add(
        "max_tokens",
        &[
            json!(0),
            json!(-1),
            json!(-2_147_483_648i64),
            json!(1.5),
            json!("5"),
            json!(true),
            json!([5]),
            json!({}),
        ],
    );
    add(
        "temperature",
        &[
            json!(-0.1),
            json!(-1),
            json!(2.01),
            json!(3),
            json!(1e300),
            json!(-1e300),
            json!("0.5"),
            json!(true),
            json!([]),
            json!({}),
        ],
    );
    add(
        "top_p",
        &[
            json!(-0.5),
            json!(1.5),
            json!("1"),
            json!(false),
            json!([1]),
        ],
    );
    add("top_k", &[json!(1.5), json!("40"), json!(true), json!({})]);
    add(
        "seed",
        &[json!(1.5), json!("one"), json!(true), json!([1]), json!({})],
    );
    add(
        "stop",
        &[
            json!(5),
            json!(true),
            json!({}),
            json!([1]),
            json!([null]),
            json!(["a", ["b"]]),
            json!(seventeen),
        ],
    );
    add(
        "stream",
        &[json!("true"), json!(1), json!(0), json!([]), json!({})],
    );
    all
}

fn wrong(field: &'static str, value: Value) -> BadRequest {
    let body = with(field, value.clone()).to_string();
    let allowed = ALLOWED.iter().find(|(name, _)| *name == field);
    BadRequest {
        field: Some(field),
        got: words_for(&value),
        allowed: allowed.map_or(&[], |(_, words)| *words),
        ..BadRequest::new(
            format!("{field} {}", shown(&value)),
            POST.body(body.as_bytes()),
            422,
            "invalid_field",
        )
    }
}

fn unknown(field: &'static str) -> BadRequest {
    let body = with(field, json!(1)).to_string();
    BadRequest {
        field: Some(field),
        got: vec![field.to_owned()],
        allowed: &["max_tokens", "allowed", "known", "expected"],
        ..BadRequest::new(
            format!("an unknown field `{field}`"),
            POST.body(body.as_bytes()),
            422,
            "invalid_field",
        )
    }
}

fn missing_prompt(name: &str, body: Value) -> BadRequest {
    BadRequest {
        field: Some("prompt"),
        got: [
            "missing",
            "required",
            "no prompt",
            "none",
            "nothing",
            "absent",
        ]
        .map(String::from)
        .to_vec(),
        allowed: &["prompt"],
        ..BadRequest::new(
            name,
            POST.body(body.to_string().as_bytes()),
            422,
            "invalid_field",
        )
    }
}

/// A small good request with one field set.
fn with(field: &str, value: Value) -> Value {
    let mut body = Map::new();
    body.insert(String::from("prompt"), json!(PROMPT));
    body.insert(String::from("max_tokens"), json!(1));
    body.insert(field.to_owned(), value);
    Value::Object(body)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > 3 => format!("with {} strings", items.len()),
        other => other.to_string(),
    }
}
