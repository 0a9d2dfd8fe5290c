//! Fields that are missing, unknown, given twice, of the wrong type or out of range, and values just
//! inside: a product of all fields and all kinds of values, so that none is left out.

use serde_json::{Value, json};

use super::post::POST;
use crate::tasks::worker::target::dialect::bad::words_for;
use crate::tasks::worker::target::dialect::protocol::BadRequest;

/// Values of every type of JSON.
const OF_EVERY_TYPE: [&str; 12] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    r#""""#,
    r#""1""#,
    "[]",
    "[1]",
    r#"["a"]"#,
    "{}",
    r#"{"a":1}"#,
];

/// The fields of a request, and what each takes.
const FIELDS: [Field; 8] = [
    Field {
        name: "prompt",
        takes: Takes::Text,
        allowed: &["string", "text", "character", "empty"],
    },
    Field {
        name: "max_tokens",
        takes: Takes::Integer { from: 1, to: None },
        allowed: &["integer", "whole", "positive", "least", "from", "1"],
    },
    Field {
        name: "temperature",
        takes: Takes::Number {
            beyond: &["-1e-9", "-0.1", "-1", "2.0000001", "2.01", "3"],
            within: &["0", "0.0", "1e-9", "2", "2.0", "2e0"],
        },
        allowed: &["number", "float", "between", "0 to 2", "2"],
    },
    Field {
        name: "top_p",
        takes: Takes::Number {
            beyond: &["0", "0.0", "-1e-9", "-0.5", "1.0000001", "1.5", "2"],
            within: &["1e-9", "0.5", "1", "1.0", "1e0"],
        },
        allowed: &["number", "float", "between", "0", "1"],
    },
    Field {
        name: "top_k",
        takes: Takes::Integer { from: 1, to: None },
        allowed: &["integer", "whole", "positive", "least", "from"],
    },
    Field {
        name: "seed",
        takes: Takes::Integer {
            from: 0,
            to: Some(u64::MAX),
        },
        allowed: &["integer", "whole", "number", "from"],
    },
    Field {
        name: "stop",
        takes: Takes::Stops,
        allowed: &["string", "16", "up to"],
    },
    Field {
        name: "stream",
        takes: Takes::Flag,
        allowed: &["true", "false", "bool"],
    },
];

/// A field, and what it takes.
struct Field {
    name: &'static str,
    takes: Takes,
    /// What a message says of the values that it takes; one of the words is enough.
    allowed: &'static [&'static str],
}

enum Takes {
    /// A string that isn't empty.
    Text,
    /// A whole number, however it is spelled.
    Integer { from: u64, to: Option<u64> },
    /// A number: values just beyond the bounds, and just within them.
    Number {
        beyond: &'static [&'static str],
        within: &'static [&'static str],
    },
    /// A string or up to 16, none empty.
    Stops,
    /// True or false.
    Flag,
}

impl Field {
    fn takes_type_of(&self, value: &Value) -> bool {
        match self.takes {
            Takes::Text => value.is_string(),
            Takes::Integer { .. } | Takes::Number { .. } => value.is_number(),
            Takes::Stops => value.is_string() || value.is_array(),
            Takes::Flag => value.is_boolean(),
        }
    }

