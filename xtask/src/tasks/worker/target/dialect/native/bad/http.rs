//! Paths that aren't there, and methods that a path lacks.

use super::post::POST;
use crate::tasks::worker::target::dialect::bodies::GOOD;
use crate::tasks::worker::target::dialect::post::Post;
use crate::tasks::worker::target::dialect::protocol::BadRequest;

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
        ("DELETE", "/v1/nothing"),
    ];
    let bad = |(method, path): (&str, &str)| {
        let name = format!("{method} {path}");
        BadRequest::new(name, POST.bare(method, path), 404, "not_found")
    };
    paths.map(bad).to_vec()
}

/// Requests with a method that the path lacks.
pub fn wrong_methods() -> Vec<BadRequest> {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let bad = |method, (path, right): (&str, &'static str)| BadRequest {
        allow: Some(right),
        has_any_body: method == "HEAD",
        ..BadRequest::new(
            format!("{method} {path}"),
            POST.bare(method, path),
            405,
            "method_not_allowed",
        )
    };
    let of_path = |&(path, right): &(&str, &'static str)| {
        let wrong = methods.into_iter().filter(|method| *method != right);
        let all: Vec<BadRequest> = wrong.map(|method| bad(method, (path, right))).collect();
        all
    };
    PATHS.iter().flat_map(of_path).collect()
}

/// Requests for a host that isn't this machine, as a page sends them whose name was pointed here.
pub fn foreign_hosts() -> Vec<BadRequest> {
    const HOSTS: [&str; 4] = [
        "evil.example",
        "evil.example:18081",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ];
    let bad = |(host, (path, method)): (&str, (&str, &str))| {
        let request = match method {
            "POST" => POST.body(GOOD),
            _ => POST.bare(method, path),
        };
        let bytes = Post::with_hosts(&request, &format!("Host: {host}\r\n"));
        let name = format!("{method} {path} for {host}");
        BadRequest::new(name, bytes, 403, "forbidden_host")
    };
    let each = HOSTS
        .iter()
        .flat_map(|host| PATHS.map(|path| (*host, path)));
    each.map(bad).collect()
}
