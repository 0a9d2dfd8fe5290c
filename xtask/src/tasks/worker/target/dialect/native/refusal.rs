//! Refusals: the contract's error form.

use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::dialect::fields::Fields;
use crate::tasks::worker::target::dialect::protocol::{
    Reason, Refusal, expect_retry_after, expect_status,
};

/// Reads an answer that has to be this refusal. Where the caller is to come back, it says when.
pub fn read(response: &Response, reason: Reason) -> Result<Refusal, Mismatch> {
    let (status, code) = match reason {
        Reason::NotReady => (503, "not_ready"),
        Reason::QueueFull => (429, "queue_full"),
        Reason::ContextExceeded => (422, "context_length_exceeded"),
        Reason::Unauthorized => (401, "unauthorized"),
    };
    expect_status(response, &[status])?;
    let refusal = read_error(response)?;
    if refusal.code != code {
        let place = format!("{}, status {status}, `code`", response.request);
        return Err(Mismatch::new(place, code, refusal.code));
    }
    if [429, 503].contains(&status) {
        expect_retry_after(response)?;
    }
    if status == 401 {
        expect_challenge(response)?;
    }
    Ok(refusal)
}

/// Who lacks a token is told which.
fn expect_challenge(response: &Response) -> Result<(), Mismatch> {
    let challenge = response.header("www-authenticate").unwrap_or("none");
    let scheme = challenge.split([' ', ',']).next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(());
    }
    let place = format!("{}, `WWW-Authenticate`", response.request);
    Err(Mismatch::new(place, "Bearer", challenge))
}

/// Reads an error in its JSON form, whatever its status.
pub fn read_error(response: &Response) -> Result<Refusal, Mismatch> {
    let (error, message) = Fields::of_error(response)?;
    Ok(Refusal {
        code: error.text("code")?,
        field: error.optional_text("field")?,
        message,
    })
}

/// What an error says, to follow its status in a sentence; empty where it says nothing readable.
pub fn in_short(body: &[u8]) -> String {
    let error = Fields::parse("refusal", body).and_then(|fields| fields.object("error"));
    let said = error.and_then(|error| Ok((error.text("code")?, error.text("message")?)));
    said.map_or(String::new(), |(code, message)| {
        format!(", {code}: {message}")
    })
}
