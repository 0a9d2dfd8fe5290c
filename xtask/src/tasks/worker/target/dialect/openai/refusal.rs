//! Refusals: `{"error":{"message","type","param","code"}}`.

use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::dialect::fields::Fields;
use crate::tasks::worker::target::dialect::protocol::{Reason, Refusal, expect_status};

/// Reads an answer that has to be this refusal.
pub fn read(response: &Response, reason: Reason) -> Result<Refusal, Mismatch> {
    let status: &[u16] = match reason {
        Reason::NotReady => &[503],
        // OpenAI's words for the two are "rate limit" and "overloaded".
        Reason::QueueFull => &[429, 503],
        Reason::ContextExceeded => &[400],
        Reason::Unauthorized => &[401],
    };
    expect_status(response, status)?;
    let refusal = read_error(response)?;
    let is_named = |part: &str| part.to_lowercase().contains("context");
    if reason == Reason::ContextExceeded && !is_named(&refusal.code) && !is_named(&refusal.message)
    {
        let place = format!("{}, status {}", response.request, response.status);
        let expected = "an error that names the context";
        return Err(Mismatch::new(place, expected, refusal.message));
    }
    Ok(refusal)
}

/// Reads an error, whatever its status. Its code is a word, a status or nothing: then its type is
/// what tells.
pub fn read_error(response: &Response) -> Result<Refusal, Mismatch> {
    let (error, message) = Fields::of_error(response)?;
    let kind = error.text("type")?;
    Ok(Refusal {
        code: error.optional_text("code").ok().flatten().unwrap_or(kind),
        field: error.optional_text("param")?,
        message,
    })
}

/// What an error says, to follow its status in a sentence; empty where it says nothing readable.
pub fn in_short(body: &[u8]) -> String {
    let error = Fields::parse("refusal", body).and_then(|fields| fields.object("error"));
    let said = error.and_then(|error| error.text("message"));
    said.map_or(String::new(), |message| format!(", {message}"))
}
