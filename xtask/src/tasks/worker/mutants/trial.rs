//! One run of this very program against the faulty worker, as a process of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::config::MutantsConfig;
use super::table::{Expectation, NO_FAULT, Trial};
use crate::tasks::worker::check::table;
use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::{StopFlag, TimedOut};
use crate::tasks::worker::record::event::{Event, Suite};
use crate::tasks::worker::record::report::RunReport;

/// Where the events of each run are kept, from the workspace root.
const ARTIFACTS: [&str; 2] = ["target", "worker-mutants"];

/// The tool of a driver that isn't there, from the workspace root.
const FAKE_GPU: &str = "xtask/tests/fake_gpu";

/// Names the folder in which the faulty worker and that tool meet.
const FAKE_GPU_STATE: &str = "FAKE_GPU_DIR";

/// The model that the faulty worker is given: it looks at the file, and answers with canned text.
const MODEL: &str = "tiny";

/// Longer than any run takes, however many checks time out.
const TRIAL_LIMIT: Duration = Duration::from_secs(600);

/// How long a run may take to clean up after itself.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// How long the faulty worker may take to become ready: its slowest fault loads for 6 s.
const READY_TIMEOUT_S: &str = "9";

/// The check of the isolation suite that starts a worker and a hive of its own, which costs as much
/// as the rest of a quick run.
const OF_ANOTHER_WORKER: &str = "heartbeat.default_interval";

/// How the faulty worker is paced: quick, and with a prefill that a client can leave in.
const TIMING: [(&str, &str); 2] = [("FAULTY_TOKEN_MS", "2"), ("FAULTY_PREFILL_MS", "100")];

/// What every run has in common.
#[derive(Debug)]
pub struct Laboratory<'run> {
    harness: PathBuf,
    program: &'run Path,
    python: &'run Python,
    root: &'run Path,
    folder: PathBuf,
    config: &'run MutantsConfig,
    stop: &'run StopFlag,
}

