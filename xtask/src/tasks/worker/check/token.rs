//! A worker with a token: who comes in, and that nobody reads the token in its log.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::read_refusal;
use crate::tasks::worker::target::token::TokenObservation;

/// A worker with a token.
pub const CHECKS: &[Check] = &[
    Check::contract("token.required", required)
        .promise("refuses every request without its token")
        .quote("no or wrong token where one is needed: 401, with `WWW-Authenticate: Bearer` `unauthorized`.")
        .explanation("Health, ready and inference of an open worker without a token, with half of it, more than it, another one, another scheme; anything but 401 fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health -H 'Authorization: Bearer nonsense'")
        .needs(&[Need::Ready]),
    Check::contract("token.accepted", accepted)
        .promise("serves those who have its token")
        .quote("Whenever the variable is set, on loopback too, every request must carry `Authorization: Bearer TOKEN`; health and paths that don't exist are no exceptions.")
        .explanation("Health, ready and inference with the right token, before and after wrong ones; a refusal fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/health -H "Authorization: Bearer $WORKER_API_TOKEN""#)
        .needs(&[Need::Ready]),
    Check::contract("token.never_logged", never_logged)
        .promise("never writes its token into its log")
        .quote("The comparison takes constant time and the token is never logged.")
        .explanation("A line of the log with the token in it fails it.")
        .by_hand("WORKER_API_TOKEN=secret llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cpu --device 0 --port 18081 --hive-url http://127.0.0.1:19200 --host 0.0.0.0")
        .needs(&[Need::Ready]),
];

fn observed<'s>(subject: &'s Subject) -> Result<&'s TokenObservation> {
    subject.seen.token.get(|| TokenObservation::make(subject))
}

fn required(subject: &Subject) -> Result<Evidence> {
    let token = observed(subject)?;
    for (how, response) in &token.without_token {
        read_refusal(response, 401, "unauthorized").map_err(|mismatch| Mismatch {
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
