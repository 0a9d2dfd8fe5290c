//! Ways to use a worker: the suite of checks.

pub mod suite;
