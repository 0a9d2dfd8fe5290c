//! A streamed answer that is read only as far as somebody wants it, and may be left at any time.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::dialect;
use super::dialect::StreamEvent;
use super::recorder::Recorder;
use super::stream;
use super::stream::StreamedAnswer;
use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::framing;
use crate::tasks::worker::net::raw;
use crate::tasks::worker::net::raw::{RawConnection, Received};
use crate::tasks::worker::net::sse::SseParser;
use crate::tasks::worker::record::event::Mismatch;

/// How long the worker may take to take a request's bytes.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// How a client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// With a FIN, as a client that is done.
    Fin,
    /// With a RST, as one that crashed.
    Reset,
}

/// A request that has been sent and whose answer is under way.
#[derive(Debug)]
pub struct OpenStream {
    connection: RawConnection,
    name: String,
    sent: Instant,
    recorder: Recorder,
    /// Whether what became of it is recorded.
    is_over: bool,
}

/// How far an answer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// No status yet.
    Waiting,
    /// So many tokens, and no end.
    Tokens(usize),
    /// The last event is there: `end` or `error`.
    Ended,
    /// Something else than a stream.
    Refused(u16),
}

impl OpenStream {
    /// Sends a request on a connection that is already there, as `recorder` has recorded it.
    pub fn send(connection: RawConnection, request: &Request, recorder: Recorder) -> Result<Self> {
        let mut stream = Self {
            connection,
            name: request.name(),
            sent: Instant::now(),
            recorder,
            is_over: false,
        };
        let sent = stream.connection.send(&raw::spell(request), SEND_LIMIT);
        sent.inspect_err(|error| stream.is_lost(error))?;
        Ok(stream)
    }

    /// Takes what has arrived, without waiting for more, and says how far that is.
    pub fn progress(&mut self) -> Result<Progress> {
        self.connection.take_arrived()?;
        Ok(self.arrived())
    }

    /// Reads until so many tokens are there, or the end, or a refusal, or the time is up.
    pub fn read_tokens(&mut self, count: usize, limit: Duration) -> Result<Progress> {
        let began = Instant::now();
        loop {
            let left = limit.saturating_sub(began.elapsed());
            let received = self.connection.receive(usize::MAX, left)?;
            let progress = self.arrived();
            let goes_on = match progress {
                Progress::Waiting => true,
                Progress::Tokens(tokens) => tokens < count,
                Progress::Ended | Progress::Refused(_) => false,
            };
            if !goes_on || !matches!(received, Received::Bytes(_)) {
                return Ok(progress);
            }
        }
    }

    /// Reads up to so many bytes, as a slow reader does.
    pub fn sip(&mut self, at_most: usize, limit: Duration) -> Result<Received> {
        self.connection.receive(at_most, limit)
    }

    /// The answer's head and body, once it is whole, whatever it is.
    pub fn finish(mut self, limit: Duration) -> Result<Response> {
        let answer = self.connection.read_answer(&self.name, limit);
        let answer = answer.map(|answer| Response {
            sent: self.sent,
            ..answer
        });
        self.is_over = true;
        self.recorder.note(answer)
    }

    /// The whole stream, which has to keep the rules of streams.
    pub fn finish_stream(self, limit: Duration) -> Result<StreamedAnswer> {
        Ok(stream::read_whole(self.finish(limit)?)?)
    }

    /// Goes away.
    pub fn leave(mut self, how: Departure) -> Result<()> {
        match how {
            Departure::Fin => self.connection.before_leaving(),
            Departure::Reset => self.connection.before_resetting(),
        }
    }

    fn is_lost(&mut self, error: &anyhow::Error) {
        self.is_over = true;
        self.recorder.unanswered(error);
    }

    fn arrived(&self) -> Progress {
        let Some((status, body)) = framing::so_far(self.connection.received()) else {
            return Progress::Waiting;
        };
        if status != 200 {
            return Progress::Refused(status);
        }
        let (mut tokens, mut ended) = (0, false);
        SseParser::default().push(&body, &mut |event| {
            match dialect::read_stream_event(&event) {
                Ok(StreamEvent::Token { .. }) => tokens += 1,
                // What can't be read ends the stream as far as we are concerned.
                Ok(StreamEvent::End(_) | StreamEvent::Error(_)) | Err(_) => ended = true,
            }
        });
        if ended {
            Progress::Ended
        } else {
            Progress::Tokens(tokens)
        }
    }
}

impl Drop for OpenStream {
    /// Whoever lets go of it without having read to the end has left.
    fn drop(&mut self) {
        if !self.is_over {
            let tokens = match self.arrived() {
                Progress::Tokens(tokens) => tokens,
                Progress::Waiting | Progress::Ended | Progress::Refused(_) => 0,
            };
            self.recorder.left(tokens);
        }
    }
}

/// How a stream ended that may end with an error: true for `end`, false for `error`.
///
/// Fails with a [`Mismatch`] where it ended with neither, or with more than one.
pub fn read_last_event(answer: &Response) -> Result<bool, Mismatch> {
    let mut ends = Vec::new();
    let mut tokens = 0;
    let mut broken = None;
    let mut parser = SseParser::default();
    parser.push(
        &answer.body,
        &mut |event| match dialect::read_stream_event(&event) {
            Ok(StreamEvent::Token { .. }) => tokens += 1,
            Ok(StreamEvent::End(_)) => ends.push(true),
            Ok(StreamEvent::Error(_)) => ends.push(false),
            Err(mismatch) => broken = Some(mismatch),
        },
    );
    match (broken, ends.as_slice()) {
        (Some(mismatch), _) => Err(mismatch),
        (None, [is_end]) if !parser.has_remainder() => Ok(*is_end),
        _ => Err(Mismatch::new(
            &answer.request,
            "a stream whose last event is exactly one `end` or one `error`",
            format!("{tokens} tokens and {} such events", ends.len()),
        )),
    }
}
