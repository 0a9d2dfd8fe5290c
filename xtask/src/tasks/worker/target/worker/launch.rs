//! How a worker is started, and how it is talked to.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::tasks::worker::config::command::{CommandTemplate, Placeholder};
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::target::dialect::{Dialect, Promise};

/// The variable that holds a worker's secret.
pub const TOKEN_VARIABLE: &str = "WORKER_API_TOKEN";

/// Where a worker listens whose command line has a place for that.
const HOST: &str = "127.0.0.1";

/// The contract's own interval.
const DEFAULT_INTERVAL_SECS: u64 = 30;

/// How a worker is started, and how it is talked to.
#[derive(Debug, Clone)]
pub struct Launch {
    /// How it is talked to.
    pub dialect: &'static dyn Dialect,
    /// What is started.
    pub program: Program,
    /// Its name.
    pub worker_id: String,
    /// The model's file.
    pub model: PathBuf,
    /// What heartbeats call the model.
    pub model_ref: String,
    /// What it computes on.
    pub backend: Backend,
    /// Which device of that backend.
    pub device: u32,
    /// Where it has to listen.
    pub port: u16,
    /// Where its heartbeats have to go.
    pub hive_url: String,
    /// The heartbeat interval; `None` leaves the worker its default.
    pub heartbeat_interval_secs: Option<u64>,
    /// Whether it sends heartbeats.
    pub has_heartbeat: bool,
    /// The secret that it demands from its clients.
    pub token: Option<String>,
    /// More of the contract's options, and other values for those above.
    pub more: Vec<(&'static str, String)>,
}

/// What is started as a worker.
#[derive(Debug, Clone)]
pub enum Program {
    /// A binary that takes the contract's arguments.
    Contract(PathBuf),
    /// Another program, with a command line of its own.
    Template(CommandTemplate),
    /// Nothing: it runs already.
    Attached,
}

impl Launch {
    /// Adds these options, and gives others of the contract's options these values. A command line of
    /// its own has no place for them.
    pub fn set(&mut self, options: &[(&'static str, &str)]) {
        let options = options.iter();
        self.more
            .extend(options.map(|&(name, value)| (name, value.to_owned())));
    }

    /// Why a worker that is started like this doesn't make the promise; `None` where it does.
    pub fn lacks(&self, promise: Promise) -> Option<String> {
        match (promise, &self.program) {
            (
                Promise::CommandLine
                | Promise::OwnProcess
                | Promise::EarlyPort
                | Promise::Loopback
                | Promise::Logs
                | Promise::Stages
                | Promise::Heartbeats,
                Program::Attached,
            ) => Some(String::from(
                "--attach: the server's process is not the run's to start, watch or stop",
            )),
            (Promise::CommandLine, Program::Contract(_)) => None,
            (Promise::CommandLine, Program::Template(_)) => Some(String::from(
                "the command line of --worker-cmd has no place for the contract's options",
            )),
            (Promise::Loopback, Program::Template(template))
                if !template.has(Placeholder::Host) =>
            {
                Some(String::from(
                    "--worker-cmd has no {host}: the server was not told where to listen",
                ))
            }
            _ if !self.dialect.promises(promise) => {
                Some(format!("the protocol has no {}", promise.name()))
            }
            (Promise::Heartbeats, _) if !self.has_heartbeat => {
                Some(String::from("--no-heartbeat: the worker sends none"))
            }
            _ => None,
        }
    }

    /// The program and its arguments.
    pub fn command_line(&self) -> Vec<OsString> {
        match &self.program {
            Program::Contract(binary) => {
                let mut words = vec![binary.clone().into_os_string()];
                words.extend(self.arguments());
                words
            }
            Program::Template(template) => template.fill(|placeholder| self.value(placeholder)),
            Program::Attached => Vec::new(),
        }
    }

    fn value(&self, placeholder: Placeholder) -> OsString {
        match placeholder {
            Placeholder::Model => self.model.clone().into(),
            Placeholder::Port => self.port.to_string().into(),
            Placeholder::Host => HOST.into(),
            Placeholder::Backend => self.backend.as_str().into(),
            Placeholder::Device => self.device.to_string().into(),
            Placeholder::WorkerId => self.worker_id.clone().into(),
            Placeholder::ModelRef => self.model_ref.clone().into(),
            Placeholder::HiveUrl => self.hive_url.clone().into(),
            Placeholder::HeartbeatInterval => {
                let interval_secs = self.heartbeat_interval_secs;
                let interval_secs = interval_secs.unwrap_or(DEFAULT_INTERVAL_SECS);
                interval_secs.to_string().into()
            }
        }
    }

    /// The contract's arguments.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            ("--worker-id", OsString::from(&self.worker_id)),
            ("--model", self.model.clone().into()),
            ("--model-ref", self.model_ref.clone().into()),
            ("--backend", self.backend.as_str().into()),
            ("--device", self.device.to_string().into()),
            ("--port", self.port.to_string().into()),
            ("--hive-url", self.hive_url.clone().into()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [OsString::from(name), value])
        .collect();
        if let Some(interval_secs) = self.heartbeat_interval_secs {
            arguments.extend([
                "--heartbeat-interval".into(),
                interval_secs.to_string().into(),
            ]);
        }
        for (option, value) in &self.more {
            set(&mut arguments, option, value);
        }
        arguments
    }
}

/// Sets an option's value, or adds the option.
fn set(arguments: &mut Vec<OsString>, option: &str, value: &str) {
    match arguments.iter().position(|word| word == option) {
        Some(at) => arguments[at + 1] = value.into(),
        None => arguments.extend([option.into(), value.into()]),
    }
}

#[cfg(test)]
mod tests {
    use super::set;

    #[test]
    fn an_option_is_replaced_or_added() {
        let mut arguments = vec!["--port".into(), "1".into()];
        set(&mut arguments, "--port", "2");
        set(&mut arguments, "--host", "h");
        assert_eq!(arguments, ["--port", "2", "--host", "h"]);
    }
}
