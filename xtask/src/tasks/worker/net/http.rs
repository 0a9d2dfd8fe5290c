//! Requests and answers as values: what a client sends, byte for byte, and what it gets.

use std::time::Instant;

use crate::tasks::worker::record::event::Mismatch;

/// The largest answer that is read; whatever is beyond it is a broken promise anyway.
pub const ANSWER_BYTES: usize = 64 << 20;

/// Who we are, to the worker's logs.
pub const USER_AGENT: &str = "cargo-xtask-worker-test";

/// A request, as the dialect spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with its leading slash.
    pub path: String,
    /// Its `Authorization`, where the protocol wants one.
    pub authorization: Option<String>,
    /// The content type and the body, where there is one.
    pub body: Option<(&'static str, Vec<u8>)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// "GET /v1/health", for messages.
    pub request: String,
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, in the order of their arrival.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Just before the request's first byte was written on a connected socket: t0.
    pub sent: Instant,
    /// When the body was complete.
    pub received: Instant,
}

/// No answer, or not a whole one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    /// "GET /v1/health", for messages.
    pub request: String,
    /// "connection refused", "nothing within 2 s".
    pub cause: String,
}

impl Request {
    /// "GET /v1/health", for messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The headers of a well-behaved client of this loopback port, names in lower case.
    pub fn headers(&self, port: u16) -> Vec<(String, String)> {
        let mut headers = vec![
            (String::from("host"), format!("127.0.0.1:{port}")),
            (String::from("user-agent"), USER_AGENT.to_owned()),
            (String::from("accept"), String::from("*/*")),
        ];
        if let Some(authorization) = &self.authorization {
            headers.push((String::from("authorization"), authorization.clone()));
        }
        if let Some((content_type, body)) = &self.body {
            headers.push((String::from("content-type"), (*content_type).to_owned()));
            headers.push((String::from("content-length"), body.len().to_string()));
        }
        headers
    }

    /// The request's bytes, with the headers of [`Request::headers`].
    pub fn to_bytes(&self, port: u16) -> Vec<u8> {
        self.with_headers(&self.headers(port))
    }

    /// The same for a request whose answer ends with its connection.
    pub fn to_closing_bytes(&self, port: u16) -> Vec<u8> {
        let mut headers = self.headers(port);
        headers.push((String::from("connection"), String::from("close")));
        self.with_headers(&headers)
    }

    fn with_headers(&self, headers: &[(String, String)]) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let body = self.body.as_ref().map(|(_, body)| body.as_slice());
        [head.as_bytes(), body.unwrap_or_default()].concat()
    }
}

impl Response {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Whether a content type is this one, in whatever case and with whatever parameters.
pub fn is_media_type(content_type: &str, expected: &str) -> bool {
    let bare = content_type.split(';').next().unwrap_or_default();
    bare.trim().eq_ignore_ascii_case(expected)
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.request, self.cause)
    }
}

impl std::error::Error for NoAnswer {}

impl NoAnswer {
    /// The broken promise that it is.
    pub fn mismatch(self) -> Mismatch {
        Mismatch::new(self.request, "an answer", self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_spelled_with_its_headers_and_its_body() {
        let request = Request {
            method: "POST",
            path: String::from("/x"),
            authorization: Some(String::from("Bearer k")),
            body: Some(("text/plain", b"hello".to_vec())),
        };
        let bytes = String::from_utf8(request.to_closing_bytes(7)).unwrap();
        assert_eq!(
            bytes,
            "POST /x HTTP/1.1\r\nhost: 127.0.0.1:7\r\nuser-agent: cargo-xtask-worker-test\r\n\
             accept: */*\r\nauthorization: Bearer k\r\ncontent-type: text/plain\r\ncontent-length: 5\r\nconnection: close\r\n\
             \r\nhello"
        );
    }

    #[test]
    fn media_types_may_be_spelt_in_any_case_and_with_parameters() {
        for right in [
            "application/json",
            "Application/JSON",
            "application/json ; charset=utf-8",
        ] {
            assert!(is_media_type(right, "application/json"), "{right}");
        }
        for wrong in ["application/jsonp", "text/json", "", "no content type"] {
            assert!(!is_media_type(wrong, "application/json"), "{wrong}");
        }
    }
}
