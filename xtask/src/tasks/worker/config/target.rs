//! Which worker a run tests, and how it is talked to. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::command::{CommandTemplate, Placeholder};

/// Which worker is tested, and how it is talked to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetConfig {
    /// Where the worker comes from.
    pub source: WorkerSource,
    /// How it is talked to.
    pub dialect: DialectName,
    /// How servers of its kind differ from their dialect.
    pub profile: Option<ProfileName>,
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
    /// A server that runs already.
    Attached(Attachment),
}

/// Where a server runs that is neither started nor stopped: on this machine, as all of its traffic is
/// measured on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// Its port.
    pub port: u16,
}

impl std::str::FromStr for Attachment {
    type Err = String;

    /// Reads `http://127.0.0.1:8080`, with `localhost` and a `/v1` as OpenAI's clients have it.
    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://");
        let rest = rest.ok_or("it must begin with http://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !["", "v1", "v1/"].contains(&path) {
            return Err(format!("/{path}: give the address alone, without a path"));
        }
        let (host, port) = authority.rsplit_once(':').ok_or("it has no port")?;
        if !["127.0.0.1", "localhost"].contains(&host) {
            return Err(format!(
                "{host} is not this machine's 127.0.0.1\n  try: ssh -L 8080:127.0.0.1:PORT {host}, then http://127.0.0.1:8080"
            ));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self { port }),
            _ => Err(format!("{port} is no port")),
        }
    }
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://127.0.0.1:{}", self.port)
    }
}

/// The protocols that are spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DialectName {
    /// The contract of this repository
    #[default]
    Rbee,
    /// OpenAI's completions and chat completions, as most servers speak them
    Openai,
}

/// Servers that differ from OpenAI's reference by their own documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProfileName {
    /// OpenAI's reference, and nothing else
    #[default]
    Openai,
    /// llama.cpp's llama-server
    LlamaServer,
    /// The server of llama-cpp-python
    LlamaCppPython,
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
            name if name.contains('\0') => Err(String::from("a name can't contain a zero byte")),
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
        let openai_only = [
            ("--profile", self.profile.is_some()),
            ("--model-name", self.model_name.is_some()),
            ("--api-key-env", self.api_key_env.is_some()),
        ];
        for (option, is_given) in openai_only {
            ensure!(
                !is_given || self.dialect == DialectName::Openai,
                "{option} needs --dialect openai"
            );
        }
        if let WorkerSource::Command(template) = &self.source
            && self.dialect == DialectName::Rbee
            && !self.no_heartbeat
        {
            ensure!(
                template.has(Placeholder::HiveUrl),
                "--worker-cmd has no {{hive_url}}, so the worker cannot send heartbeats\n  try: add it, or --no-heartbeat"
            );
        }
        Ok(())
    }

    /// The server that runs already, where one is meant.
    pub fn attached(&self) -> Option<Attachment> {
        match self.source {
            WorkerSource::Attached(server) => Some(server),
            WorkerSource::Workspace | WorkerSource::Binary(_) | WorkerSource::Command(_) => None,
        }
    }

    /// Each option by its name on the command line.
    pub fn options(&self) -> BTreeMap<String, Value> {
        let dialect = self.dialect.to_possible_value();
        let profile = self.profile.and_then(|profile| profile.to_possible_value());
        let (mut binary, mut command, mut attached) = (None, None, None);
        match &self.source {
            WorkerSource::Workspace => {}
            WorkerSource::Binary(path) => binary = Some(path),
            WorkerSource::Command(template) => command = Some(template.as_str()),
            WorkerSource::Attached(server) => attached = Some(server.to_string()),
        }
        let options = json!({
            "worker-bin": binary.map(|path| Path::to_string_lossy(path)),
            "worker-cmd": command,
            "attach": attached,
            "dialect": dialect.map(|value| value.get_name().to_owned()),
            "profile": profile.map(|value| value.get_name().to_owned()),
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

    fn refused(change: impl FnOnce(&mut TargetConfig)) -> String {
        let mut config = TargetConfig::default();
        change(&mut config);
        config
            .validate()
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_belongs_to_one_dialect_is_refused_with_another() {
        assert!(refused(|c| c.model_name = Some(String::from("m"))).contains("--model-name"));
        assert!(refused(|c| c.api_key_env = Some(String::from("K"))).contains("--api-key-env"));
        assert!(refused(|c| c.profile = Some(ProfileName::Openai)).contains("--profile"));
        let openai = |c: &mut TargetConfig| {
            c.dialect = DialectName::Openai;
            c.model_name = Some(String::from("m"));
        };
        assert_eq!(refused(openai), "");
    }

    #[test]
    fn a_server_is_attached_to_by_its_address_on_this_machine() {
        for good in [
            "http://127.0.0.1:8080",
            "http://localhost:8080/",
            "http://127.0.0.1:8080/v1",
        ] {
            assert_eq!(good.parse(), Ok(Attachment { port: 8080 }), "{good}");
        }
        for (bad, part) in [
            ("127.0.0.1:8080", "http://"),
            ("https://127.0.0.1:8080", "http://"),
            ("http://127.0.0.1", "no port"),
            ("http://127.0.0.1:0", "0 is no port"),
            ("http://127.0.0.1:8080/v1/models", "without a path"),
            ("http://gpu-box:8080", "ssh -L"),
        ] {
            let error = bad.parse::<Attachment>().unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn a_worker_that_is_not_told_where_the_hive_is_sends_no_heartbeats() {
        let command = |text: &str| WorkerSource::Command(text.parse().unwrap());
        let message = refused(|c| c.source = command("w {port}"));
        assert!(
            message.contains("{hive_url}") && message.contains("--no-heartbeat"),
            "{message}"
        );
        assert_eq!(refused(|c| c.source = command("w {port} {hive_url}")), "");
        let without = |c: &mut TargetConfig| {
            c.source = command("w {port}");
            c.no_heartbeat = true;
        };
        assert_eq!(refused(without), "");
    }

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
