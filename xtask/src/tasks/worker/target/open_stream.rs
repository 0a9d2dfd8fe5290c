//! A streamed answer that is read only as far as somebody wants it, and may be left at any time.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::recorder::Recorder;
use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::framing::AnswerParser;
use crate::tasks::worker::net::raw::{RawConnection, Received};
use crate::tasks::worker::net::stream::{StreamReader, StreamSpelling, StreamedAnswer};

pub use crate::tasks::worker::net::stream::Progress;

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
pub struct OpenStream {
    connection: RawConnection,
    name: String,
    recorder: Recorder,
    spelling: &'static dyn StreamSpelling,
    /// What has come so far, and how many of the connection's bytes that took.
    parser: AnswerParser,
    reader: StreamReader<'static>,
    taken: usize,
    /// Whether what became of it is recorded.
    is_over: bool,
}

impl OpenStream {
    /// Sends a request on a connection that is already there, as `recorder` has recorded it.
    pub fn send(
        spelling: &'static dyn StreamSpelling,
        connection: RawConnection,
        request: &Request,
        recorder: Recorder,
    ) -> Result<Self> {
        let name = request.name();
        let mut stream = Self {
            reader: StreamReader::new(&name, spelling),
            parser: AnswerParser::default(),
            taken: 0,
            connection,
            name,
            recorder,
            spelling,
            is_over: false,
        };
        let sent = stream.connection.send_request(request, SEND_LIMIT);
        sent.inspect_err(|error| stream.is_lost(error))?;
        Ok(stream)
    }

    /// Sends bytes that don't belong to the request.
    pub fn send_more(&mut self, bytes: &[u8]) -> Result<()> {
        self.connection.send(bytes, SEND_LIMIT)
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
            if !goes_on || left.is_zero() || !matches!(received, Received::Bytes(_)) {
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
        self.is_over = true;
        self.recorder.note(&answer);
        answer
    }

    /// The whole stream, which has to keep the rules of streams.
    pub fn finish_stream(self, limit: Duration) -> Result<StreamedAnswer> {
        let spelling = self.spelling;
        read_whole(spelling, &self.finish(limit)?)
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

    fn arrived(&mut self) -> Progress {
        let (bytes, at) = self.connection.received();
        let sent = self.connection.sent().unwrap_or(at);
        let mut body = Vec::new();
        self.taken += self
            .parser
            .push(&bytes[self.taken..], |bytes| body.extend_from_slice(bytes));
        if let Some(head) = self.parser.head() {
            self.reader.head(head, sent);
        }
        self.reader.body(at, &body);
        self.reader.progress()
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

/// A streamed answer that is already there as a whole, which has to keep the rules of streams.
pub fn read_whole(spelling: &dyn StreamSpelling, answer: &Response) -> Result<StreamedAnswer> {
    let read = StreamReader::of(answer, spelling).finish(None);
    read.map_err(|error| error.into_error())
}

/// How a stream ended that may end with an error: true for an end, false for an error.
///
/// Fails with a `Mismatch` where it ended with neither, or with more than one.
pub fn read_last_event(spelling: &dyn StreamSpelling, answer: &Response) -> Result<bool> {
    let read = StreamReader::of(answer, spelling).finish_either_way();
    read.map_err(|error| error.into_error())
}
