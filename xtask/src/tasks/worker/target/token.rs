//! A worker that is open to other machines and has a token: what it says with and without it.

use std::time::Duration;

use anyhow::Result;

use super::Subject;
use super::dialect;
use super::dialect::InferenceRequest;
use crate::tasks::worker::net::client::{Client, Request, Response};

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The token. Nothing that a log would contain by chance.
const TOKEN: &str = "s3cr3t-T0ken-7f1d9a2b4c";

/// What was seen.
#[derive(Debug)]
pub struct TokenObservation {
    /// Requests with the right token.
    pub with_token: Vec<Response>,
    /// Requests without, or with a wrong one: how it was wrong, and the answer.
    pub without_token: Vec<(&'static str, Response)>,
    /// Lines of the log that contain the token, with the token made harmless.
    pub log_lines_with_token: Vec<String>,
    /// How many lines the log has.
    pub log_lines: usize,
}

impl TokenObservation {
    /// Starts a worker of its own, and knocks at its door with all sorts of keys.
    pub fn make(subject: &Subject) -> Result<TokenObservation> {
        let mut auxiliary = subject.auxiliary("token", |launch| {
            launch.token = Some(TOKEN.to_owned());
            launch.more = vec![String::from("--host"), String::from("0.0.0.0")];
        })?;
        auxiliary.wait_until_ready()?;
        let client =
            |authorization: Option<String>| auxiliary.client().clone().with_header(authorization);
        let requests = [
            dialect::health_request(),
            dialect::ready_request(),
            InferenceRequest::greedy("Hello", 1).to_request(false),
        ];
        let send = |client: &Client, request: &Request| {
            let sent = client.send(request, LIMIT);
            sent.map_err(|error| auxiliary.worker.blame(error))
        };
        let right = client(Some(format!("Bearer {TOKEN}")));
        let with_token = requests.iter().map(|request| send(&right, request));
        let with_token = with_token.collect::<Result<Vec<_>>>()?;
        let mut without_token = Vec::new();
        for (how, authorization) in wrong_keys() {
            let wrong = client(authorization);
            for request in &requests {
                without_token.push((how, send(&wrong, request)?));
            }
        }
        let with_token_again = send(&right, &requests[2])?;
        let lines = auxiliary.worker.log().tail(usize::MAX);
        Ok(TokenObservation {
            with_token: with_token.into_iter().chain([with_token_again]).collect(),
            without_token,
            log_lines: lines.len(),
            log_lines_with_token: lines
                .iter()
                .filter(|line| line.contains(TOKEN))
                .map(|line| line.replace(TOKEN, "[the token]"))
                .collect(),
        })
    }
}

/// Ways to come without the right token.
fn wrong_keys() -> [(&'static str, Option<String>); 7] {
    let half = &TOKEN[..TOKEN.len() / 2];
    [
        ("no token", None),
        ("a wrong token", Some(String::from("Bearer nonsense"))),
        ("an empty token", Some(String::from("Bearer "))),
        ("half of the token", Some(format!("Bearer {half}"))),
        ("more than the token", Some(format!("Bearer {TOKEN}x"))),
        (
            "the token in another case",
            Some(format!("Bearer {}", TOKEN.to_uppercase())),
        ),
        ("another scheme", Some(format!("Basic {TOKEN}"))),
    ]
}
