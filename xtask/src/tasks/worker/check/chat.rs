//! A user's words, in the form in which a model's template has them.

use anyhow::Result;

use super::inference::adds_up;
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{InferenceRequest, Promise};

const CONTRACT: &str =
    "`POST /v1/completions`, `POST /v1/chat/completions`: OpenAI's protocol, streamed or not.";

/// Chat.
pub const CHECKS: &[Check] = &[
    Check::isolation("chat.answers", answers)
        .promise("answers a chat message with text, correct token counts and a finish reason")
        .quote(CONTRACT)
        .explanation("Sends the sample prompt as a chat; fails if there is no text, or counts and reason disagree. Skipped where the server refuses to chat with this model.")
        .by_hand(|by| by.chat("-s", "Hello, how are you?", false))
        .needs(&[Need::Ready, Need::Promised(Promise::Chat), Need::Chat]),
    Check::isolation("chat.streams", streams)
        .promise("streams the same chat that it returns without streaming")
        .quote(CONTRACT)
        .explanation("Sends the same chat streamed; fails if the stream is invalid, or its text, count or reason differs from the plain answer's.")
        .by_hand(|by| by.chat("-sN", "Hello, how are you?", true))
        .needs(&[Need::Ready, Need::Promised(Promise::Chat), Need::Chat]),
];

fn request(subject: &Subject) -> InferenceRequest {
    let config = subject.context.config;
    InferenceRequest {
        as_chat: true,
        ..InferenceRequest::greedy(&config.prompt, config.max_tokens)
    }
}

fn answers(subject: &Subject) -> Result<Evidence> {
    let request = request(subject);
    let completion = subject.worker.infer(&request)?;
    let text = completion.text.clone().unwrap_or_default();
    ensure_kept(!text.is_empty(), "chat, `content`", "some text", "none")?;
    adds_up(&completion, &request)?;
    Ok(format!("{} tokens", completion.tokens()?))
}

fn streams(subject: &Subject) -> Result<Evidence> {
    let request = request(subject);
    let plain = subject.worker.infer(&request)?;
    let streamed = subject.worker.infer_streamed(&request)?;
    adds_up(&streamed.completion, &request)?;
    let expected = plain.text.unwrap_or_default();
    let text = streamed.text();
    let place = "a streamed chat";
    ensure_kept(
        text == expected && streamed.completion.finish_reason == plain.finish_reason,
        place,
        format!("`{expected}`, {:?}", plain.finish_reason),
        format!("`{text}`, {:?}", streamed.completion.finish_reason),
    )?;
    Ok(format!("{} tokens", streamed.tokens()))
}
