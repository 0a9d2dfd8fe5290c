//! One socket as HTTP reads and writes it, and what can be seen from beside: how far the exchange
//! is, whether the client has left, and since when it takes nothing.
//!
//! The HTTP library stops reading once it holds bytes that it can't use yet, so a client that sent
//! one byte too many could leave unnoticed. While an answer is pending we therefore read on
//! ourselves, into a buffer with an end, and hand over what came when it is asked for.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

/// As much as is read ahead. Beyond it a leave could no longer be seen, so that who sends more
/// before the answer is over counts as gone.
pub const AHEAD_BYTES: usize = 64 << 10;

/// How far the exchange on a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Between requests, or before the first one.
    Idle,
    /// A part of a request's head is there.
    Head,
    /// The head is there, the body is not read to its end.
    Body,
    /// The request is there, the answer is not made to its end.
    Answer,
}

/// What is known about a connection at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// How far it is.
    pub stage: Stage,
    /// Since when.
    pub since: Instant,
    /// Since when nothing that was made could be written, if that is so.
    pub stalled: Option<Instant>,
}

impl Seen {
    /// Whether the worker owes the client something: an answer, or the rest of one.
    pub fn is_answering(self) -> bool {
        self.stage == Stage::Answer || self.stalled.is_some()
    }
}

/// How far a connection is, shared by all who look at it.
#[derive(Debug)]
pub struct Progress {
    inner: Mutex<Inner>,
    /// Told when the connection may have become idle.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Inner {
    seen: Seen,
    ahead: Vec<u8>,
    left: bool,
}

impl Progress {
    /// A connection that was just accepted; `changed` is told when it may have become idle again.
    pub fn new(changed: watch::Sender<()>) -> Self {
        let seen = Seen {
            stage: Stage::Idle,
            since: Instant::now(),
            stalled: None,
        };
        Self {
            inner: Mutex::new(Inner {
                seen,
                ahead: Vec::new(),
                left: false,
            }),
            changed,
        }
    }

    /// What is known now.
    pub fn seen(&self) -> Seen {
        self.lock().seen
    }

    /// The exchange has come to this stage.
    pub fn enter(&self, stage: Stage) {
        let mut inner = self.lock();
        inner.seen.stage = stage;
        inner.seen.since = Instant::now();
        if stage == Stage::Idle {
            self.changed.send_replace(());
        }
    }

    /// The body is read to its end, or nobody wants the rest. An answer may be over before that.
    pub fn body_done(&self) {
        if self.seen().stage == Stage::Body {
            self.enter(Stage::Answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No invariant spans the places that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket for the HTTP library, and for those who watch it.
#[derive(Debug, Clone)]
pub struct Wire {
    stream: Arc<TcpStream>,
    /// How far the exchange is.
    pub progress: Arc<Progress>,
}

impl Wire {
    /// Over a socket that was just accepted.
    pub fn new(stream: TcpStream, progress: Arc<Progress>) -> Self {
        Self {
            stream: Arc::new(stream),
            progress,
        }
    }

    /// Ready once the client has left while its answer is pending. Reads ahead to find out.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.progress.lock();
        if inner.seen.stage != Stage::Answer {
            // The stage changes in the task that asks here, which asks again then.
            return Poll::Pending;
        }
        while !inner.left {
            let mut bytes = [0; 4096];
            match ready!(self.poll_stream(cx, &mut bytes)) {
                Ok(1..) if inner.ahead.len() >= AHEAD_BYTES => inner.left = true,
                Ok(length @ 1..) => inner.ahead.extend_from_slice(&bytes[..length]),
                Ok(0) | Err(_) => inner.left = true,
            }
        }
        Poll::Ready(())
    }

    fn poll_stream(&self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let result = loop {
            match self.stream.poll_write_ready(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => match write(&self.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => break Poll::Ready(result),
                },
            }
        };
        let stalled = &mut self.progress.lock().seen.stalled;
        if result.is_pending() {
            stalled.get_or_insert_with(Instant::now);
        } else if stalled.take().is_some() {
            self.progress.changed.send_replace(());
        }
        result
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.progress.lock();
        if inner.ahead.is_empty() {
            let length = ready!(self.poll_stream(cx, buffer.initialize_unfilled()))?;
            buffer.advance(length);
        } else {
            let length = buffer.remaining().min(inner.ahead.len());
            buffer.put_slice(&inner.ahead[..length]);
            inner.ahead.drain(..length);
        }
        if inner.seen.stage == Stage::Idle && !buffer.filled().is_empty() {
            inner.seen.stage = Stage::Head;
            inner.seen.since = Instant::now();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = socket2::SockRef::from(&*self.stream);
        Poll::Ready(socket.shutdown(Shutdown::Write))
    }
}
