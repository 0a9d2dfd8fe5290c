//! Streams: chunks with several tokens, with none or with only a role, the usage, and `[DONE]`.

use super::answer::{StatedUsage, completion, read_finish_reason, read_object, read_usage};
use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::net::stream::{FinishReason, StreamDecoder, StreamEvent};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::dialect::fields::Fields;

/// What comes after everything else.
const DONE: &[u8] = b"[DONE]";

/// Where mismatches are seen.
const PLACE: &str = "a chunk of the stream";

/// Reads chunks, whose end is told in parts: the reason, the usage, `[DONE]`.
#[derive(Debug)]
pub struct OpenAiDecoder {
    /// Whether the stream has to say what it took.
    needs_usage: bool,
    /// The name that all chunks have.
    id: Option<String>,
    finish_reason: Option<FinishReason>,
    usage: StatedUsage,
}

impl StreamDecoder for OpenAiDecoder {
    fn read(&mut self, event: &SseEvent) -> Result<Option<StreamEvent>, Mismatch> {
        if event.event == "error" {
            return Ok(Some(error(&Fields::parse(PLACE, &event.data)?)?));
        }
        if event.event != "message" {
            let got = format!("event: {}", event.event);
            return Err(Mismatch::new(PLACE, "no type of event", got));
        }
        if event.data == DONE {
            return self.done().map(Some);
        }
        if std::str::from_utf8(&event.data).is_err() {
            let got = String::from_utf8_lossy(&event.data);
            return Err(Mismatch::new(PLACE, "data in UTF-8", got));
        }
        let chunk = Fields::parse(PLACE, &event.data)?;
        match chunk.optional_object("error")? {
            Some(_) => error(&chunk).map(Some),
            None => self.chunk(&chunk),
        }
    }
}

impl OpenAiDecoder {
    /// Nothing has come yet.
    pub fn new(needs_usage: bool) -> Self {
        Self {
            needs_usage,
            id: None,
            finish_reason: None,
            usage: None,
        }
    }

    fn done(&self) -> Result<StreamEvent, Mismatch> {
        let lacks = |expected| Err(Mismatch::new("stream, its end", expected, "none"));
        match self.finish_reason {
            None => lacks("a finish_reason before [DONE]"),
            Some(_) if self.needs_usage && self.usage.is_none() => {
                lacks("the usage before [DONE], as stream_options asks for it")
            }
            Some(reason) => Ok(StreamEvent::End(completion(None, reason, self.usage))),
        }
    }

    fn chunk(&mut self, chunk: &Fields) -> Result<Option<StreamEvent>, Mismatch> {
        let id = chunk.text("id")?;
        let first = self.id.get_or_insert_with(|| id.clone());
        if id != *first {
            return Err(chunk.wrong("id", first, &id));
        }
        let object = read_object(chunk, &["text_completion", "chat.completion.chunk"])?;
        self.usage = read_usage(chunk)?.or(self.usage);
        let choices = chunk.objects("choices")?;
        let choice = match choices.as_slice() {
            // Only the usage, or nothing but a sign of life.
            [] => return Ok(None),
            [choice] => choice,
            more => {
                let got = format!("{} of them", more.len());
                return Err(chunk.wrong("choices", "one choice", &got));
            }
        };
        let text = match object.as_str() {
            "text_completion" => choice.text("text")?,
            _ => {
                let delta = choice.object("delta")?;
                delta.optional_text("content")?.unwrap_or_default()
            }
        };
        if self.finish_reason.is_some() && !text.is_empty() {
            let expected = "no text after the finish_reason";
            return Err(Mismatch::new(PLACE, expected, format!("`{text}`")));
        }
        self.finish_reason = read_finish_reason(choice)?.or(self.finish_reason);
        Ok((!text.is_empty()).then_some(StreamEvent::Text {
            index: None,
            text,
            tokens: None,
        }))
    }
}

fn error(chunk: &Fields) -> Result<StreamEvent, Mismatch> {
    let error = chunk.optional_object("error")?;
    let message = error.as_ref().unwrap_or(chunk).text("message")?;
    Ok(StreamEvent::Error(message))
}