    /// Every value that it has to refuse, as spelled in JSON: other types, null among them, what lies
    /// beyond the bounds, fractions, and what is huge.
    fn wrong_values(&self) -> Vec<String> {
        let other_types = OF_EVERY_TYPE
            .into_iter()
            .filter(|spelled| !self.takes_type_of(&value_of(spelled)));
        let beyond = match self.takes {
            Takes::Text => owned(&[r#""""#]),
            Takes::Flag => Vec::new(),
            Takes::Number { beyond, .. } => owned(&[beyond, &["1e300", "-1e300"]].concat()),
            Takes::Integer { from, to } => {
                let below = from.checked_sub(1).map(|below| below.to_string());
                let above = to.map(|to| (u128::from(to) + 1).to_string());
                let huge = to.map(|_| String::from("1e300"));
                owned(&["-1", "-2147483648", "1.5", "5e-1", "-1e300"])
                    .into_iter()
                    .chain([below, above, huge].into_iter().flatten())
                    .collect()
            }
            Takes::Stops => {
                let items = [
                    "\"\"",
                    "\"a\",\"\"",
                    "1",
                    "null",
                    "true",
                    "{}",
                    "\"a\",[\"b\"]",
                ];
                let lists = items.map(|items| format!("[{items}]"));
                let more = [String::from("\"\""), json!(strings(17)).to_string()];
                lists.into_iter().chain(more).collect()
            }
        };
        other_types.map(str::to_owned).chain(beyond).collect()
    }

    /// Values at the edge, which it has to take.
    fn right_values(&self) -> Vec<String> {
        match self.takes {
            Takes::Text => owned(&[r#"" ""#, r#""\u0000""#, r#""\ud83d\udc1d""#]),
            Takes::Flag => owned(&["false"]),
            Takes::Number { within, .. } => owned(within),
            Takes::Stops => {
                let one = json!(strings(1)[0]).to_string();
                let lists = [json!([]), json!(strings(1)), json!(strings(16))];
                lists.iter().map(Value::to_string).chain([one]).collect()
            }
            Takes::Integer { from, to } => {
                // No float is as exact as the second.
                let large = to.map(|to| [1 << 32, (1 << 53) + 1, to]);
                let large = large.into_iter().flatten().chain([from]);
                owned(&["1", "1.0", "1e0"])
                    .into_iter()
                    .chain(large.map(|number| number.to_string()))
                    .collect()
            }
        }
    }
}

/// Every wrong value of every field, one a request.
pub fn invalid() -> Vec<BadRequest> {
    let mut all = vec![
        missing_prompt("no prompt", json!({})),
        missing_prompt(
            "everything but a prompt",
            json!({"max_tokens": 2, "seed": 1}),
        ),
    ];
    all.extend(OTHER_JSON.map(|value| BadRequest {
        field: Some("prompt"),
        ..refused(format!("a body that is {value}"), value)
    }));
    all.extend(deep());
    let unheard_of = [
        "temprature",
        "max_token",
        "Prompt",
        "stop_sequences",
        "n",
        "proмpt",
    ];
    all.extend(unheard_of.map(unknown));
    for field in &FIELDS {
        let values = field.wrong_values();
        all.extend(values.iter().map(|value| wrong(field, value)));
        all.extend(
            field
                .right_values()
                .first()
                .map(|value| twice(field, value)),
        );
    }
    all
}

/// JSON that isn't an object.
const OTHER_JSON: [&str; 6] = [
    r#"[{"prompt":"Hello"}]"#,
    "[]",
    r#""Hello""#,
    "5",
    "true",
    "null",
];

/// The depth at which parsers that recurse give up, which a body may go far beyond.
const DEEP: usize = 50_000;

/// Values that are nested as deep as a body is long: JSON, and wrong for other reasons.
fn deep() -> [BadRequest; 2] {
    let arrays = "[".repeat(DEEP) + &"]".repeat(DEEP);
    let objects = r#"{"x":"#.repeat(DEEP) + "1" + &"}".repeat(DEEP);
    [("prompt", arrays), ("x", objects)].map(|(field, value)| BadRequest {
        field: Some(field),
        ..refused(
            format!("{field} nested {DEEP} deep"),
            &with(field, &[&value]),
        )
    })
}

/// Requests for streams with something wrong: refused with their status, before a stream begins.
pub fn streamed() -> Vec<BadRequest> {
    let rest = r#""stream":true"#;
    let bodies = [
        (r#""max_tokens":0"#, "invalid_field"),
        (r#""max_tokens":1,"temprature":1"#, "invalid_field"),
        (r#""max_tokens":100000000"#, "context_length_exceeded"),
    ];
    bodies
        .map(|(wrong, code)| {
            let body = format!(r#"{{"prompt":"Hello",{wrong},{rest}}}"#);
            BadRequest::new(
                format!("a stream with {wrong}"),
                POST.body(body.as_bytes()),
                422,
                code,
            )
        })
        .to_vec()
}

/// Values at the edge, which have to be taken: the request's name and its bytes.
pub fn to_take() -> Vec<(String, Vec<u8>)> {
    let of_field = |field: &'static Field| {
        let values = field.right_values().into_iter();
        values.map(|value| {
            let body = with(field.name, &[&value]);
            (name_of(field, &value), POST.body(body.as_bytes()))
        })
    };
    FIELDS.iter().flat_map(of_field).collect()
}

/// One request with its integers in every spelling that JSON Schema calls equal.
pub fn spellings() -> Vec<(String, Vec<u8>)> {
    let spelled = |number: &str| {
        let body = format!(
            r#"{{"prompt":"Hello","temperature":1,"max_tokens":{number},"seed":{number},"top_k":{number}}}"#
        );
        (format!("integers as {number}"), POST.body(body.as_bytes()))
    };
    ["10", "10.0", "1e1", "1.0e+1", "100e-1"]
        .map(spelled)
        .to_vec()
}

/// Prompt and max_tokens that are beyond every context there is.
pub fn beyond_context() -> Vec<BadRequest> {
    [100_000_000u32, 2_000_000_000]
        .map(|max_tokens| {
            let body = with("max_tokens", &[&max_tokens.to_string()]);
            let name = format!("max_tokens {max_tokens}");
            BadRequest {
                got: vec![max_tokens.to_string(), String::from("token")],
                allowed: &["context", "up to", "at most", "allowed", "limit"],
                ..BadRequest::new(
                    name,
                    POST.body(body.as_bytes()),
                    422,
                    "context_length_exceeded",
                )
            }
        })
        .to_vec()
}

fn wrong(field: &Field, value: &str) -> BadRequest {
    BadRequest {
        field: Some(field.name),
        got: words_for(&value_of(value)),
        allowed: field.allowed,
        ..refused(name_of(field, value), &with(field.name, &[value]))
    }
}

fn twice(field: &Field, value: &str) -> BadRequest {
    let name = format!("{} given twice", field.name);
    BadRequest {
        field: Some(field.name),
        got: ["twice", "duplicate", "once", "again"]
            .map(String::from)
            .to_vec(),
        allowed: &["once", "twice", "duplicate"],
        ..refused(name, &with(field.name, &[value, value]))
    }
}

fn unknown(field: &'static str) -> BadRequest {
    BadRequest {
        field: Some(field),
        got: vec![field.to_owned()],
        allowed: &["max_tokens", "allowed", "known", "expected"],
        ..refused(format!("an unknown field `{field}`"), &with(field, &["1"]))
    }
}

fn missing_prompt(name: &str, body: Value) -> BadRequest {
    let absent = [
        "missing",
        "required",
        "no prompt",
        "none",
        "nothing",
        "absent",
    ];
    BadRequest {
        field: Some("prompt"),
        got: absent.map(String::from).to_vec(),
        allowed: &["prompt"],
        ..refused(name.to_owned(), &body.to_string())
    }
}

fn refused(name: String, body: &str) -> BadRequest {
    BadRequest::new(name, POST.body(body.as_bytes()), 422, "invalid_field")
}

/// A small good request but for this field, which has each of these values, as spelled.
fn with(field: &str, values: &[&str]) -> String {
    let good = [("prompt", "\"Hello\""), ("max_tokens", "1")];
    let rest = good.iter().filter(|(name, _)| *name != field).copied();
    let all = rest.chain(values.iter().map(|value| (field, *value)));
    let pairs: Vec<_> = all
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// So many stop strings that no model says.
fn strings(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("\u{1}{number}\u{1}"))
        .collect()
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

fn value_of(spelled: &str) -> Value {
    serde_json::from_str(spelled).unwrap_or_default()
}

fn name_of(field: &Field, value: &str) -> String {
    let shown = match value_of(value) {
        Value::Array(items) if items.len() > 3 => format!("with {} strings", items.len()),
        _ => value.to_owned(),
    };
    format!("{} {shown}", field.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_meets_every_type_and_both_sides_of_its_bounds() {
        let wrong = |name: &str| {
            let field = FIELDS.iter().find(|field| field.name == name).unwrap();
            field.wrong_values()
        };
        for field in &FIELDS {
            let values = field.wrong_values();
            assert!(values.contains(&String::from("null")), "{}", field.name);
            assert!(values.contains(&String::from("{}")), "{}", field.name);
            for value in values.iter().chain(&field.right_values()) {
                let spelled = format!("[{value}]");
                assert!(serde_json::from_str::<Value>(&spelled).is_ok(), "{value}");
            }
        }
        for (name, value) in [
            ("top_p", "0"),
            ("top_k", "0"),
            ("top_k", "-1"),
            ("seed", "-1"),
            ("seed", "18446744073709551616"),
            ("stop", "\"\""),
            ("max_tokens", "0"),
            ("stream", "1"),
        ] {
            assert!(wrong(name).contains(&value.to_owned()), "{name} {value}");
        }
    }

    #[test]
    fn a_request_has_the_field_as_it_is_spelled_and_as_often() {
        assert_eq!(
            with("seed", &["1e0"]),
            r#"{"prompt":"Hello","max_tokens":1,"seed":1e0}"#
        );
        assert_eq!(
            with("prompt", &["1", "2"]),
            r#"{"max_tokens":1,"prompt":1,"prompt":2}"#
        );
    }
}
