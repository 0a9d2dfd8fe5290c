//! Answers in pieces: generation events in, server-sent events out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::engine::{Generation, GenerationEvent};
use crate::routes::{Summary, failed, next_event};
use crate::state::Admission;

/// Answers at once with the headers, and with each event as it comes.
pub fn respond(generation: Generation, admission: Admission) -> Response {
    let (frames, body) = mpsc::unbounded_channel();
    tokio::spawn(forward(generation, admission, frames));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // Asks proxies such as nginx not to collect the stream.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::new(FrameBody(body))).into_response()
}

/// A stream that is silent for this long gets a comment, which clients skip: proxies cut what they
/// take for dead, a minute and more later.
const SILENCE: Duration = Duration::from_secs(10);
const COMMENT: &[u8] = b": waiting\n\n";

/// Moves events from the engine to the connection until the last one.
///
/// A task of its own and a channel without a bound, so that a client that reads slowly holds up
/// its own socket and not the engine; what piles up is bounded by the context. When the connection
/// closes, the body is dropped, the channel with it, and then the generation.
async fn forward(
    mut generation: Generation,
    admission: Admission,
    frames: mpsc::UnboundedSender<Bytes>,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = frames.closed() => return,
            event = timeout(SILENCE, next_event(&mut generation, &admission)) => event,
        };
        let Ok(event) = event else {
            let _ = frames.send(Bytes::from_static(COMMENT));
            continue;
        };
        let (frame, is_last) = match event {
            Ok(GenerationEvent::Token { index, text, .. }) => {
                (frame("token", &Token { index, text: &text }), false)
            }
            Ok(GenerationEvent::Finished(completion)) => {
                (frame("end", &Summary::from(completion)), true)
            }
            Ok(GenerationEvent::Failed(message)) => {
                (frame("error", &failed(message).to_json()), true)
            }
            Err(error) => (frame("error", &error.to_json()), true),
        };
        if frames.send(frame).is_err() || is_last {
            return;
        }
    }
}

#[derive(Serialize)]
struct Token<'a> {
    index: u32,
    text: &'a str,
}

/// JSON has no raw line breaks, so one `data:` line holds it whatever the text.
fn frame(event: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("our own types are always JSON");
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}

/// A response body that is whatever comes out of the channel.
struct FrameBody(mpsc::UnboundedReceiver<Bytes>);

impl HttpBody for FrameBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
