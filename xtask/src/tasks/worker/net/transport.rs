//! ureq over our own [`Socket`]: the same t0, the same deadline and the same limit as for bytes that
//! no library would send.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::raw::too_much;
use super::socket::{Received, Socket, WriteError};
use crate::tasks::worker::process::stop::StopFlag;

/// How much is read at once: more than the longest head of an answer that is taken.
const INPUT_BYTES: usize = 128 << 10;

/// How much is written at once; requests are short, and every connection fills its buffer with zeros.
const OUTPUT_BYTES: usize = 8 << 10;

/// Makes one connection to a loopback port, for one request.
#[derive(Debug)]
pub struct SocketConnector {
    /// Where to.
    pub port: u16,
    /// Until when everything has to be over.
    pub deadline: Instant,
    /// Ends it early.
    pub stop: StopFlag,
    /// Is told t0: just before the first byte is written.
    pub sent: Arc<OnceLock<Instant>>,
}

/// A connection as ureq wants it.
#[derive(Debug)]
pub struct SocketTransport {
    socket: Socket,
    buffers: LazyBuffers,
    deadline: Instant,
    sent: Arc<OnceLock<Instant>>,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<SocketTransport>, Error> {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let socket = Socket::connect(at, left, &self.stop, None)?;
        Ok(Some(SocketTransport {
            socket,
            buffers: LazyBuffers::new(INPUT_BYTES, OUTPUT_BYTES),
            deadline: self.deadline,
            sent: Arc::clone(&self.sent),
        }))
    }
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        let written = self.socket.write_all(output, self.deadline);
        if let Some(sent) = self.socket.sent() {
            let _ = self.sent.set(sent);
        }
        written.map_err(|error| match error {
            WriteError::Interrupted(interrupted) => Error::Other(interrupted.into()),
            WriteError::Refused(..) if Instant::now() >= self.deadline => {
                Error::Timeout(timeout.reason)
            }
            WriteError::Refused(error, _) => error.into(),
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let late = Error::Timeout(timeout.reason);
        // That bytes flow is no reason to go on for ever.
        if Instant::now() >= self.deadline {
            return Err(late);
        }
        let input = self.buffers.input_append_buf();
        let read = self.socket.read(input, self.deadline);
        match read {
            Ok((Received::Bytes(count), _)) => {
                self.buffers.input_appended(count);
                Ok(true)
            }
            Ok((Received::End, _)) => Ok(false),
            Ok((Received::Nothing, _)) => Err(late),
            Ok((Received::Reset, _)) => {
                Err(std::io::Error::from(ErrorKind::ConnectionReset).into())
            }
            Ok((Received::TooMuch, _)) => Err(Error::Other(too_much().into())),
            Err(interrupted) => Err(Error::Other(interrupted.into())),
        }
    }

    fn is_open(&mut self) -> bool {
        // No connection is used twice.
        false
    }
}
