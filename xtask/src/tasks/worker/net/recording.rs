//! One exchange, recorded for measures as [`reader`](super::reader) reads it. What came is taken apart
//! afterwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::framing::AnswerParser;
use super::reader::{Incoming, Patience, read_answer};
use super::socket::{Socket, WriteError};
use super::stream::{StreamReader, StreamSpelling};
use crate::tasks::worker::process::stop::StopFlag;

/// How long a connection to a loopback port may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// An exchange as it came: bytes, and when they came.
#[derive(Debug)]
pub struct Recording {
    /// t0: just before the request's first byte was written on a connected socket.
    pub sent: Instant,
    /// When it was over, whatever came.
    pub over: Instant,
    incoming: Incoming,
}

/// Sends a request's bytes on a connection of its own and reads the answer to its end.
pub fn record(port: u16, request: &[u8], limit: Duration, stop: &StopFlag) -> Recording {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let now = Instant::now();
    let mut recording = Recording {
        sent: now,
        over: now,
        incoming: Incoming::default(),
    };
    let connected = Socket::connect(at, CONNECT_LIMIT, stop, None);
    let exchanged = match connected {
        Ok(socket) => recording.exchange(socket, request, limit, stop),
        Err(error) => Err(format!("connecting: {error}")),
    };
    recording.incoming = exchanged.unwrap_or_else(|broken| Incoming {
        broken: Some(broken),
        ..Incoming::default()
    });
    recording.over = Instant::now();
    recording
}

impl Recording {
    fn exchange(
        &mut self,
        mut socket: Socket,
        request: &[u8],
        limit: Duration,
        stop: &StopFlag,
    ) -> Result<Incoming, String> {
        let written = socket.write_all(request, Instant::now() + limit);
        self.sent = socket.sent().unwrap_or(self.sent);
        written.map_err(|error| match error {
            WriteError::Interrupted(interrupted) => interrupted.to_string(),
            WriteError::Refused(error, sent) => format!("sending: {error} after {sent} bytes"),
        })?;
        let patience = Patience {
            deadline: self.sent + limit,
            limit,
            stop: stop.clone(),
        };
        let read = read_answer(socket.into_stream(), &patience);
        read.map_err(|error| format!("reading: {error}"))
    }

    /// The answer's status; `None` where it has none.
    pub fn status(&self) -> Option<u16> {
        self.incoming.status
    }

    /// Whether it can't be an answer as wished for, as far as that is seen at a glance.
    pub fn has_failed(&self) -> bool {
        self.incoming.broken.is_some() || self.incoming.status != Some(200)
    }

    /// How much memory its bytes take.
    pub fn bytes(&self) -> usize {
        self.incoming.bytes.capacity()
            + self.incoming.reads.capacity() * size_of::<(Instant, usize)>()
    }

    /// What kept the rest of the answer from coming.
    pub fn broken(&self) -> Option<&str> {
        self.incoming.broken.as_deref()
    }

    /// A reader that has read all that came. `name` says what was asked, for messages.
    pub fn reader<'s>(&self, name: &str, spelling: &'s dyn StreamSpelling) -> StreamReader<'s> {
        let mut parser = AnswerParser::default();
        let mut reader = StreamReader::new(name, spelling);
        let (mut from, mut body) = (0, Vec::new());
        for (at, to) in &self.incoming.reads {
            body.clear();
            parser.push(&self.incoming.bytes[from..*to], |bytes| {
                body.extend_from_slice(bytes)
            });
            if let Some(head) = parser.head() {
                reader.head(head, self.sent);
            }
            reader.body(*at, &body);
            from = *to;
        }
        reader
    }
}
