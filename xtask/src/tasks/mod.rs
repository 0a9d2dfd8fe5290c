//! The list of tasks.

pub mod worker;
