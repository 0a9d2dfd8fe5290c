//! What we know: a run as data. Pure: no clock, file, socket or process, and nothing printed.

pub mod event;
pub mod report;
