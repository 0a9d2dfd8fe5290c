//! One connection to a loopback port: bytes out and in, with a deadline that holds while bytes flow,
//! a limit on how many are read, and the moments that measures need. Knows nothing of HTTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket as Unconnected, Type};

use super::http::ANSWER_BYTES;
use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::stop::{Interrupted, StopFlag};

/// How soon a connection looks at its deadline and at the stop flag while nothing comes or goes.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    stop: StopFlag,
    /// Just before the first byte was written; `None` until then.
    sent: Option<Instant>,
    received: usize,
}

/// What came next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many more bytes.
    Bytes(usize),
    /// The other side has said all it had to say.
    End,
    /// The other side reset the connection.
    Reset,
    /// Nothing, until the deadline.
    Nothing,
    /// More than any answer has: nothing is read any more.
    TooMuch,
}

/// Why bytes weren't written.
#[derive(Debug)]
pub enum WriteError {
    /// The run was interrupted.
    Interrupted(Interrupted),
    /// The other side didn't take them in time, or not at all; so many had been written.
    Refused(io::Error, usize),
}

impl Socket {
    /// Connects within `limit`. `buffer` is the size of the receive buffer, where it matters.
    ///
    /// What we lack ourselves is nobody's silence: it raises the flag, and ends the run.
    pub fn connect(
        at: SocketAddr,
        limit: Duration,
        stop: &StopFlag,
        buffer: Option<usize>,
    ) -> io::Result<Self> {
        let connected = Self::connect_stream(at, limit, buffer);
        let stream = connected.inspect_err(|error| {
            if platform::is_want(error) {
                stop.fail(format!(
                    "cannot connect to a worker: {error}\n  try: ulimit -n 4096, or fewer \
                     connections at once"
                ));
            }
        })?;
        Ok(Self {
            stream,
            stop: stop.clone(),
            sent: None,
            received: 0,
        })
    }

    fn connect_stream(
        at: SocketAddr,
        limit: Duration,
        buffer: Option<usize>,
    ) -> io::Result<TcpStream> {
        let socket = Unconnected::new(Domain::for_address(at), Type::STREAM, None)?;
        if let Some(bytes) = buffer {
            // It has to be set before the connection is made, when the window is agreed on.
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect_timeout(&at.into(), limit)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_INTERVAL))?;
        stream.set_write_timeout(Some(LOOK_INTERVAL))?;
        Ok(stream)
    }

    /// t0 of the request that is under way: just before its first byte was written.
    pub fn sent(&self) -> Option<Instant> {
        self.sent
    }

    /// The connection alone, for whoever reads it.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The next byte that is written begins another request, and may get as long an answer again.
    pub fn begin_anew(&mut self) {
        self.sent = None;
        self.received = 0;
    }

    /// Writes all of these bytes before the deadline.
    pub fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), WriteError> {
        self.stop.check().map_err(WriteError::Interrupted)?;
        self.sent.get_or_insert_with(Instant::now);
        let mut written = 0;
        while written < bytes.len() {
            let error = match self.stream.write(&bytes[written..]) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(count) => {
                    written += count;
                    ErrorKind::TimedOut.into()
                }
                Err(error) => error,
            };
            self.stop.check().map_err(WriteError::Interrupted)?;
            let is_late = written < bytes.len() && Instant::now() >= deadline;
            if is_late || !is_temporary(&error) {
                return Err(WriteError::Refused(error, written));
            }
        }
        Ok(())
    }

    /// Waits until the deadline for whatever comes next; gives the moment right after it was read.
    ///
    /// Looks once, however late it is: that bytes flow keeps nobody from looking at the clock.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<(Received, Instant), Interrupted> {
        if self.received >= ANSWER_BYTES {
            return Ok((Received::TooMuch, Instant::now()));
        }
        loop {
            self.stop.check()?;
            let read = self.stream.read(buffer);
            let now = Instant::now();
            let received = match read {
                Ok(0) => Received::End,
                Ok(count) => {
                    self.received += count;
                    Received::Bytes(count)
                }
                Err(error) if !is_temporary(&error) => Received::Reset,
                Err(_) if now >= deadline => Received::Nothing,
                Err(_) => continue,
            };
            return Ok((received, now));
        }
    }

    /// What has arrived by now, without waiting for more.
    pub fn read_arrived(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_nonblocking(true)?;
        let read = self.stream.read(buffer);
        self.stream.set_nonblocking(false)?;
        let count = read.unwrap_or(0);
        self.received += count;
        Ok(count)
    }

    /// Makes dropping it a crash of the client: a RST.
    pub fn reset_when_dropped(&self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }
}

fn is_temporary(error: &io::Error) -> bool {
    // Windows says TimedOut where Unix says WouldBlock.
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
