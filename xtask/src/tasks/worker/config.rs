//! What a run was asked to do, validated. Pure.

pub mod arguments;
pub mod benchmark;
pub mod command;
pub mod known_failures;
pub mod stress;
pub mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use self::benchmark::BenchmarkConfig;
use self::stress::StressConfig;
use self::target::TargetConfig;
use crate::tasks::worker::plan::Selection;
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::event::Purpose;
use crate::tasks::worker::record::output::{ReportKind, Verbosity};

/// The model of the original script, from the workspace root.
pub const DEFAULT_MODEL: &str = ".test-models/tinyllama/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf";

/// How long checks may be tried on a worker that serves: several times what all of them take on a slow
/// machine.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// No wait takes longer than a day.
const LONGEST_SECS: u64 = 24 * 60 * 60;

/// How events are shown on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One event a line, for machines.
    Json,
}

/// A report that was asked for: `KIND[=PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTarget {
    /// Which report.
    pub kind: ReportKind,
    /// Where it goes, `-` for standard output; beside the run's other files where it is `None`.
    pub path: Option<PathBuf>,
}

impl std::str::FromStr for ReportTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = match text.split_once('=') {
            Some((_, "")) => return Err(String::from("no path after `=`")),
            Some((kind, path)) => (kind, Some(PathBuf::from(path))),
            None => (text, None),
        };
        match ReportKind::from_name(kind) {
            Some(kind) => Ok(ReportTarget { kind, path }),
            None => Err(format!(
                "there is no report `{kind}`: {}",
                ReportKind::names()
            )),
        }
    }
}

/// Whose texts a worker is led along, where backends are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Teacher {
    /// Its own, which become the others' teacher.
    Own,
    /// Those in the report of an earlier run.
    Report(PathBuf),
}

/// What a run is for.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Mode {
    /// The promises, one after the other.
    #[default]
    Suite,
    /// Figures under load.
    Benchmark(Box<BenchmarkConfig>),
    /// Several workers at once.
    Stress(Box<StressConfig>),
}

/// What a run that isn't about the checks checks nevertheless: that there is a worker, and that it
/// stays in one piece.
const AROUND_A_LOAD: [&str; 3] = ["start.*", "lifecycle.*", "shutdown.orderly"];

/// The same where several workers share one hive, which a single worker's stop can't be seen in: the
/// stress run stops them all itself.
const AROUND_A_CREW: [&str; 2] = ["start.*", "lifecycle.*"];

impl Mode {
    /// The same for the record.
    pub fn purpose(&self) -> Purpose {
        match self {
            Mode::Suite => Purpose::Suite,
            Mode::Benchmark(_) => Purpose::Benchmark,
            Mode::Stress(_) => Purpose::Stress,
        }
    }

    /// The checks of this mode, where none were asked for.
    pub fn selection(&self, asked_for: Selection) -> Selection {
        let is_open = asked_for.suite.is_none() && asked_for.checks.is_empty();
        match self {
            Mode::Benchmark(_) if is_open => Selection {
                checks: AROUND_A_LOAD.map(str::to_owned).to_vec(),
                ..asked_for
            },
            Mode::Stress(_) => Selection {
                checks: AROUND_A_CREW.map(str::to_owned).to_vec(),
                ..asked_for
            },
            Mode::Suite | Mode::Benchmark(_) => asked_for,
        }
    }
}

