//! Which worker a run tests, and how it is talked to. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::command::CommandTemplate;

/// Which worker is tested, and how it is talked to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetConfig {
    /// Where the worker comes from.
    pub source: WorkerSource,
    /// How it is talked to.
    pub dialect: DialectName,
    /// What requests call its model.
    pub model_name: Option<String>,
    /// The variable that holds the key which requests carry.
    pub api_key_env: Option<String>,
    /// Whether it sends no heartbeats, although its dialect promises them.
    pub no_heartbeat: bool,
    /// What it gets of our environment besides what every program needs, or with other values.
    pub env: Vec<WorkerVariable>,
}

/// Where the worker comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum WorkerSource {
    /// It is built from this workspace.
    #[default]
    Workspace,
    /// A binary that takes the contract's arguments.
    Binary(PathBuf),
    /// Another program, with a command line of its own.
    Command(CommandTemplate),
}

/// The protocols that are spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// The contract of this repository
    #[default]
    Rbee,
}

/// A variable for the worker: `NAME`, whose value is ours, or `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerVariable {
    /// Its name.
    pub name: String,
    /// Its value; ours where it is `None`.
    pub value: Option<String>,
}

impl std::str::FromStr for WorkerVariable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        match name {
            "" => Err(String::from("no name before `=`")),
            name if name.contains('\0') => Err(String::from("a name can't hold a zero byte")),
            name => Ok(WorkerVariable {
                name: name.to_owned(),
                value,
            }),
        }
    }
}

impl TargetConfig {
    /// Refuses what can't work, in the words of the command line.
    pub fn validate(&self) -> Result<()> {
        let is_name = |name: &String| !name.trim().is_empty();
        ensure!(
            self.model_name.as_ref().is_none_or(is_name),
            "--model-name must not be empty"
        );
        Ok(())
    }

    /// Each option by its name on the command line.
    pub fn options(&self) -> BTreeMap<String, Value> {
        let dialect = self.dialect.to_possible_value();
        let (mut binary, mut command) = (None, None);
        match &self.source {
            WorkerSource::Workspace => {}
            WorkerSource::Binary(path) => binary = Some(path),
            WorkerSource::Command(template) => command = Some(template.as_str()),
        }
        let options = json!({
            "worker-bin": binary.map(|path| Path::to_string_lossy(path)),
            "worker-cmd": command,
            "dialect": dialect.map(|value| value.get_name().to_owned()),
            "model-name": self.model_name,
            "api-key-env": self.api_key_env,
            "no-heartbeat": self.no_heartbeat,
            // Their values may be secrets.
            "worker-env": self.env.iter().map(|variable| &variable.name).collect::<Vec<_>>(),
        });
        serde_json::from_value(options).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_names_with_or_without_values() {
        let read = |text: &str| text.parse::<WorkerVariable>().map(|v| (v.name, v.value));
        assert_eq!(read("A"), Ok((String::from("A"), None)));
        assert_eq!(
            read("A=b=c"),
            Ok((String::from("A"), Some(String::from("b=c"))))
        );
        assert!(read("=b").is_err() && read("").is_err());
    }
}
