//! Bodies that aren't JSON, are too large, lie about their length, or are merely absurd.

use super::post::{BODY_LIMIT_BYTES, post, post_as, post_framed};
use crate::tasks::worker::target::dialect::protocol::BadRequest;

/// A good request, short enough for everything.
const GOOD: &[u8] = br#"{"prompt":"Hello","max_tokens":1,"temperature":0}"#;

/// The depth that ends parsers which recurse without a limit.
const DEEP: usize = 100_000;

/// Bodies that aren't JSON.
pub fn malformed() -> Vec<BadRequest> {
    let bodies: [(&str, &[u8]); 18] = [
        ("an empty body", b""),
        ("a body of spaces", b"   \r\n\t "),
        ("a word", b"hello"),
        ("a cut object", br#"{"prompt":"Hello""#),
        ("a cut string", br#"{"prompt":"Hel"#),
        ("a cut key", br#"{"pro"#),
        ("a comma too many", br#"{"prompt":"Hello",}"#),
        ("single quotes", b"{'prompt':'Hello'}"),
        ("a key without quotes", br#"{prompt:"Hello"}"#),
        (
            "something after the object",
            br#"{"prompt":"Hello","max_tokens":1} {"#,
        ),
        (
            "two objects",
            br#"{"prompt":"Hello","max_tokens":1}{"prompt":"Hello"}"#,
        ),
        (
            "NaN",
            br#"{"prompt":"Hello","max_tokens":1,"temperature":NaN}"#,
        ),
        (
            "Infinity",
            br#"{"prompt":"Hello","max_tokens":1,"temperature":Infinity}"#,
        ),
        (
            "a number with a leading zero",
            br#"{"prompt":"Hello","max_tokens":01}"#,
        ),
        (
            "invalid UTF-8",
            b"{\"prompt\":\"Hel\xff\xfelo\",\"max_tokens\":1}",
        ),
        (
            "UTF-8 cut in a character",
            b"{\"prompt\":\"caf\xc3\",\"max_tokens\":1}",
        ),
        (
            "a NUL in a string",
            b"{\"prompt\":\"Hel\0lo\",\"max_tokens\":1}",
        ),
        (
            "a line feed in a string",
            b"{\"prompt\":\"Hel\nlo\",\"max_tokens\":1}",
        ),
    ];
    bodies
        .map(|(name, body)| BadRequest::new(name, post(body), 400, "malformed_json"))
        .to_vec()
}

/// A good body under a wrong name, or under none.
pub fn media_types() -> Vec<BadRequest> {
    let kinds = [
        None,
        Some("text/plain"),
        Some("text/json5"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/octet-stream"),
        Some("application/jsonp"),
        Some("json"),
    ];
    kinds
        .map(|kind| BadRequest {
            got: kind.map(str::to_owned).into_iter().collect(),
            allowed: &["application/json"],
            ..BadRequest::new(
                format!("content type {}", kind.unwrap_or("missing")),
                post_as(kind, GOOD),
                415,
                "unsupported_media_type",
            )
        })
        .to_vec()
}

/// Bodies beyond the limit.
pub fn too_large() -> Vec<BadRequest> {
    let large = |name: &str, bytes| BadRequest {
        allowed: &["1048576", "1 MiB", "1MiB", "limit", "bytes"],
        ..BadRequest::new(name, bytes, 413, "body_too_large")
    };
    let filled = |length| padded(length);
    vec![
        large(
            "a body of 1 MiB and a byte",
            post(&filled(BODY_LIMIT_BYTES + 1)),
        ),
        large("a body of 2 MiB", post(&filled(2 * BODY_LIMIT_BYTES))),
        large(
            "a long prompt of 1 MiB",
            post(format!(r#"{{"prompt":"{}"}}"#, "a".repeat(BODY_LIMIT_BYTES)).as_bytes()),
        ),
        large(
            "a body of 1 MiB and a byte in chunks",
            chunked(&filled(BODY_LIMIT_BYTES + 1), 65_536),
        ),
    ]
}

/// Bodies that have to be taken: chunked ones, the largest, and a content type with a parameter.
pub fn to_take() -> Vec<(String, Vec<u8>)> {
    let bodies = [
        ("a body in one chunk", chunked(GOOD, GOOD.len())),
        ("a body in chunks of a byte", chunked(GOOD, 1)),
        ("a body of exactly 1 MiB", post(&padded(BODY_LIMIT_BYTES))),
        (
            "a body of exactly 1 MiB in chunks",
            chunked(&padded(BODY_LIMIT_BYTES), 65_536),
        ),
        (
            "content type application/json; charset=utf-8",
            post_as(Some("application/json; charset=utf-8"), GOOD),
        ),
        (
            "content type application/json; charset=utf8",
            post_as(Some("application/json; charset=utf8"), GOOD),
        ),
    ];
    bodies
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .to_vec()
}

/// What is JSON, or nearly, and what no client sends: any orderly refusal is right.
pub fn absurd() -> Vec<BadRequest> {
    let digits = "9".repeat(1000);
    let bodies: Vec<(&str, String, bool)> = vec![
        (
            "deep nesting",
            format!(r#"{{"prompt":{}{}}}"#, "[".repeat(DEEP), "]".repeat(DEEP)),
            false,
        ),
        (
            "deep nesting of objects",
            r#"{"prompt":"#.repeat(DEEP),
            false,
        ),
        (
            "deep nesting in an unknown field",
            format!(
                r#"{{"prompt":"Hello","x":{}1{}}}"#,
                r#"{"x":"#.repeat(DEEP / 2),
                "}".repeat(DEEP / 2)
            ),
            false,
        ),
        (
            "a thousand digits",
            format!(r#"{{"prompt":"Hello","max_tokens":{digits}}}"#),
            false,
        ),
        (
            "a thousand digits below zero",
            format!(r#"{{"prompt":"Hello","max_tokens":-{digits}}}"#),
            false,
        ),
        (
            "max_tokens 1e400",
            String::from(r#"{"prompt":"Hello","max_tokens":1e400}"#),
            false,
        ),
        (
            "max_tokens 2^32",
            String::from(r#"{"prompt":"Hello","max_tokens":4294967296}"#),
            false,
        ),
        (
            "max_tokens 2^63",
            String::from(r#"{"prompt":"Hello","max_tokens":9223372036854775808}"#),
            false,
        ),
        (
            "temperature 1e400",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"temperature":1e400}"#),
            false,
        ),
        (
            "temperature of a thousand digits",
            format!(r#"{{"prompt":"Hello","max_tokens":1,"temperature":{digits}}}"#),
            false,
        ),
        (
            "max_tokens twice",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"max_tokens":2}"#),
            false,
        ),
        (
            "prompt twice",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"prompt":"Bye"}"#),
            false,
        ),
        (
            "a seed of 2^64",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"seed":18446744073709551616}"#),
            true,
        ),
        (
            "a lone surrogate",
            String::from(r#"{"prompt":"Hel\ud800lo","max_tokens":1}"#),
            false,
        ),
        (
            "surrogates in the wrong order",
            String::from(r#"{"prompt":"\udc00\ud800","max_tokens":1}"#),
            false,
        ),
        (
            "an escaped NUL",
            String::from(r#"{"prompt":"Hel\u0000lo","max_tokens":1}"#),
            true,
        ),
        (
            "a prompt of spaces",
            String::from(r#"{"prompt":"   ","max_tokens":1}"#),
            true,
        ),
        (
            "an empty stop string",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"stop":""}"#),
            true,
        ),
        (
            "an array for an object",
            String::from(r#"[{"prompt":"Hello"}]"#),
            false,
        ),
        ("a string for an object", String::from(r#""Hello""#), false),
        ("a number for an object", String::from("5"), false),
        ("null for an object", String::from("null"), false),
        ("a thousand unknown fields", many_fields(), false),
    ];
    let bad = |(name, body, may_be_taken): (&str, String, bool)| BadRequest {
        right: vec![
            (400, "malformed_json"),
            (422, "invalid_field"),
            (422, "context_length_exceeded"),
        ],
        may_be_taken,
        ..BadRequest::new(name, post(body.as_bytes()), 400, "malformed_json")
    };
    bodies.into_iter().map(bad).collect()
}

/// A good request whose head names these hosts.
fn with_hosts(hosts: &str) -> Vec<u8> {
    let request = String::from_utf8_lossy(&post(GOOD)).into_owned();
    request
        .replacen("Host: 127.0.0.1\r\n", hosts, 1)
        .into_bytes()
}

/// Bodies whose length is missing or wrong, and chunks that aren't: whoever is lied to may hang up,
/// or answer whatever says that the client is to blame.
pub fn framing() -> Vec<(&'static str, Vec<u8>)> {
    let json = Some("application/json");
    vec![
        ("no Host", with_hosts("")),
        (
            "two Hosts",
            with_hosts("Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n"),
        ),
        (
            "two different Hosts",
            with_hosts("Host: 127.0.0.1\r\nHost: localhost\r\n"),
        ),
        ("no Content-Length", post_framed(json, "", GOOD)),
        (
            "a Content-Length that is no number",
            post_framed(json, "Content-Length: many\r\n", GOOD),
        ),
        (
            "a negative Content-Length",
            post_framed(json, "Content-Length: -5\r\n", GOOD),
        ),
        (
            "a Content-Length beyond every number",
            post_framed(json, "Content-Length: 99999999999999999999999\r\n", GOOD),
        ),
        (
            "two Content-Lengths",
            post_framed(json, "Content-Length: 5\r\nContent-Length: 49\r\n", GOOD),
        ),
        (
            "a Content-Length that is too short",
            post_framed(json, "Content-Length: 20\r\n", GOOD),
        ),
        (
            "a chunk size that is no number",
            post_framed(
                json,
                "Transfer-Encoding: chunked\r\n",
                b"zz\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk longer than its size",
            post_framed(
                json,
                "Transfer-Encoding: chunked\r\n",
                b"2\r\n{\"prompt\":\"x\"}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk beyond every number",
            post_framed(
                json,
                "Transfer-Encoding: chunked\r\n",
                b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        ("no HTTP", b"hello worker\r\n\r\n".to_vec()),
        (
            "binary noise",
            vec![
                0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 13, 10, 13, 10,
            ],
        ),
    ]
}

/// A good request of which only half the body ever comes.
pub fn half_a_request() -> Vec<u8> {
    let whole = post(GOOD);
    whole[..whole.len() - GOOD.len() / 2].to_vec()
}

fn many_fields() -> String {
    let fields: Vec<String> = (0..1000)
        .map(|number| format!(r#""x{number}":{number}"#))
        .collect();
    format!(r#"{{"prompt":"Hello",{}}}"#, fields.join(","))
}

/// The good request, made longer by spaces.
fn padded(length: usize) -> Vec<u8> {
    let mut body = GOOD.to_vec();
    body.resize(length, b' ');
    body
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in body.chunks(size) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    post_framed(
        Some("application/json"),
        "Transfer-Encoding: chunked\r\n",
        &coded,
    )
}
