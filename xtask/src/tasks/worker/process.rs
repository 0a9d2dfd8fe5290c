//! Processes and the machine: groups, their registry and reaper, logs, ports, what systems tell.
//! Nothing in here knows of models or workers.

pub mod git;
pub mod gpu;
pub mod group;
mod identity;
pub mod inheritance;
pub mod jitter;
pub mod lock;
pub mod log;
pub mod panics;
pub mod platform;
pub mod port;
pub mod python;
pub mod reaper;
pub mod registry;
pub mod secrets;
pub mod signals;
pub mod stop;
pub mod strays;
pub mod supervisor;
pub mod tool;
pub mod vitals;
pub mod wait;
