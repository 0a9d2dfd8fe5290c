//! What we touch: the only place with sockets and processes.

pub mod auxiliary;
mod context;
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

pub use self::context::{Deadline, RunContext, RunSettings};
pub use self::subject::Subject;
