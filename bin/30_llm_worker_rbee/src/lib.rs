//! The worker's parts. Only `life` knows them all: routes know no tensor library, the engine knows
//! no HTTP, the heartbeat knows neither.

pub mod api;
pub mod auth;
pub mod body;
pub mod chat_template;
pub mod cli;
pub mod error;
pub mod grammar;
pub mod heartbeat;
pub mod hive_url;
pub mod host;
pub mod life;
pub mod log;
pub mod metrics;
pub mod routes;
pub mod server;
pub mod shutdown;
pub mod sse;
pub mod state;

pub use llm_engine as engine;
