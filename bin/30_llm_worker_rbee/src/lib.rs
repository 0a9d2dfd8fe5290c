//! The worker's parts. Only `main` knows them all: routes know no tensor library, the engine knows
//! no HTTP, the heartbeat knows neither.

pub mod engine;
