//! The load generator: streams of requests, their windows, and the samples that come of them.

pub mod calibration_server;
pub mod drive;
pub mod polling;
pub mod prompts;
pub mod strain;
pub mod timed;
