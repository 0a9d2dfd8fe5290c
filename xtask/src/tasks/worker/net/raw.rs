//! HTTP that no library would send: half requests, single bytes, a client that leaves or resets,
//! connections that do nothing, answers that are read byte by byte.
//!
//! Knows no path and no field; where an answer ends is known to `framing.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::framing::AnswerParser;
use super::http::{ANSWER_BYTES, NoAnswer, Request, Response};
use super::socket::{Socket, WriteError};
use crate::tasks::worker::process::stop::StopFlag;

pub use super::socket::Received;

/// The receive buffer of a client that makes its slowness felt; the system rounds it up.
const SMALL_BUFFER_BYTES: usize = 2048;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// What comes while a client leaves isn't read for longer than this.
const LEAVE_LIMIT: Duration = Duration::from_millis(200);

/// One connection to a worker. Dropping it closes it.
#[derive(Debug)]
pub struct RawConnection {
    socket: Socket,
    port: u16,
    /// What has been received and isn't part of an answer read so far.
    received: Vec<u8>,
    /// When the last of it was.
    received_at: Instant,
    /// Whether the last answer leaves it open for another request.
    keeps_open: bool,
}

impl RawConnection {
    /// Connects to whatever listens on this loopback port. Fails with [`NoAnswer`].
    pub fn open(port: u16, limit: Duration, stop: &StopFlag) -> Result<Self> {
        Self::open_at(Ipv4Addr::LOCALHOST.into(), port, limit, stop)
    }

    /// The same at another of this machine's addresses.
    pub fn open_at(at: IpAddr, port: u16, limit: Duration, stop: &StopFlag) -> Result<Self> {
        Self::connect((at, port).into(), limit, stop, None)
    }

    /// The same with a receive buffer so small that not reading is soon felt by the sender.
    pub fn open_narrow(port: u16, limit: Duration, stop: &StopFlag) -> Result<Self> {
        let at = (Ipv4Addr::LOCALHOST, port).into();
        Self::connect(at, limit, stop, Some(SMALL_BUFFER_BYTES))
    }

    fn connect(
        at: SocketAddr,
        limit: Duration,
        stop: &StopFlag,
        buffer: Option<usize>,
    ) -> Result<Self> {
        stop.check()?;
        let socket = Socket::connect(at, limit, stop, buffer);
        // It says so where the error is ours.
        stop.check()?;
        let socket = socket.map_err(|error| NoAnswer {
            request: String::from("connecting"),
            cause: error.to_string(),
        })?;
        Ok(Self {
            socket,
            port: at.port(),
            received: Vec::new(),
            received_at: Instant::now(),
            keeps_open: false,
        })
    }

    /// Whether the last answer leaves it open for another request.
    pub fn keeps_open(&self) -> bool {
        self.keeps_open
    }

    /// Writes all of these bytes. Fails with [`NoAnswer`] where the other side doesn't take them.
    pub fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<()> {
        let written = self.socket.write_all(bytes, Instant::now() + limit);
        written.map_err(|error| match error {
            WriteError::Interrupted(interrupted) => interrupted.into(),
            WriteError::Refused(error, sent) => NoAnswer {
                request: format!("sending {} bytes", bytes.len()),
                cause: format!("{error} after {sent} bytes"),
            }
            .into(),
        })
    }

    /// Sends a request as a well-behaved client spells it.
    pub fn send_request(&mut self, request: &Request, limit: Duration) -> Result<()> {
        self.send(&request.to_bytes(self.port), limit)
    }

    /// t0 of the request that is under way; `None` where nothing of it has been sent.
    pub fn sent(&self) -> Option<Instant> {
        self.socket.sent()
    }

    /// Waits for whatever comes next, up to `at_most` bytes of it.
    pub fn receive(&mut self, at_most: usize, limit: Duration) -> Result<Received> {
        let mut buffer = vec![0; at_most.clamp(1, READ_BYTES)];
        let deadline = Instant::now() + limit;
        let (received, at) = self.socket.read(&mut buffer, deadline)?;
        if let Received::Bytes(count) = received {
            self.received.extend_from_slice(&buffer[..count]);
        }
        self.received_at = at;
        Ok(received)
    }

