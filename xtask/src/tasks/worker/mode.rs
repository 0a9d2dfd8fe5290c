//! What a run is for: checks, figures, and either of them on all backends.

pub mod bench;
pub mod greedy;
pub mod matrix;
pub mod suite;
pub mod tare;
