//! What we touch: the only place with sockets and processes.

pub mod auxiliary;
pub mod dialect;
pub mod hive;
pub mod logs_of_check;
pub mod observations;
pub mod open_stream;
pub mod recorder;
pub mod reference;
pub mod silence;
pub mod stream;
mod subject;
pub mod worker;

pub use self::subject::{Deadline, RunContext, RunSettings, Subject};
