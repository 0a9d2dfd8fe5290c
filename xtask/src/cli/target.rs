//! The options of `worker:test` that say which worker is tested, as types.

use std::path::PathBuf;

use clap::Args;

use crate::tasks::worker::config::command::CommandTemplate;
use crate::tasks::worker::config::target::{
    Attachment, DialectName, ProfileName, TargetConfig, WorkerSource, WorkerVariable,
};

/// Which worker is tested, and how it is talked to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Worker")]
pub struct TargetArgs {
    /// Another worker binary that takes the contract's arguments [default: built from this
    /// workspace]
    #[arg(long, value_name = "PATH")]
    worker_bin: Option<PathBuf>,
    /// Another server, started by this command line, which is split as a shell would but run without
    /// one. {model}, {port}, {host}, {backend}, {device}, {worker_id}, {model_ref}, {hive_url} and
    /// {heartbeat_interval} are filled in; {{ is a brace
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "worker_bin")]
    worker_cmd: Option<CommandTemplate>,
    /// A server that is already running on this machine: it is neither started nor stopped
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = ["worker_bin", "worker_cmd", "all_backends", "stress", "soak"]
    )]
    attach: Option<Attachment>,
    /// An environment variable for the worker, with this value or the one it has here, in addition to
    /// PATH, HOME, the locale, and what sets up devices and compute libraries; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    worker_env: Vec<WorkerVariable>,
    /// The protocol that the worker speaks
    #[arg(long, value_enum, default_value = "rbee")]
    dialect: DialectName,
    /// Allow the differences from OpenAI's reference that this kind of server documents
    #[arg(long, value_enum)]
    profile: Option<ProfileName>,
    /// The model's name in requests [default: the value of --model-ref]
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,
    /// The environment variable that holds the server's API key
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// The worker sends no heartbeats: skip their checks
    #[arg(long)]
    no_heartbeat: bool,
}

impl TargetArgs {
    /// Which worker is meant.
    pub fn into_config(self) -> TargetConfig {
        let binary = self.worker_bin.map(WorkerSource::Binary);
        let command = self.worker_cmd.map(WorkerSource::Command);
        let attached = self.attach.map(WorkerSource::Attached);
        TargetConfig {
            source: binary.or(command).or(attached).unwrap_or_default(),
            dialect: self.dialect,
            profile: self.profile,
            model_name: self.model_name,
            api_key_env: self.api_key_env,
            no_heartbeat: self.no_heartbeat,
            env: self.worker_env,
        }
    }
}
