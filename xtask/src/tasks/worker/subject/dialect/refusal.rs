//! Refusals: the contract's error form.

use super::{Fields, expect_retry_after, expect_status};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::subject::client::Response;

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
    let fields = Fields::of(response)?.object("error")?;
    let refusal = Refusal {
        code: fields.text("code")?,
        message: fields.text("message")?,
        field: fields.text("field").ok(),
    };
    if refusal.code != code {
        return Err(fields.wrong("code", code, &refusal.code));
    }
    if [429, 503].contains(&status) {
        expect_retry_after(response)?;
    }
    Ok(refusal)
}
