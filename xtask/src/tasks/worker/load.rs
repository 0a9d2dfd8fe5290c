//! The load generator, what it does in a measured window or for hours, and the samples that come of it.

pub mod calibrated;
pub mod calibration_server;
pub mod conversations;
pub mod generator;
pub mod polling;
pub mod sample;
pub mod sustained;
pub mod windowed;
