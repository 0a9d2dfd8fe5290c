//! What we know: a run as data. Pure: no clock, file, socket or process, and nothing printed.

pub mod backend;
pub mod baseline;
pub mod bench;
pub mod causes;
pub mod check;
pub mod compare;
pub mod contract;
pub mod event;
pub mod facts;
pub mod heartbeats;
pub mod matrix;
pub mod measure;
pub mod output;
pub mod random;
pub mod redact;
pub mod replay;
pub mod report;
pub mod runs_compared;
pub mod scenario;
pub mod stats;
pub mod steady;
pub mod stress;
pub mod timeline;
