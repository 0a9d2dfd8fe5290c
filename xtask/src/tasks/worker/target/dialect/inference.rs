//! Inference: the request's body, the whole answer, the events of a streamed one.

use serde_json::{Map, Value, json};

use super::{Fields, expect_status};
use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::facts::Phases;

/// An inference request. What is `None` is left out, so that the worker's default counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InferenceRequest {
    /// The text to continue.
    pub prompt: String,
    /// The largest number of tokens to generate.
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// Fixes what is drawn.
    pub seed: Option<u64>,
    /// Strings before which generation ends.
    pub stop: Vec<String>,
    /// How many of the likeliest tokens are drawn from.
    pub top_k: Option<u32>,
    /// The part of all probability that is drawn from.
    pub top_p: Option<f64>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

/// What a whole answer and the last event of a stream have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text; `None` in a stream, whose tokens carried it.
    pub text: Option<String>,
    /// Tokens generated.
    pub tokens: u64,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Tokens in the prompt.
    pub prompt_tokens: u64,
    /// Tokens generated, once more.
    pub completion_tokens: u64,
    /// Until the request was taken up.
    pub queue_ms: f64,
    /// Until the first token.
    pub prefill_ms: f64,
    /// From there to the last token.
    pub decode_ms: f64,
}

/// One event of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A token.
    Token {
        /// Its place in the answer.
        index: u64,
        /// Its text.
        text: String,
    },
    /// The orderly end.
    End(Completion),
    /// The end with an error: code and message.
    Error(String),
}

impl Completion {
    /// The parts of the time that it took.
    pub fn phases(&self) -> Phases {
        Phases {
            queue_ms: self.queue_ms,
            prefill_ms: self.prefill_ms,
            decode_ms: self.decode_ms,
        }
    }
}

/// The parts of an answer's time, for the record; judging an answer is not done here.
pub fn read_phases(body: &Value) -> Option<Phases> {
    let part = |name: &str| body["timings"][name].as_f64();
    Some(Phases {
        queue_ms: part("queue_ms")?,
        prefill_ms: part("prefill_ms")?,
        decode_ms: part("decode_ms")?,
    })
}

impl InferenceRequest {
    /// Greedy, so that the answer is a golden one.
    pub fn greedy(prompt: &str, max_tokens: u32) -> Self {
        Self {
            prompt: prompt.to_owned(),
            max_tokens: Some(max_tokens),
            temperature: Some(0.0),
            ..Self::default()
        }
    }

    /// The HTTP request for it.
    pub fn to_request(&self, stream: bool) -> Request {
        let mut body = Map::new();
        body.insert("prompt".into(), json!(self.prompt));
        if let Some(max_tokens) = self.max_tokens {
            body.insert("max_tokens".into(), json!(max_tokens));
        }
        if let Some(temperature) = self.temperature {
            body.insert("temperature".into(), json!(temperature));
        }
        if let Some(seed) = self.seed {
            body.insert("seed".into(), json!(seed));
        }
        if let Some(top_k) = self.top_k {
            body.insert("top_k".into(), json!(top_k));
        }
        if let Some(top_p) = self.top_p {
            body.insert("top_p".into(), json!(top_p));
        }
        // Both forms of the contract are in use: a single string by itself, several as an array.
        match self.stop.as_slice() {
            [] => {}
            [stop] => drop(body.insert("stop".into(), json!(stop))),
            stops => drop(body.insert("stop".into(), json!(stops))),
        }
        if stream {
            body.insert("stream".into(), json!(true));
        }
        post_inference(
            "application/json",
            Value::Object(body).to_string().into_bytes(),
        )
    }
}

/// A request to the inference endpoint with any body.
pub fn post_inference(content_type: &'static str, body: Vec<u8>) -> Request {
    Request {
        method: "POST",
        path: String::from("/v1/inference"),
        body: Some((content_type, body)),
    }
}

/// Reads a whole answer.
pub fn read_completion(response: &Response) -> Result<Completion, Mismatch> {
    expect_status(response, &[200])?;
    let fields = Fields::of(response)?;
    let text = fields.text("text")?;
    let completion = Completion {
        text: Some(text),
        ..read_end(&fields)?
    };
    Ok(completion)
}

/// Reads one event of a streamed answer.
pub fn read_stream_event(event: &SseEvent) -> Result<StreamEvent, Mismatch> {
    let place = format!("event: {}", event.event);
    if std::str::from_utf8(&event.data).is_err() {
        let got = String::from_utf8_lossy(&event.data);
        return Err(Mismatch::new(place, "data in UTF-8", got));
    }
    let fields = Fields::parse(place.as_str(), &event.data)?;
    match event.event.as_str() {
        "token" => Ok(StreamEvent::Token {
            index: fields.count("index")?,
            text: fields.text("text")?,
        }),
        "end" => Ok(StreamEvent::End(read_end(&fields)?)),
        "error" => {
            let error = fields.object("error")?;
            let (code, message) = (error.text("code")?, error.text("message")?);
            Ok(StreamEvent::Error(format!("{code}: {message}")))
        }
        _ => Err(Mismatch::new(
            place,
            "an event `token`, `end` or `error`",
            "another one",
        )),
    }
}

fn read_end(fields: &Fields) -> Result<Completion, Mismatch> {
    let finish_reason = fields.text("finish_reason")?;
    let usage = fields.object("usage")?;
    let timings = fields.object("timings")?;
    Ok(Completion {
        text: None,
        tokens: fields.count("tokens")?,
        finish_reason: match finish_reason.as_str() {
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            other => return Err(fields.wrong("finish_reason", "stop or length", other)),
        },
        prompt_tokens: usage.count("prompt_tokens")?,
        completion_tokens: usage.count("completion_tokens")?,
        queue_ms: timings.duration_ms("queue_ms")?,
        prefill_ms: timings.duration_ms("prefill_ms")?,
        decode_ms: timings.duration_ms("decode_ms")?,
    })
}