/// One run of `worker:test`.
#[derive(Debug, Clone)]
pub struct WorkerTestConfig {
    /// What the worker is called in health answers and heartbeats.
    pub worker_id: String,
    /// The GGUF file; relative paths of the default start at the workspace root.
    pub model_path: PathBuf,
    /// Whether somebody asked for this very model: then nothing replaces it.
    pub model_is_explicit: bool,
    /// What the model says by another engine, where a file has it.
    pub reference: Option<PathBuf>,
    /// Where to write what this worker says.
    pub save_reference: Option<PathBuf>,
    /// What heartbeats call the model; derived from the model where it is empty.
    pub model_ref: String,
    /// What the worker computes on.
    pub backend: Backend,
    /// Which device of that backend.
    pub device: u32,
    /// The worker's port; 0 picks a free one.
    pub port: u16,
    /// The mock hive's port; 0 picks a free one.
    pub hive_port: u16,
    /// How long the worker may take to become ready.
    pub timeout_secs: u64,
    /// How long checks may be tried while the worker serves.
    pub time_limit: Duration,
    /// The heartbeat interval that the worker is asked for.
    pub heartbeat_interval_secs: u64,
    /// The longest wait for enough heartbeats.
    pub heartbeat_window_secs: u64,
    /// What the run is for.
    pub mode: Mode,
    /// Which checks run.
    pub selection: Selection,
    /// The text that the worker continues.
    pub prompt: String,
    /// How many tokens it may generate.
    pub max_tokens: u32,
    /// Which worker is tested.
    pub target: TargetConfig,
    /// After so many failed checks those that are left are skipped.
    pub max_fail: Option<u32>,
    /// The list of checks that are known to fail.
    pub known_failures: Option<PathBuf>,
    /// How many lines of the worker's log are shown.
    pub log_lines: usize,
    /// The Python that runs the mock hive; searched for where it is `None`.
    pub python: Option<PathBuf>,
    /// How events are shown on standard output.
    pub format: Format,
    /// How much is told there.
    pub verbosity: Verbosity,
    /// Reports besides those in the run's folder.
    pub reports: Vec<ReportTarget>,
    /// Along whose texts a worker like this one is led, where backends are compared.
    pub greedy: Option<Teacher>,
    /// Where runs keep their folders; `target/worker-test` of the workspace where it is `None`.
    pub artifacts: Option<PathBuf>,
}

impl Default for WorkerTestConfig {
    fn default() -> Self {
        Self {
            worker_id: format!("test-worker-{}", uuid::Uuid::new_v4()),
            model_path: PathBuf::from(DEFAULT_MODEL),
            model_is_explicit: false,
            reference: None,
            save_reference: None,
            model_ref: String::new(),
            backend: Backend::Cpu,
            device: 0,
            port: 18081,
            hive_port: 19200,
            timeout_secs: 30,
            time_limit: TIME_LIMIT,
            heartbeat_interval_secs: 1,
            heartbeat_window_secs: 10,
            mode: Mode::default(),
            selection: Selection::default(),
            prompt: String::from("Hello, how are you?"),
            max_tokens: 20,
            target: TargetConfig::default(),
            max_fail: None,
            known_failures: None,
            log_lines: 30,
            python: None,
            format: Format::Human,
            verbosity: Verbosity::Normal,
            reports: Vec::new(),
            greedy: None,
            artifacts: None,
        }
    }
}

impl WorkerTestConfig {
    /// Whether the run knows which model is tested: a server that runs already has one of its own.
    pub fn knows_model(&self) -> bool {
        self.target.attached().is_none() || self.model_is_explicit
    }

    /// Refuses what can't work, in the words of the command line.
    pub fn validate(self) -> Result<Self> {
        ensure!(
            !self.worker_id.trim().is_empty(),
            "--worker-id must not be empty"
        );
        ensure!(
            !self.worker_id.chars().any(char::is_control),
            "--worker-id must not contain control characters"
        );
        ensure!(
            self.port == 0 || self.port != self.hive_port,
            "--port and --hive-port are both {}: the worker and the mock hive need one each",
            self.port
        );
        for (option, seconds) in [
            ("--timeout", self.timeout_secs),
            ("--heartbeat-interval", self.heartbeat_interval_secs),
            ("--heartbeat-window", self.heartbeat_window_secs),
        ] {
            ensure!(
                (1..=LONGEST_SECS).contains(&seconds),
                "{option} {seconds} must be between 1 and {LONGEST_SECS} seconds"
            );
        }
        ensure!(
            self.heartbeat_window_secs >= 2 * self.heartbeat_interval_secs,
            "--heartbeat-window {} is too short to see heartbeats every {} s: it takes at least {}",
            self.heartbeat_window_secs,
            self.heartbeat_interval_secs,
            2 * self.heartbeat_interval_secs,
        );
        ensure!(!self.prompt.is_empty(), "--prompt must not be empty");
        ensure!(self.max_tokens > 0, "--max-tokens must be at least 1");
        self.target.validate()?;
        match &self.mode {
            Mode::Suite => {}
            Mode::Benchmark(benchmark) => benchmark.validate()?,
            Mode::Stress(stress) => stress.validate()?,
        }
        Ok(self)
    }

