//! Reading what clients send: bounded in size and in time, and polite to those who send too much.
//! Nothing here knows what a body means.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{ApiError, ErrorCode};

/// The largest body that is read.
pub const LIMIT_BYTES: usize = 1 << 20;

/// How long a sender may pause.
const PAUSE: Duration = Duration::from_secs(5);
/// How long the whole body may take.
const WHOLE: Duration = Duration::from_secs(30);

/// Bodies up to this length are not counted: the number of connections bounds them, and who asks
/// for little is not held up by those who send much.
const SMALL_BYTES: usize = 16 << 10;

/// As many bytes of bodies as may be in memory at once, so that many large ones don't fill it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// Enough for this many bytes at once.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(32 * LIMIT_BYTES)
    }
}

/// A body in memory, and its share of the budget.
#[derive(Debug)]
pub struct ReadBody {
    bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl ReadBody {
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn push(&mut self, data: &[u8], budget: &Budget) -> Result<(), ApiError> {
        let length = self.bytes.len() + data.len();
        let held = self.share.as_ref().map_or(0, |share| share.num_permits());
        let more = length.saturating_sub(SMALL_BYTES) - held;
        if more > 0 {
            let permits = Arc::clone(&budget.0).try_acquire_many_owned(more as u32);
            let permits = permits.map_err(|_| too_many())?;
            match &mut self.share {
                Some(share) => share.merge(permits),
                None => self.share = Some(permits),
            }
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Reads the whole body, or says why not.
pub async fn read(
    headers: &HeaderMap,
    mut body: Body,
    budget: &Budget,
) -> Result<ReadBody, ApiError> {
    if let Some(length) = declared_length(headers)
        && length > LIMIT_BYTES as u64
    {
        return Err(too_large(&format!("{length} bytes")));
    }
    let deadline = Instant::now() + WHOLE;
    let mut read = ReadBody {
        // A length that is only declared takes no memory yet; one that grows would take it twice.
        bytes: Vec::with_capacity(declared_length(headers).unwrap_or(0) as usize),
        share: None,
    };
    loop {
        let until = deadline.min(Instant::now() + PAUSE);
        let frame = match timeout_at(until, body.frame()).await {
            Ok(None) => return Ok(read),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Err(_) => return Err(too_slow(read.bytes.len())),
        };
        // Trailers carry nothing for us.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.bytes.len() + data.len() > LIMIT_BYTES {
            return Err(too_large("more"));
        }
        read.push(&data, budget)?;
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn too_large(got: &str) -> ApiError {
    let message = format!("the body: got {got}, allowed are {LIMIT_BYTES} bytes");
    ApiError::new(ErrorCode::BodyTooLarge, message)
}

fn too_many() -> ApiError {
    let message = "large bodies of other requests are being read, no more are allowed to";
    ApiError::new(ErrorCode::QueueFull, message)
}

fn too_slow(read_bytes: usize) -> ApiError {
    let message = format!(
        "the body stopped after {read_bytes} bytes: allowed are pauses of {} s and {} s for the whole",
        PAUSE.as_secs(),
        WHOLE.as_secs()
    );
    ApiError::new(ErrorCode::RequestTimeout, message)
}

/// A chunk with a wrong length, or a connection that closed within the body.
fn broken(error: &axum::Error) -> ApiError {
    let message = format!("the body ended before it was whole: {error}");
    ApiError::new(ErrorCode::MalformedJson, message)
}

/// A request's body that is read to its end even when nobody wants it.
///
/// Closing a socket with unread bytes in it resets the connection, and then the client never sees
/// the refusal that explains why. So what is left is read and thrown away, within bounds, while
/// the refusal is already on its way.
pub struct LingeringBody {
    body: Option<Incoming>,
}

impl LingeringBody {
    /// As much as is thrown away for one request.
    const LIMIT_BYTES: usize = 16 << 20;
    /// How long it may take.
    const WHOLE: Duration = Duration::from_secs(2);

    /// Wraps what is still to be read of a request.
    pub fn new(body: Incoming) -> Self {
        Self { body: Some(body) }
    }

    async fn throw_away(mut body: Incoming) {
        let mut read_bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read_bytes += frame.data_ref().map_or(0, Bytes::len);
            if read_bytes > Self::LIMIT_BYTES {
                break;
            }
        }
    }
}

impl HttpBody for LingeringBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for LingeringBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(timeout(Self::WHOLE, Self::throw_away(body)));
        }
    }
}
