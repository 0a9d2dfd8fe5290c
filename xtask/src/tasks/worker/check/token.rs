//! A worker with a token: who comes in, and that nobody reads the token in its log.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Promise, Reason};
use crate::tasks::worker::target::token::TokenObservation;

/// A worker with a token.
pub const CHECKS: &[Check] = &[
    Check::contract("token.required", required)
        .promise("refuses every request without its token")
        .quote("no or wrong token where one is needed: 401, with `WWW-Authenticate: Bearer` `unauthorized`.")
        .explanation("Sends health, ready and inference without the token, with part of it, with more than it, with another one and another scheme; fails on anything but 401.")
        .by_hand(|by| by.health("-i -H 'Authorization: Bearer nonsense'"))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::contract("token.accepted", accepted)
        .promise("serves requests with its token")
        .quote("Whenever the variable is set, on loopback too, every request must carry `Authorization: Bearer TOKEN`; health and paths that don't exist are no exceptions.")
        .explanation("Sends health, ready and inference with the right token, before and after wrong ones; fails if one is refused.")
        .by_hand(|by| by.health("-i -H \"Authorization: Bearer $WORKER_API_TOKEN\""))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::contract("token.never_logged", never_logged)
        .promise("never logs its token")
        .quote("The comparison takes constant time and the token is never logged.")
        .explanation("Fails if a line of the log contains the token.")
        .by_hand(|by| String::from("WORKER_API_TOKEN=secret ") + &by.worker(&[("--host", "0.0.0.0")]))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
];

fn observed<'s>(subject: &'s Subject) -> Result<&'s TokenObservation> {
    subject.seen.token.get(|| TokenObservation::make(subject))
}

fn required(subject: &Subject) -> Result<Evidence> {
    let token = observed(subject)?;
    for (how, response) in &token.without_token {
        let refused = subject
            .dialect()
            .read_refusal(response, Reason::Unauthorized);
        refused.map_err(|mismatch| Mismatch {
            place: format!("{} with {how}", mismatch.place),
            ..mismatch
        })?;
    }
    Ok(format!("{} requests", token.without_token.len()))
}

fn accepted(subject: &Subject) -> Result<Evidence> {
    let token = observed(subject)?;
    for response in &token.with_token {
        let place = format!("{} with the token", response.request);
        ensure_kept(
            response.status == 200,
            &place,
            "status 200",
            response.status.to_string(),
        )?;
    }
    Ok(format!("{} requests", token.with_token.len()))
}

fn never_logged(subject: &Subject) -> Result<Evidence> {
    let token = observed(subject)?;
    let place = "log of a worker with a token";
    if let Some(line) = token.log_lines_with_token.first() {
        return Err(Mismatch::new(place, "no line with the token", format!("`{line}`")).into());
    }
    Ok(format!("{} lines", token.log_lines))
}
