//! Answers in pieces: steps of a generation in, server-sent events out, worded as the protocol wants.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::engine::Completion;
use crate::error::ApiError;
use crate::routes::{Running, Step, Token};

/// How a protocol words the steps of an answer.
pub(crate) trait Wording: Send + 'static {
    /// What comes before the first token, if anything does.
    fn begin(&mut self) -> Option<Bytes> {
        None
    }

    /// A token, and the text that it completes.
    fn token(&mut self, token: &Token) -> Bytes;

    /// The last words on an answer that is whole.
    fn end(&mut self, completion: Completion) -> Bytes;

    /// The last words on one that isn't.
    fn error(&mut self, error: &ApiError) -> Bytes;
}

/// Answers at once with the headers, and with each event as it comes.
pub(crate) fn respond(running: Running, wording: impl Wording) -> Response {
    let (frames, body) = mpsc::unbounded_channel();
    tokio::spawn(forward(running, wording, frames));
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
    mut running: Running,
    mut wording: impl Wording,
    frames: mpsc::UnboundedSender<Bytes>,
) {
    if let Some(frame) = wording.begin() {
        let _ = frames.send(frame);
    }
    loop {
        let step = tokio::select! {
            biased;
            () = frames.closed() => return,
            step = timeout(SILENCE, running.next()) => step,
        };
        let (frame, is_last) = match step {
            Err(_) => (Bytes::from_static(COMMENT), false),
            Ok(Ok(Step::Token(token))) => (wording.token(&token), false),
            Ok(Ok(Step::End(completion))) => (wording.end(completion), true),
            Ok(Err(error)) => (wording.error(&error), true),
        };
        if frames.send(frame).is_err() || is_last {
            return;
        }
    }
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
