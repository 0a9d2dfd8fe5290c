//! A request for an inference, byte by byte.

use crate::tasks::worker::target::dialect::native::inference::PATH;

/// The largest body that a worker takes.
pub const BODY_LIMIT_BYTES: usize = 1 << 20;

pub fn post(body: &[u8]) -> Vec<u8> {
    post_as(Some("application/json"), body)
}

pub fn post_as(content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}\r\n", body.len());
    post_framed(content_type, &length, body)
}

/// The same, with whatever is to say where the body ends.
pub fn post_framed(content_type: Option<&str>, framing: &str, body: &[u8]) -> Vec<u8> {
    let content_type =
        content_type.map_or(String::new(), |kind| format!("Content-Type: {kind}\r\n"));
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{content_type}{framing}\r\n"
    );
    [head.as_bytes(), body].concat()
}
