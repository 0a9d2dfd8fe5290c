//! Bodies that aren't JSON, are too large or absurd, and how the contract refuses them.

use super::post::{BODY_LIMIT_BYTES, POST};
use crate::tasks::worker::target::dialect::bodies::{self, GOOD};
use crate::tasks::worker::target::dialect::post::Post;
use crate::tasks::worker::target::dialect::protocol::BadRequest;

/// Bodies that aren't JSON.
pub fn malformed() -> Vec<BadRequest> {
    let bad =
        |(name, body): (&str, &[u8])| BadRequest::new(name, POST.body(body), 400, "malformed_json");
    bodies::MALFORMED.map(bad).to_vec()
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
                POST.typed(kind, GOOD),
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
            POST.body(&filled(BODY_LIMIT_BYTES + 1)),
        ),
        large("a body of 2 MiB", POST.body(&filled(2 * BODY_LIMIT_BYTES))),
        large(
            "a long prompt of 1 MiB",
            POST.body(format!(r#"{{"prompt":"{}"}}"#, "a".repeat(BODY_LIMIT_BYTES)).as_bytes()),
        ),
        large(
            "a body of 1 MiB and a byte in chunks",
            POST.chunked(&filled(BODY_LIMIT_BYTES + 1), 65_536),
        ),
    ]
}

/// Bodies that have to be taken: chunked ones, the largest, and a content type with a parameter.
pub fn to_take() -> Vec<(String, Vec<u8>)> {
    let bodies = [
        ("a body in one chunk", POST.chunked(GOOD, GOOD.len())),
        ("a body in chunks of a byte", POST.chunked(GOOD, 1)),
        (
            "a body of exactly 1 MiB",
            POST.body(&padded(BODY_LIMIT_BYTES)),
        ),
        (
            "a body of exactly 1 MiB in chunks",
            POST.chunked(&padded(BODY_LIMIT_BYTES), 65_536),
        ),
        (
            "content type application/json; charset=utf-8",
            POST.typed(Some("application/json; charset=utf-8"), GOOD),
        ),
        (
            "content type application/json; charset=utf8",
            POST.typed(Some("application/json; charset=utf8"), GOOD),
        ),
        (
            "host LocalHost with a port",
            with_hosts("Host: LocalHost:80\r\n"),
        ),
        ("host [::1]", with_hosts("Host: [::1]\r\n")),
    ];
    bodies
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .to_vec()
}

/// What is JSON, or nearly, and what no client sends: any orderly refusal is right.
pub fn absurd() -> Vec<BadRequest> {
    let bad = |(name, body, may_be_taken): (&str, String, bool)| BadRequest {
        right: vec![
            (400, "malformed_json"),
            (422, "invalid_field"),
            (422, "context_length_exceeded"),
        ],
        may_be_taken,
        ..BadRequest::new(name, POST.body(body.as_bytes()), 400, "malformed_json")
    };
    bodies::absurd().into_iter().map(bad).collect()
}

/// Framing that the contract refuses as every server of HTTP does, and hosts that name none or several.
pub fn framing() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("no Host", with_hosts("")),
        (
            "two Hosts",
            with_hosts("Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n"),
        ),
        (
            "two different Hosts",
            with_hosts("Host: 127.0.0.1\r\nHost: localhost\r\n"),
        ),
    ];
    all.extend(bodies::framing(&POST));
    all
}

/// A good request whose head names these hosts.
fn with_hosts(hosts: &str) -> Vec<u8> {
    Post::with_hosts(&POST.body(GOOD), hosts)
}

/// The good request, made longer by spaces.
fn padded(length: usize) -> Vec<u8> {
    let mut body = GOOD.to_vec();
    body.resize(length, b' ');
    body
}
