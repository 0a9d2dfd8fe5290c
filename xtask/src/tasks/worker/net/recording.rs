//! One exchange, recorded for measures: a thread that only reads, a clock that is asked right after
//! each read, and no work beside it. What came is taken apart afterwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::framing::AnswerParser;
use super::raw::too_much;
use super::socket::{Attention, Received, Socket, WriteError};
use super::stream::{StreamReader, StreamSpelling};
use crate::tasks::worker::process::stop::StopFlag;

/// How long a connection to a loopback port may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Room for an answer of usual length; it grows where there is less left than one read wants.
const BUFFER_BYTES: usize = 32 << 10;
const READ_BYTES: usize = 8 << 10;

/// An exchange as it came: bytes, and when they came.
#[derive(Debug)]
pub struct Recording {
    /// t0: just before the request's first byte was written on a connected socket.
    pub sent: Instant,
    /// When it was over, whatever came.
    pub over: Instant,
    /// After each read: when, and how many bytes there were in all by then.
    reads: Vec<(Instant, usize)>,
    bytes: Vec<u8>,
    /// Its status, as soon as that is there.
    status: Option<u16>,
    /// Why it ended before the answer did.
    broken: Option<String>,
}

/// Sends a request's bytes on a connection of its own and reads the answer to its end.
pub fn record(port: u16, request: &[u8], limit: Duration, stop: &StopFlag) -> Recording {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let now = Instant::now();
    let mut recording = Recording {
        sent: now,
        over: now,
        reads: Vec::with_capacity(512),
        bytes: Vec::new(),
        status: None,
        broken: None,
    };
    let connected = Socket::connect(at, CONNECT_LIMIT, stop, Attention::Loose, None);
    recording.broken = match connected {
        Ok(socket) => recording.exchange(socket, request, limit).err(),
        Err(error) => Some(format!("connecting: {error}")),
    };
    recording.over = Instant::now();
    recording
}

impl Recording {
    fn exchange(
        &mut self,
        mut socket: Socket,
        request: &[u8],
        limit: Duration,
    ) -> Result<(), String> {
        let written = socket.write_all(request, Instant::now() + limit);
        self.sent = socket.sent().unwrap_or(self.sent);
        written.map_err(|error| match error {
            WriteError::Interrupted(interrupted) => interrupted.to_string(),
            WriteError::Refused(error, sent) => format!("sending: {error} after {sent} bytes"),
        })?;
        let deadline = self.sent + limit;
        let mut parser = AnswerParser::default();
        let mut length = 0;
        let mut buffer = std::mem::take(&mut self.bytes);
        buffer.resize(BUFFER_BYTES, 0);
        let ended = loop {
            if buffer.len() - length < READ_BYTES {
                buffer.resize(buffer.len() * 2, 0);
            }
            let (received, now) = match socket.read(&mut buffer[length..], deadline) {
                Ok(read) => read,
                Err(interrupted) => break Err(interrupted.to_string()),
            };
            match received {
                Received::Bytes(count) => {
                    // Where the body's bytes lie is found again afterwards: here they are only counted.
                    parser.push(&buffer[length..length + count], |_| {});
                    length += count;
                    self.reads.push((now, length));
                }
                Received::End => parser.end(),
                Received::Reset | Received::Nothing | Received::TooMuch => {}
            }
            if parser.is_whole() {
                break Ok(());
            }
            match received {
                Received::Bytes(_) if parser.is_broken() => {
                    break Err(String::from("no HTTP answer"));
                }
                Received::Bytes(_) if now < deadline => {}
                Received::Bytes(_) | Received::Nothing => {
                    break Err(format!("no end within {} s", limit.as_secs_f64()));
                }
                Received::End => break Err(String::from("hung up before the end of the answer")),
                Received::Reset => break Err(String::from("reset the connection")),
                Received::TooMuch => break Err(too_much()),
            }
        };
        buffer.truncate(length);
        self.bytes = buffer;
        self.status = parser.head().map(|head| head.status);
        ended
    }

    /// The answer's status; `None` where it has none.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether it can't be an answer as wished for, as far as that is seen at a glance.
    pub fn has_failed(&self) -> bool {
        self.broken.is_some() || self.status != Some(200)
    }

    /// How much memory its bytes take.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.reads.capacity() * size_of::<(Instant, usize)>()
    }

    /// What kept the rest of the answer from coming.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// A reader that has read all that came. `name` says what was asked, for messages.
    pub fn reader<'s>(&self, name: &str, spelling: &'s dyn StreamSpelling) -> StreamReader<'s> {
        let mut parser = AnswerParser::default();
        let mut reader = StreamReader::new(name, spelling);
        let (mut from, mut body) = (0, Vec::new());
        for (at, to) in &self.reads {
            body.clear();
            parser.push(&self.bytes[from..*to], |bytes| {
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
