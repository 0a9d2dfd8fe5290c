//! Inference: the request's body, the whole answer, the events of a streamed one.

use serde_json::{Map, Value, json};

use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::net::stream::{Completion, FinishReason, StreamDecoder, StreamEvent};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::facts::Phases;
use crate::tasks::worker::target::dialect::fields::Fields;
use crate::tasks::worker::target::dialect::generation::InferenceRequest;
use crate::tasks::worker::target::dialect::protocol::expect_status;

/// Where text is asked for.
pub const PATH: &str = "/v1/inference";

/// Reads events, each of which means something by itself.
#[derive(Debug)]
pub struct NativeDecoder;

/// Asks for an answer.
pub fn request(asked: &InferenceRequest, stream: bool) -> Request {
    let mut body = Map::new();
    body.insert("prompt".into(), json!(asked.prompt));
    if let Some(max_tokens) = asked.max_tokens {
        body.insert("max_tokens".into(), json!(max_tokens));
    }
    if let Some(temperature) = asked.temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    if let Some(seed) = asked.seed {
        body.insert("seed".into(), json!(seed));
    }
    if let Some(top_k) = asked.top_k {
        body.insert("top_k".into(), json!(top_k));
    }
    if let Some(top_p) = asked.top_p {
        body.insert("top_p".into(), json!(top_p));
    }
    if let Some(stop) = asked.stop_value() {
        body.insert("stop".into(), stop);
    }
    if stream {
        body.insert("stream".into(), json!(true));
    }
    Request {
        method: "POST",
        path: String::from(PATH),
        authorization: None,
        body: Some((
            "application/json",
            Value::Object(body).to_string().into_bytes(),
        )),
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

impl StreamDecoder for NativeDecoder {
    fn read(&mut self, event: &SseEvent) -> Result<Option<StreamEvent>, Mismatch> {
        read_event(event).map(Some)
    }
}

fn read_event(event: &SseEvent) -> Result<StreamEvent, Mismatch> {
    let place = format!("event: {}", event.event);
    if std::str::from_utf8(&event.data).is_err() {
        let got = String::from_utf8_lossy(&event.data);
        return Err(Mismatch::new(place, "data in UTF-8", got));
    }
    let fields = Fields::parse(place.as_str(), &event.data)?;
    match event.event.as_str() {
        "token" => Ok(StreamEvent::Text {
            index: Some(fields.count("index")?),
            text: fields.text("text")?,
            tokens: Some(1),
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
        tokens: Some(fields.count("tokens")?),
        finish_reason: match finish_reason.as_str() {
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            other => return Err(fields.wrong("finish_reason", "stop or length", other)),
        },
        prompt_tokens: Some(usage.count("prompt_tokens")?),
        completion_tokens: Some(usage.count("completion_tokens")?),
        phases: Some(Phases {
            queue_ms: timings.duration_ms("queue_ms")?,
            prefill_ms: timings.duration_ms("prefill_ms")?,
            decode_ms: timings.duration_ms("decode_ms")?,
        }),
    })
}
