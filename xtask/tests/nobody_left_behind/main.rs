//! Whole runs of the real binary, ended in every way there is, and a look at the process table
//! afterwards. Linux: elsewhere there is no `/proc` to look into.

#![cfg(target_os = "linux")]

mod crowd;
mod evidence;
mod logs;
mod matrix;
mod ports;
mod reaper;
mod run;
mod ways_out;
