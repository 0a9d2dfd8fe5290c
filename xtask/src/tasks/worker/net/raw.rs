//! HTTP that no library would send: half requests, single bytes, a client that leaves or resets,
//! connections that do nothing, answers that are read byte by byte.
//!
//! Knows no path and no field; where an answer ends is known to `framing.rs`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, SockRef, Socket, Type};

use super::client::{NoAnswer, Request, Response};
use super::framing::parse;
use crate::tasks::worker::process::stop::StopFlag;

/// How often a read or a write that is under way looks at the stop flag.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The receive buffer of a client that makes its slowness felt; the system rounds it up.
const SMALL_BUFFER_BYTES: usize = 2048;

/// One connection to a worker. Dropping it closes it.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    stop: StopFlag,
    opened: Instant,
    received: Vec<u8>,
}

/// What came next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many more bytes.
    Bytes(usize),
    /// The other side has said all it had to say.
    End,
    /// The other side broke the connection off.
    Reset,
    /// Nothing, until the time was up.
    Nothing,
}

impl RawConnection {
    /// Connects to whatever listens on this loopback port. Fails with [`NoAnswer`].
    pub fn open(port: u16, limit: Duration, stop: &StopFlag) -> Result<Self> {
        Self::open_at(Ipv4Addr::LOCALHOST, port, limit, stop)
    }

    /// The same at another of this machine's addresses.
    pub fn open_at(at: Ipv4Addr, port: u16, limit: Duration, stop: &StopFlag) -> Result<Self> {
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
        let open = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            if let Some(bytes) = buffer {
                // It has to be set before the connection is made, when the window is agreed on.
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.connect_timeout(&at.into(), limit)?;
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(POLL_INTERVAL))?;
            stream.set_write_timeout(Some(POLL_INTERVAL))?;
            Ok(stream)
        };
        let stream = open().map_err(|error| NoAnswer {
            request: String::from("connecting"),
            cause: error.to_string(),
        })?;
        Ok(Self {
            stream,
            stop: stop.clone(),
            opened: Instant::now(),
            received: Vec::new(),
        })
    }

    /// Writes all of these bytes. Fails with [`NoAnswer`] where the other side doesn't take them.
    pub fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<()> {
        let began = Instant::now();
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stop.check()?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if is_temporary(&error) && began.elapsed() < limit => {}
                Err(error) => {
                    let sent = bytes.len() - rest.len();
                    return Err(NoAnswer {
                        request: format!("sending {} bytes", bytes.len()),
                        cause: format!("{error} after {sent} bytes"),
                    }
                    .into());
                }
            }
        }
        Ok(())
    }

    /// Waits for whatever comes next, up to `at_most` bytes of it.
    pub fn receive(&mut self, at_most: usize, limit: Duration) -> Result<Received> {
        let began = Instant::now();
        let mut buffer = vec![0; at_most.clamp(1, 64 << 10)];
        loop {
            self.stop.check()?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Received::End),
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    return Ok(Received::Bytes(count));
                }
                Err(error) if is_temporary(&error) => {}
                Err(_) => return Ok(Received::Reset),
            }
            if began.elapsed() >= limit {
                return Ok(Received::Nothing);
            }
        }
    }

    /// Takes what has arrived by now, without waiting for more.
    pub fn take_arrived(&mut self) -> Result<()> {
        self.stop.check()?;
        self.stream.set_nonblocking(true)?;
        let mut buffer = vec![0; 64 << 10];
        // One buffer after the other as long as they are full: a quick sender could go on for ever.
        while let Ok(count) = self.stream.read(&mut buffer) {
            self.received.extend_from_slice(&buffer[..count]);
            if count < buffer.len() {
                break;
            }
        }
        self.stream.set_nonblocking(false)?;
        Ok(())
    }

    /// Everything that has been received and wasn't part of an answer read so far.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Reads on until one whole answer is there. `name` says to what, for messages.
    ///
    /// Fails with [`NoAnswer`]. What follows the answer stays for the next one.
    pub fn read_answer(&mut self, name: &str, limit: Duration) -> Result<Response> {
        let began = Instant::now();
        let mut at_end = false;
        loop {
            if let Some((mut answer, length)) = parse(&self.received, at_end) {
                self.received.drain(..length);
                answer.request = name.to_owned();
                answer.sent = self.opened;
                return Ok(answer);
            }
            let cause = match self.receive(usize::MAX, limit.saturating_sub(began.elapsed()))? {
                Received::Bytes(_) => continue,
                Received::End if !at_end => {
                    at_end = true;
                    continue;
                }
                Received::End => String::from("hung up"),
                Received::Reset => String::from("broke the connection off"),
                Received::Nothing => format!("no whole answer within {} s", limit.as_secs_f64()),
            };
            let got = self.received.len();
            let request = name.to_owned();
            let cause = format!("{cause} after {got} bytes");
            return Err(NoAnswer { request, cause }.into());
        }
    }

    /// Goes away as a client does that is done: with a FIN.
    pub fn leave(mut self) -> Result<()> {
        self.before_leaving()
    }

    /// Makes dropping it an orderly end.
    pub fn before_leaving(&mut self) -> Result<()> {
        // Closing with unread bytes would be a reset.
        self.stream.set_nonblocking(true)?;
        let mut buffer = [0; 4096];
        while matches!(self.stream.read(&mut buffer), Ok(1..)) {}
        Ok(())
    }

    /// Goes away as a client does that crashes: with a RST.
    pub fn reset(self) -> Result<()> {
        self.before_resetting()
    }

    /// Makes dropping it a crash.
    pub fn before_resetting(&self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }
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
    match connection.read_answer(name, limit) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

/// The bytes of a request as a client sends them.
pub fn spell(request: &Request) -> Vec<u8> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: 127.0.0.1\r\n",
        request.method, request.path
    );
    let mut body: &[u8] = &[];
    if let Some((content_type, bytes)) = &request.body {
        let length = bytes.len();
        head.push_str(&format!(
            "content-type: {content_type}\r\ncontent-length: {length}\r\n"
        ));
        body = bytes;
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

fn is_temporary(error: &io::Error) -> bool {
    // Windows says TimedOut where Unix says WouldBlock.
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A listener, a client of it, and the accepted socket.
    fn connected() -> (RawConnection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = RawConnection::open(port, LIMIT, &StopFlag::default()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn leaving_is_a_fin_even_with_unread_bytes() {
        let (client, mut server) = connected();
        server.write_all(b"unread").unwrap();
        client.leave().unwrap();
        assert_eq!(server.read(&mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn a_reset_is_a_reset() {
        let (client, mut server) = connected();
        client.reset().unwrap();
        let error = server.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_missing_has_a_name() {
        let (mut client, mut server) = connected();
        server.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        drop(server);
        let error = client.read_answer("GET /x", LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "GET /x: hung up after 17 bytes");
    }

    #[test]
    fn a_raised_flag_ends_every_wait() {
        let (mut client, _server) = connected();
        client.stop.raise(15);
        assert!(client.receive(1, LIMIT).is_err());
        assert!(client.send(b"x", LIMIT).is_err());
    }
}
