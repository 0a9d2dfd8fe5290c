//! Whole answers, and what they have in common with the chunks of a stream.

use super::paths::CHAT;
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::net::stream::{Completion, FinishReason};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::dialect::fields::Fields;
use crate::tasks::worker::target::dialect::protocol::expect_status;

/// Reads a whole answer.
pub fn read(response: &Response) -> Result<Completion, Mismatch> {
    expect_status(response, &[200])?;
    let fields = Fields::of(response)?;
    let is_chat = response.request.ends_with(CHAT);
    let object = match is_chat {
        true => "chat.completion",
        false => "text_completion",
    };
    read_object(&fields, &[object])?;
    let choices = fields.objects("choices")?;
    let [choice] = choices.as_slice() else {
        let got = format!("{} of them", choices.len());
        return Err(fields.wrong("choices", "one choice", &got));
    };
    let text = match is_chat {
        true => choice.object("message")?.text("content")?,
        false => choice.text("text")?,
    };
    let Some(finish_reason) = read_finish_reason(choice)? else {
        return Err(choice.wrong("finish_reason", "stop or length", "null"));
    };
    let usage = read_usage(&fields)?;
    match usage {
        Some(_) => Ok(completion(Some(text), finish_reason, usage)),
        None => Err(fields.wrong("usage", "what the answer took", "none")),
    }
}

/// Reads the list of models, which has to have one; gives the name of the first.
pub fn read_models(response: &Response) -> Result<String, Mismatch> {
    expect_status(response, &[200])?;
    let fields = Fields::of(response)?;
    read_object(&fields, &["list"])?;
    let models = fields.objects("data")?;
    let Some(first) = models.first() else {
        return Err(fields.wrong("data", "at least one model", "none"));
    };
    first.text("id")
}

/// Tokens of the prompt and of the answer.
pub type StatedUsage = Option<(u64, u64)>;

/// An answer's end.
pub fn completion(
    text: Option<String>,
    finish_reason: FinishReason,
    usage: StatedUsage,
) -> Completion {
    Completion {
        text,
        finish_reason,
        tokens: usage.map(|(_, completion)| completion),
        completion_tokens: usage.map(|(_, completion)| completion),
        prompt_tokens: usage.map(|(prompt, _)| prompt),
        phases: None,
    }
}

/// What kind of object it is; gives its kind.
pub fn read_object(fields: &Fields, expected: &[&str]) -> Result<String, Mismatch> {
    let object = fields.text("object")?;
    match expected.contains(&object.as_str()) {
        true => Ok(object),
        false => Err(fields.wrong("object", &expected.join(" or "), &object)),
    }
}

/// Why a choice has ended, if it has.
pub fn read_finish_reason(choice: &Fields) -> Result<Option<FinishReason>, Mismatch> {
    match choice.optional_text("finish_reason")?.as_deref() {
        None => Ok(None),
        Some("stop") => Ok(Some(FinishReason::Stop)),
        Some("length") => Ok(Some(FinishReason::Length)),
        Some(other) => Err(choice.wrong("finish_reason", "stop or length", other)),
    }
}

/// What the answer took, where it says so.
pub fn read_usage(fields: &Fields) -> Result<StatedUsage, Mismatch> {
    let Some(usage) = fields.optional_object("usage")? else {
        return Ok(None);
    };
    let (prompt, completion) = (
        usage.count("prompt_tokens")?,
        usage.count("completion_tokens")?,
    );
    let total = usage.count("total_tokens")?;
    if total != prompt + completion {
        let expected = format!("{prompt} + {completion}");
        return Err(usage.wrong("total_tokens", &expected, &total.to_string()));
    }
    Ok(Some((prompt, completion)))
}
