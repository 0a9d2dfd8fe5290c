//! What a worker promises, and how each promise is tried. `table` lists all of it; each area has a
//! file of its own, with its rows, their experiments and their judgements together.

mod accepts;
mod against;
mod answers;
mod apart;
mod bench;
mod canary;
mod clients;
mod device;
mod drain;
mod freeze;
mod greedy;
mod health;
mod heartbeat;
mod hive;
mod inference;
pub mod judge;
mod leave;
pub mod lifecycle;
mod load;
mod loading;
mod logs;
mod matrix;
mod options;
mod queue;
mod ready;
mod refusals;
pub mod rhythm;
pub mod row;
mod shutdown;
mod start;
mod start_errors;
mod streaming;
mod streams;
mod stress;
pub mod table;
mod token;
