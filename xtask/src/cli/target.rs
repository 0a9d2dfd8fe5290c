//! The options of `worker:test` that say which worker is tested, as types.

use std::path::PathBuf;

use clap::Args;

use crate::tasks::worker::config::command::CommandTemplate;
use crate::tasks::worker::config::target::{
    DialectName, TargetConfig, WorkerSource, WorkerVariable,
};

/// Which worker is tested, and how it is talked to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Worker")]
pub struct TargetArgs {
    /// Another worker binary that takes the contract's arguments [default: built from this
    /// workspace]
    #[arg(long, value_name = "PATH")]
    worker_bin: Option<PathBuf>,
    /// Another server by its own command line, which is split as a shell does it and runs without
    /// one. {model}, {port}, {host}, {backend}, {device}, {worker_id}, {model_ref}, {hive_url} and
    /// {heartbeat_interval} are filled in; {{ is a brace
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "worker_bin")]
    worker_cmd: Option<CommandTemplate>,
    /// A variable of the environment that the worker gets besides PATH, HOME, languages, and what
    /// devices and libraries that compute are set up with: its value here, where it has one, or this
    /// one; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    worker_env: Vec<WorkerVariable>,
    /// How the worker is talked to
    #[arg(long, value_enum, default_value = "rbee")]
    dialect: DialectName,
    /// The worker sends no heartbeats: their checks are skipped
    #[arg(long)]
    no_heartbeat: bool,
}

impl TargetArgs {
    /// Which worker is meant.
    pub fn into_config(self) -> TargetConfig {
        let binary = self.worker_bin.map(WorkerSource::Binary);
        let command = self.worker_cmd.map(WorkerSource::Command);
        TargetConfig {
            source: binary.or(command).unwrap_or_default(),
            dialect: self.dialect,
            model_name: None,
            api_key_env: None,
            no_heartbeat: self.no_heartbeat,
            env: self.worker_env,
        }
    }
}
