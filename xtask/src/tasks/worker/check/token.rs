//! A worker with a token: who comes in, and that nobody reads the token in its log.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::net::client::{Client, Request, Response};
use crate::tasks::worker::record::event::{Mismatch, Unmet};
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::dialect::{Dialect, InferenceRequest, Promise, Reason};

/// A worker with a token.
pub const CHECKS: &[Check] = &[
    Check::contract_apart("token.required", required)
        .promise("refuses every request without its token")
        .holds(&["S18", "S19", "S20", "E6"])
        .explanation("Sends health, ready and inference without the token, with part of it, with extra characters, with another token and with another scheme; fails on anything but 401.")
        .by_hand(|by| by.health("-i -H 'Authorization: Bearer nonsense'"))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("token.accepted", accepted)
        .promise("serves requests with its token")
        .holds(&["S18"])
        .explanation("Sends health, ready and inference with the right token, before and after wrong ones; fails if one is refused.")
        .by_hand(|by| by.health("-i -H \"Authorization: Bearer $WORKER_API_TOKEN\""))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::contract_apart("token.never_logged", never_logged)
        .promise("never logs its token")
        .holds(&["S22"])
        .explanation("Fails if a line of the log contains the token.")
        .by_hand(|by| String::from("WORKER_API_TOKEN=secret ") + &by.worker(&[("--host", "0.0.0.0")]))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
];

fn observed<'s>(auxiliaries: &'s Auxiliaries) -> Result<&'s TokenObservation> {
    auxiliaries
        .observations
        .of(|| TokenObservation::make(auxiliaries))
}

fn required(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let token = observed(auxiliaries)?;
    for (how, response) in &token.without_token {
        let refused = auxiliaries
            .dialect()
            .read_refusal(response, Reason::Unauthorized);
        refused.map_err(|mismatch| Mismatch {
            place: format!("{} with {how}", mismatch.place),
            ..mismatch
        })?;
    }
    Ok(format!("{} requests", token.without_token.len()))
}

fn accepted(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let token = observed(auxiliaries)?;
    for response in &token.with_token {
        let place = format!("{} with the token", response.request);
        ensure_kept(
            response.status == 200,
            &place,
            "status 200",
            response.status.to_string(),
        )?;
    }
    token.is_heard.clone()?;
    Ok(format!("{} requests", token.with_token.len()))
}

fn never_logged(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let token = observed(auxiliaries)?;
    let place = "log of a worker with a token";
    if let Some(line) = token.log_lines_with_token.first() {
        return Err(Mismatch::new(place, "no line with the token", format!("`{line}`")).into());
    }
    Ok(format!("{} lines", token.log_lines))
}

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The token. Nothing that a log would contain by chance.
const TOKEN: &str = "s3cr3t-T0ken-7f1d9a2b4c";

/// What was seen.
#[derive(Debug)]
struct TokenObservation {
    /// Requests with the right token.
    with_token: Vec<Response>,
    /// Requests without, or with a wrong one: how it was wrong, and the answer.
    without_token: Vec<(&'static str, Response)>,
    /// Whether an inference was among them.
    is_heard: Result<(), Unmet>,
    /// Lines of the log that contain the token, with the token made harmless.
    log_lines_with_token: Vec<String>,
    /// How many lines the log has.
    log_lines: usize,
}

impl TokenObservation {
    /// Starts a worker of its own, and knocks at its door with all sorts of keys.
    fn make(auxiliaries: &Auxiliaries) -> Result<TokenObservation> {
        let mut auxiliary = auxiliaries.start("token", |launch| {
            launch.token = Some(TOKEN.to_owned());
            launch.set(&[("--host", "0.0.0.0")]);
        })?;
        auxiliary.wait_until_ready()?;
        let client = |authorization: Option<String>| {
            auxiliary.worker.client().clone().with_header(authorization)
        };
        let dialect = auxiliary.worker.dialect();
        let is_heard = auxiliary.worker.line().silence.ensure_heard();
        let requests = requests(dialect, is_heard.is_ok());
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
        // What isn't there isn't told to strangers either.
        let unknown = Request {
            path: String::from("/v1/nothing"),
            ..dialect.health_request()
        };
        without_token.push(("no token", send(&client(None), &unknown)?));
        let with_token_again = send(&right, &requests[requests.len() - 1])?;
        without_token.extend(Self::on_loopback(auxiliaries)?);
        let lines = auxiliary.worker.log().tail(usize::MAX);
        Ok(TokenObservation {
            with_token: with_token.into_iter().chain([with_token_again]).collect(),
            without_token,
            is_heard,
            log_lines: lines.len(),
            log_lines_with_token: lines
                .iter()
                .filter(|line| line.contains(TOKEN))
                .map(|line| line.replace(TOKEN, "[the token]"))
                .collect(),
        })
    }

    /// A worker that listens on loopback alone: whoever has an account on the machine is a stranger.
    fn on_loopback(auxiliaries: &Auxiliaries) -> Result<Vec<(&'static str, Response)>> {
        let mut auxiliary = auxiliaries.start("token-loopback", |launch| {
            launch.token = Some(TOKEN.to_owned());
        })?;
        auxiliary.wait_until_ready()?;
        let stranger = auxiliary.worker.client().clone().with_header(None);
        let send = |request: &Request| {
            let sent = stranger.send(request, LIMIT);
            let response = sent.map_err(|error| auxiliary.worker.blame(error))?;
            Ok(("no token, on loopback", response))
        };
        requests(auxiliary.worker.dialect(), true)
            .iter()
            .map(send)
            .collect()
    }
}

/// One of each kind; the inference only where an answer may come.
fn requests(dialect: &dyn Dialect, is_heard: bool) -> Vec<Request> {
    let inference = dialect.inference_request(&InferenceRequest::greedy("Hello", 1), false);
    let questions = [dialect.health_request(), dialect.ready_request()];
    questions
        .into_iter()
        .chain(is_heard.then_some(inference))
        .collect()
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
