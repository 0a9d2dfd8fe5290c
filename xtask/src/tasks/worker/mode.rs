//! Ways to use a worker: the suite of checks, and that on all backends.

pub mod greedy;
pub mod matrix;
pub mod suite;
