//! Bytes on sockets: connections with deadlines, size limits and time stamps, framing, events.

pub mod client;
pub mod framing;
#[cfg(test)]
mod fuzz;
#[cfg(all(test, unix))]
mod hostile;
pub mod http;
pub mod raw;
mod reader;
pub mod recording;
mod socket;
pub mod sse;
pub mod stream;
mod transport;
