//! One connection, from its first byte to its end: the HTTP library speaks, and beside it we watch
//! for what it doesn't: who leaves, who is late, who has to go.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tower::Service;

use super::crowd::Place;
use super::wire::{Progress, Seen, Stage, Wire};
use super::{Crowded, Limits};
use crate::body::LingeringBody;

/// As much of a connection as the HTTP library buffers; a request's head has to fit.
const BUFFER_BYTES: usize = 64 << 10;
/// How long a body may take that was on its way when the server was asked to finish.
const LAST_BODY: Duration = Duration::from_secs(1);

/// Serves the connection to its end. When the client closes it, this future drops the handler at
/// work and the body being sent, which is what cancels generations.
pub async fn serve(
    stream: TcpStream,
    place: Place,
    app: Router,
    limits: Limits,
    mut closing: watch::Receiver<bool>,
) {
    let wire = Wire::new(stream, Arc::clone(&place.progress));
    let service = service_fn(|request: Request<Incoming>| answer(&place, app.clone(), request));
    let connection = http1::Builder::new()
        // Without a timer it has no deadlines: ours tell an idle connection from a slow head.
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(wire.clone()), service);
    tokio::pin!(connection);
    let sleep = sleep_until(Instant::now());
    tokio::pin!(sleep);
    let mut closing_since = None;
    loop {
        tokio::select! {
            // First the library: what it does moves the stage that the others look at.
            biased;
            // How a connection ended concerns the client, who knows.
            _ = connection.as_mut() => return,
            () = poll_fn(|cx| wire.poll_left(cx)) => return,
            () = poll_fn(|cx| {
                let Some(due) = due(wire.progress.seen(), &limits, closing_since) else {
                    return Poll::Pending;
                };
                if sleep.deadline() != due {
                    sleep.as_mut().reset(due);
                }
                sleep.as_mut().poll(cx)
            }) => return,
            _ = closing.wait_for(|closing| *closing), if closing_since.is_none() => {
                closing_since = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// When a connection is closed if nothing happens on it; `None` while the worker is to blame.
fn due(seen: Seen, limits: &Limits, closing_since: Option<Instant>) -> Option<Instant> {
    let Seen {
        stage,
        since,
        stalled,
    } = seen;
    if let Some(stalled) = stalled {
        return Some(stalled + limits.write);
    }
    match (stage, closing_since) {
        (Stage::Idle | Stage::Head, Some(closing)) => Some(closing),
        (Stage::Body, Some(closing)) => Some(closing + LAST_BODY),
        (Stage::Idle, None) => Some(since + limits.idle),
        (Stage::Head, None) => Some(since + limits.head),
        // A body has deadlines of its own, which are answered, and answers have the client's time.
        (Stage::Body, None) | (Stage::Answer, _) => None,
    }
}

async fn answer(
    place: &Place,
    mut app: Router,
    request: Request<Incoming>,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let progress = &place.progress;
    progress.enter(Stage::Body);
    let mut request = request.map(|body| {
        Body::new(Tracked {
            body: LingeringBody::new(body),
            progress: Arc::clone(progress),
            done: Progress::body_done,
        })
    });
    if place.is_spare {
        request.extensions_mut().insert(Crowded);
    }
    // A router is always ready, so `poll_ready` has nothing to say.
    let mut response = app.call(request).await?;
    if place.is_spare {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response.map(|body| {
        Body::new(Tracked {
            body,
            progress: Arc::clone(progress),
            done: |progress| progress.enter(Stage::Idle),
        })
    }))
}

/// A body whose end is noted. The end is when it is dropped: whoever has read it has no use for it.
struct Tracked<B> {
    body: B,
    progress: Arc<Progress>,
    done: fn(&Progress),
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        (self.done)(&self.progress);
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