impl<'run> Laboratory<'run> {
    /// Makes the folder for the events of the runs.
    pub fn new(
        root: &'run Path,
        program: &'run Path,
        python: &'run Python,
        config: &'run MutantsConfig,
        stop: &'run StopFlag,
    ) -> Result<Self> {
        let folder = root.join(PathBuf::from_iter(ARTIFACTS));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self {
            harness: platform::own_executable().context("cannot find this very program")?,
            program,
            python,
            root,
            folder,
            config,
            stop,
        })
    }

    /// Where the events of the runs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One run under that fault, from start to exit.
    pub fn try_fault(&self, expectation: &Expectation) -> Result<Trial> {
        let name = match expectation.fault.as_str() {
            NO_FAULT => "none",
            fault => fault,
        };
        let folder = self.folder.join(name);
        // The evidence of earlier runs would pile up.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let (events, errors) = (folder.join("stdout.jsonl"), folder.join("errors.log"));
        let mut command = Command::new(&self.harness);
        command
            .args(self.arguments(expectation))
            .arg("--artifacts")
            .arg(&folder)
            .current_dir(self.root)
            .env("WORKER_FAULT", &expectation.fault)
            .envs(TIMING)
            .env("PATH", self.search_path(None)?)
            // What a run tells GitHub about a worker that is faulty on purpose would mislead.
            .env_remove("GITHUB_STEP_SUMMARY")
            .env_remove("GITHUB_ACTIONS")
            .stdin(Stdio::null())
            .stdout(File::create(&events)?)
            .stderr(File::create(&errors)?);
        if expectation.on_gpu {
            self.pretend_gpu(&mut command, &folder)?;
        }
        let group = ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD)?;
        let waited = self
            .stop
            .wait_for("a run", TRIAL_LIMIT, || Ok(group.try_wait()?));
        let status = match waited {
            Ok(status) => status,
            Err(error) => match error.downcast::<TimedOut>() {
                Ok(timed_out) => bail!("{timed_out}, see {}", events.display()),
                Err(error) => return Err(error),
            },
        };
        let report = read_report(&events)?;
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        ensure!(
            [0, 1, 3].map(Some).contains(&status.code()),
            "the run ended with {status}: {}",
            said.trim()
        );
        ensure!(
            status.code() == Some(report.verdict().exit_code().into()),
            "the run ended with {status}, but its events say otherwise: see {}",
            events.display()
        );
        let survivors = report.survivors;
        Ok(Trial {
            records: report.checks,
            troubles: report.troubles.into_iter().chain(survivors).collect(),
        })
    }

    /// Puts a driver's tool first in the run's path that tells what the faulty worker pretends.
    fn pretend_gpu(&self, command: &mut Command, folder: &Path) -> Result<()> {
        let state = folder.join("gpu");
        std::fs::create_dir_all(&state)?;
        let tools = self.root.join(FAKE_GPU);
        command.args(["--backend", "cuda"]);
        command.env("PATH", self.search_path(Some(tools))?);
        command.env(FAKE_GPU_STATE, state);
        Ok(())
    }

    /// A search path that finds `tools` first, and then the interpreter itself: the faulty worker is a
    /// script that asks for it by name.
    fn search_path(&self, tools: Option<PathBuf>) -> Result<OsString> {
        let others = std::env::var_os("PATH").unwrap_or_default();
        let interpreter = self.python.folder().map(Path::to_owned);
        let first = tools.into_iter().chain(interpreter);
        Ok(std::env::join_paths(
            first.chain(std::env::split_paths(&others)),
        )?)
    }

    fn arguments(&self, expectation: &Expectation) -> Vec<String> {
        let mut arguments: Vec<String> = ["worker:test", "--format", "json", "--model", MODEL]
            .into_iter()
            .chain([
                "--port",
                "0",
                "--hive-port",
                "0",
                "--timeout",
                READY_TIMEOUT_S,
            ])
            .map(str::to_owned)
            .collect();
        arguments.extend([
            String::from("--worker-bin"),
            self.program.display().to_string(),
        ]);
        arguments.extend([String::from("--python"), self.python.to_string()]);
        let knobs = TIMING.map(|(name, _)| name);
        for variable in knobs.iter().chain(&["WORKER_FAULT", FAKE_GPU_STATE]) {
            arguments.extend(["--worker-env", variable].map(str::to_owned));
        }
        if expectation.openai {
            arguments.extend(["--dialect", "openai"].map(str::to_owned));
        }
        let quick = self.config.quick;
        let runs = |suite: Suite, id: &str| match suite {
            Suite::Isolation if !(quick && id == OF_ANOTHER_WORKER) => true,
            Suite::Contract if !quick => true,
            _ => expectation.needs(id),
        };
        let rows = table::rows().into_iter().filter(|row| row.is_selectable());
        for row in rows.filter(|row| runs(row.suite, row.id)) {
            arguments.extend([String::from("--check"), row.id.to_owned()]);
        }
        arguments
    }
}

/// The faults that the faulty worker has.
pub fn list_faults(python: &Python, program: &Path) -> Result<Vec<String>> {
    let mut command = python.command();
    let output = command
        .arg(program)
        .arg("--list-faults")
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "the faulty worker {} does not list its faults: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    let id = |line: &str| -> Result<String> {
        let row: Value = serde_json::from_str(line)?;
        Ok(row["id"]
            .as_str()
            .context("a fault without an id")?
            .to_owned())
    };
    text.lines().map(id).collect()
}

fn read_report(path: &Path) -> Result<RunReport> {
    let mut report = RunReport::default();
    for line in BufReader::new(File::open(path)?).lines() {
        let event: Event = serde_json::from_str(&line?)
            .with_context(|| format!("{} contains something other than events", path.display()))?;
        report.apply(&event);
    }
    Ok(report)
}
