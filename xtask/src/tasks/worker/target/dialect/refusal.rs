//! Refusals: the contract's error form.

use super::{Fields, expect_retry_after, expect_status};
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::record::event::Mismatch;

/// What an error answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which row of the contract's table it is.
    pub code: String,
    /// What was got and what is allowed.
    pub message: String,
    /// The field that is to blame, where one is.
    pub field: Option<String>,
}

/// Reads an answer that has to be this refusal. Where the caller is to come back, it says when.
pub fn read_refusal(response: &Response, status: u16, code: &str) -> Result<Refusal, Mismatch> {
    expect_status(response, &[status])?;
    let refusal = read_any_refusal(response)?;
    if refusal.code != code {
        let place = format!("{}, status {status}, `code`", response.request);
        return Err(Mismatch::new(place, code, refusal.code));
    }
    if [429, 503].contains(&status) {
        expect_retry_after(response)?;
    }
    Ok(refusal)
}

/// Reads an error in its JSON form, whatever its status.
pub fn read_any_refusal(response: &Response) -> Result<Refusal, Mismatch> {
    let error = Fields::of(response)?.object("error")?;
    let message = error.text("message")?;
    if message.trim().is_empty() {
        return Err(error.wrong("message", "a sentence", "an empty one"));
    }
    Ok(Refusal {
        code: error.text("code")?,
        field: error.optional_text("field")?,
        message,
    })
}

/// Whether the answer says that the queue is full: that the request may come again.
pub fn is_busy_refusal(response: &Response) -> bool {
    read_refusal(response, 429, "queue_full").is_ok()
}

/// What an error says, to follow its status in a sentence; empty where it says nothing readable.
pub fn refusal_in_short(body: &[u8]) -> String {
    let error = Fields::parse("refusal", body).and_then(|fields| fields.object("error"));
    let said = error.and_then(|error| Ok((error.text("code")?, error.text("message")?)));
    said.map_or(String::new(), |(code, message)| {
        format!(", {code}: {message}")
    })
}