    /// Each option by its name on the command line, as the run uses it.
    pub fn options(&self) -> BTreeMap<String, Value> {
        let selection = &self.selection;
        let suite = selection.suite.and_then(|suite| suite.to_possible_value());
        let options = json!({
            "worker-id": self.worker_id,
            "model": self.model_path.to_string_lossy(),
            "reference": self.reference.as_ref().map(|path| path.to_string_lossy()),
            "save-reference": self.save_reference.as_ref().map(|path| path.to_string_lossy()),
            "model-ref": self.model_ref,
            "backend": self.backend,
            "device": self.device,
            "port": self.port,
            "hive-port": self.hive_port,
            "timeout": self.timeout_secs,
            "time-limit": format!("{}s", self.time_limit.as_secs_f64()),
            "heartbeat-interval": self.heartbeat_interval_secs,
            "heartbeat-window": self.heartbeat_window_secs,
            "suite": suite.map(|value| value.get_name().to_owned()),
            "check": selection.checks,
            "shard": selection.shard.map(|shard| shard.to_string()),
            "skip": selection.skips,
            "prompt": self.prompt,
            "max-tokens": self.max_tokens,
            "max-fail": self.max_fail,
            "known-failures": self.known_failures.as_ref().map(|path| path.to_string_lossy()),
            "log-lines": self.log_lines,
        });
        let mut options: BTreeMap<String, Value> =
            serde_json::from_value(options).unwrap_or_default();
        options.extend(self.target.options());
        match &self.mode {
            Mode::Suite => {}
            Mode::Benchmark(benchmark) => options.extend(benchmark.options()),
            Mode::Stress(stress) => options.extend(stress.options()),
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_original_script() {
        let config = WorkerTestConfig::default().validate().unwrap();
        let id = config.worker_id.strip_prefix("test-worker-").unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
        assert_eq!(config.model_path.to_str(), Some(DEFAULT_MODEL));
        assert_eq!(config.backend.as_str(), "cpu");
        assert_eq!(
            (
                config.device,
                config.port,
                config.hive_port,
                config.timeout_secs
            ),
            (0, 18081, 19200, 30)
        );
    }

    #[test]
    fn reports_are_kind_and_path() {
        let target: ReportTarget = "html=a=b.html".parse().unwrap();
        assert_eq!(target.kind, ReportKind::Html);
        assert_eq!(target.path, Some(PathBuf::from("a=b.html")));
        assert_eq!("junit".parse::<ReportTarget>().unwrap().path, None);
        assert!("html=".parse::<ReportTarget>().is_err());
        let error = "pdf=x".parse::<ReportTarget>().unwrap_err();
        assert!(error.contains("`pdf`"), "{error}");
    }

    #[test]
    fn impossible_options_are_refused_by_name() {
        let refused = |change: fn(&mut WorkerTestConfig)| {
            let mut config = WorkerTestConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.worker_id.clear()).contains("--worker-id"));
        assert!(refused(|c| c.worker_id.push('\n')).contains("--worker-id"));
        assert!(refused(|c| c.hive_port = c.port).contains("--hive-port"));
        assert!(refused(|c| c.timeout_secs = 0).contains("--timeout"));
        assert!(refused(|c| c.heartbeat_interval_secs = 0).contains("--heartbeat-interval"));
        assert!(refused(|c| c.heartbeat_interval_secs = 30).contains("--heartbeat-window"));
        assert!(refused(|c| c.heartbeat_interval_secs = u64::MAX).contains("--heartbeat-interval"));
        assert!(refused(|c| c.timeout_secs = u64::MAX).contains("--timeout"));
        assert!(refused(|c| c.prompt.clear()).contains("--prompt"));
        assert!(refused(|c| c.max_tokens = 0).contains("--max-tokens"));
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_no_unicode_are_told_as_well_as_can_be() {
        use std::os::unix::ffi::OsStrExt;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"m\xff.gguf"));
        let config = WorkerTestConfig {
            model_path: path.clone(),
            target: TargetConfig {
                source: super::target::WorkerSource::Binary(path),
                ..TargetConfig::default()
            },
            ..WorkerTestConfig::default()
        };
        let options = config.options();
        assert_eq!(options["model"], "m\u{fffd}.gguf");
        assert_eq!(options["worker-bin"], "m\u{fffd}.gguf");
    }
}