    /// Takes what has arrived by now, without waiting for more.
    pub fn take_arrived(&mut self) -> Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        // One buffer after the other as long as they are full, up to what any answer has.
        while self.received.len() < ANSWER_BYTES {
            let count = self.socket.read_arrived(&mut buffer)?;
            self.received.extend_from_slice(&buffer[..count]);
            self.received_at = Instant::now();
            if count < buffer.len() {
                break;
            }
        }
        Ok(())
    }

    /// Everything that has been received and wasn't part of an answer read so far, and when the
    /// last of it was.
    pub fn received(&self) -> (&[u8], Instant) {
        (&self.received, self.received_at)
    }

    /// Reads on until one whole answer is there. `name` says to what, for messages.
    ///
    /// Fails with [`NoAnswer`]. What follows the answer stays for the next one.
    pub fn read_answer(&mut self, name: &str, limit: Duration) -> Result<Response> {
        self.read(AnswerParser::default(), name, limit)
    }

    fn read(&mut self, mut parser: AnswerParser, name: &str, limit: Duration) -> Result<Response> {
        let deadline = Instant::now() + limit;
        let (mut body, mut taken) = (Vec::new(), 0);
        let mut cause = None;
        loop {
            taken += parser.push(&self.received[taken..], |bytes| {
                body.extend_from_slice(bytes)
            });
            if parser.is_whole() {
                break;
            }
            if parser.is_broken() {
                cause.get_or_insert_with(|| String::from("no HTTP answer"));
            }
            if let Some(cause) = cause {
                let got = self.received.len();
                let (request, cause) = (name.to_owned(), format!("{cause} after {got} bytes"));
                return Err(NoAnswer { request, cause }.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            cause = match self.receive(READ_BYTES, left)? {
                // That bytes flow is no reason to wait for ever.
                Received::Bytes(_) if !left.is_zero() => None,
                Received::Bytes(_) | Received::Nothing => {
                    Some(format!("no whole answer within {} s", limit.as_secs_f64()))
                }
                Received::End => {
                    parser.end();
                    Some(String::from("hung up"))
                }
                Received::Reset => Some(String::from("reset the connection")),
                Received::TooMuch => Some(too_much()),
            };
        }
        self.received.drain(..taken);
        let sent = self.socket.sent().unwrap_or(self.received_at);
        self.socket.begin_anew();
        let head = parser.head().cloned().unwrap_or_default();
        self.keeps_open = parser.keeps_open();
        Ok(Response {
            request: name.to_owned(),
            status: head.status,
            headers: head.headers,
            body,
            sent,
            received: self.received_at,
        })
    }

    /// Goes away as a client does that is done: with a FIN.
    pub fn leave(mut self) -> Result<()> {
        self.before_leaving()
    }

    /// Makes dropping it an orderly end.
    pub fn before_leaving(&mut self) -> Result<()> {
        // Closing with unread bytes would be a reset.
        let mut buffer = [0; 4096];
        let began = Instant::now();
        while self.socket.read_arrived(&mut buffer)? > 0 && began.elapsed() < LEAVE_LIMIT {}
        Ok(())
    }

    /// Goes away as a client does that crashes: with a RST.
    pub fn reset(self) -> Result<()> {
        self.before_resetting()
    }

    /// Makes dropping it a crash.
    pub fn before_resetting(&self) -> Result<()> {
        Ok(self.socket.reset_when_dropped()?)
    }
}

/// Why nothing more was read.
pub fn too_much() -> String {
    format!("an answer of more than {} MiB", ANSWER_BYTES >> 20)
}

/// Sends these bytes on a connection of its own and reads one answer. Fails with [`NoAnswer`].
pub fn exchange(
    port: u16,
    name: &str,
    bytes: &[u8],
    limit: Duration,
    stop: &StopFlag,
) -> Result<Response> {
    let mut connection = RawConnection::open(port, limit, stop)?;
    // Who refuses early need not take the rest: the answer is what counts.
    let sent = connection.send(bytes, limit);
    stop.check()?;
    let parser = match bytes.starts_with(b"HEAD ") {
        true => AnswerParser::without_body(),
        false => AnswerParser::default(),
    };
    match connection.read(parser, name, limit) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A client of a listener, the accepted socket, and the client's flag.
    fn connected() -> (RawConnection, TcpStream, StopFlag) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = StopFlag::default();
        let client = RawConnection::open(port, LIMIT, &stop).unwrap();
        (client, listener.accept().unwrap().0, stop)
    }

    #[test]
    fn leaving_is_a_fin_even_with_unread_bytes() {
        let (client, mut server, _) = connected();
        server.write_all(b"unread").unwrap();
        client.leave().unwrap();
        assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn a_reset_is_a_reset() {
        let (client, mut server, _) = connected();
        client.reset().unwrap();
        let error = server.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_missing_has_a_name() {
        let (mut client, mut server, _) = connected();
        server.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        drop(server);
        let error = client.read_answer("GET /x", LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "GET /x: hung up after 17 bytes");
    }

    #[test]
    fn answers_follow_each_other_on_one_connection() {
        let (mut client, mut server, _) = connected();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        server
            .write_all(&[answer, &b"hi"[..]].concat().repeat(2))
            .unwrap();
        for _ in 0..2 {
            client.send(b"x", LIMIT).unwrap();
            let answer = client.read_answer("GET /x", LIMIT).unwrap();
            assert_eq!(answer.body, b"hi");
        }
        assert!(client.received().0.is_empty());
    }

    #[test]
    fn a_raised_flag_ends_every_wait() {
        let (mut client, _server, stop) = connected();
        stop.raise(15);
        assert!(client.receive(1, LIMIT).is_err());
        assert!(client.send(b"x", LIMIT).is_err());
    }

    #[test]
    fn the_answer_to_head_ends_with_its_head() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut accepted, _) = listener.accept().unwrap();
                let mut buffer = [0; 1024];
                let _ = accepted.read(&mut buffer).unwrap();
                let head = b"HTTP/1.1 405 No\r\nContent-Length: 20\r\nAllow: GET\r\n\r\n";
                accepted.write_all(head).unwrap();
                // The connection stays open: nothing but the head says that the answer is over.
                let _ = accepted.read(&mut buffer);
            });
            let stop = StopFlag::default();
            let request = b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n";
            let answer = exchange(port, "HEAD /x", request, LIMIT, &stop).unwrap();
            assert_eq!((answer.status, answer.body.len()), (405, 0));
            assert_eq!(answer.header("allow"), Some("GET"));
        });
    }
}
