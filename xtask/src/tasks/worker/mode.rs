//! What a run is for: checks, figures, many workers at once, and any of them on all backends.

pub mod bench;
mod beside;
pub mod calibrate;
pub mod greedy;
pub mod matrix;
pub mod reference;
pub mod stress;
pub mod suite;
mod tried;
