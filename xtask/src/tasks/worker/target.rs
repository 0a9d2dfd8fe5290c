//! What we touch: the only place with sockets and processes.

pub mod auxiliary;
pub mod dialect;
pub mod golden;
pub mod hive;
mod known;
pub mod observations;
pub mod open_stream;
pub mod pace;
pub mod recorder;
pub mod stream;
mod subject;
pub mod worker;

pub use self::subject::{RunContext, RunSettings, Subject};
