//! Bytes on sockets: connections with deadlines, size limits and time stamps, framing, events.

pub mod client;
pub mod framing;
pub mod raw;
pub mod sse;
