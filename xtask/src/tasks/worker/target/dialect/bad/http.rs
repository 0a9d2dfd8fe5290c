//! Paths that aren't there, and methods that a path lacks.

use super::BadRequest;

/// Each path with the method that it has.
const PATHS: [(&str, &str); 3] = [
    ("/v1/health", "GET"),
    ("/v1/ready", "GET"),
    ("/v1/inference", "POST"),
];

/// Requests to paths that the contract doesn't have.
pub fn unknown_paths() -> Vec<BadRequest> {
    let paths = [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v2/health"),
        ("GET", "/v1/nothing"),
        ("POST", "/v1/nothing"),
        ("GET", "/v1/health/more"),
        ("POST", "/v1/inference/more"),
        ("DELETE", "/v1/models"),
    ];
    let bad = |(method, path): (&str, &str)| {
        let name = format!("{method} {path}");
        BadRequest::new(name, spell(method, path), 404, "not_found")
    };
    paths.map(bad).to_vec()
}

/// Requests with a method that the path lacks, each with the method that `Allow` has to name.
pub fn wrong_methods() -> Vec<BadRequest> {
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let pairs = PATHS.iter().flat_map(|(path, right)| {
        let wrong = methods.iter().filter(move |method| *method != right);
        wrong.map(move |method| (*method, *path))
    });
    let bad = |(method, path)| {
        let name = format!("{method} {path}");
        BadRequest::new(name, spell(method, path), 405, "method_not_allowed")
    };
    pairs.map(bad).collect()
}

impl BadRequest {
    /// The method that the path of a wrong method has.
    pub fn method_to_allow(&self) -> Option<&'static str> {
        let path = self.name.split(' ').nth(1)?;
        let found = PATHS.iter().find(|(known, _)| *known == path)?;
        Some(found.1)
    }
}

fn spell(method: &str, path: &str) -> Vec<u8> {
    let length = match method {
        "GET" | "DELETE" => "",
        _ => "Content-Length: 0\r\n",
    };
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{length}\r\n")
        .into_bytes()
}
