//! How a worker is started, and how it is talked to.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::target::dialect::Dialect;

/// The variable that holds a worker's secret. What is in our own environment isn't meant for it.
pub const TOKEN_VARIABLE: &str = "WORKER_API_TOKEN";

/// How a worker is started, and how it is talked to: the contract's command line.
#[derive(Debug, Clone)]
pub struct Launch {
    /// How it is talked to.
    pub dialect: &'static dyn Dialect,
    /// The worker's binary.
    pub binary: PathBuf,
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
    /// The secret that it demands from its clients.
    pub token: Option<String>,
    /// More of the contract's options, and other values for those above.
    pub more: Vec<(&'static str, String)>,
}

impl Launch {
    /// Adds these options, and gives others of the contract's options these values.
    pub fn set(&mut self, options: &[(&'static str, &str)]) {
        let options = options.iter();
        self.more
            .extend(options.map(|&(name, value)| (name, value.to_owned())));
    }

    /// The contract's arguments.
    pub fn arguments(&self) -> Vec<OsString> {
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
