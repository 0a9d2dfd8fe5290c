//! The worker's process: its command line, its guard, its start-up.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::client::{Client, NoAnswer};
use super::cpu;
use super::dialect::{self, Readiness};
use super::group::{GroupSignal, ProcessGroup, describe_exit};
use super::log::Log;
use crate::tasks::worker::config::Backend;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::stop::{StopFlag, TimedOut};

/// How long a worker may take to stop when a guard ends it: its default drain and a little more.
const GRACE_PERIOD: Duration = Duration::from_secs(12);

/// How long one question of the readiness poll may take.
const POLL_LIMIT: Duration = Duration::from_secs(1);

/// The variable that holds a worker's secret. What is in our own environment isn't meant for it.
const TOKEN_VARIABLE: &str = "WORKER_API_TOKEN";

/// How a worker is started: the contract's command line.
#[derive(Debug, Clone)]
pub struct Launch {
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
    /// More of the contract's options, as they are spelt.
    pub more: Vec<String>,
}

/// A running worker. Dropping it stops it, and all that it started.
#[derive(Debug)]
pub struct WorkerProcess {
    group: ProcessGroup,
    launch: Launch,
    log: Log,
    client: Client,
    stop: StopFlag,
}

/// What was seen until the worker was ready.
#[derive(Debug, Clone, Default)]
pub struct StartUp {
    /// From the start until the first HTTP answer.
    pub first_answer: Option<Duration>,
    /// From the start until the worker said that it is ready.
    pub ready: Option<Duration>,
    /// The first broken promise in an answer on the way.
    pub mismatch: Option<Mismatch>,
}

/// How a worker's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The leader's status.
    pub status: ExitStatus,
    /// From its start until its end was seen.
    pub lived: Duration,
}

impl Launch {
    /// The contract's arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = [
            ("--worker-id", self.worker_id.clone()),
            ("--model", self.model.display().to_string()),
            ("--model-ref", self.model_ref.clone()),
            ("--backend", self.backend.as_str().to_owned()),
            ("--device", self.device.to_string()),
            ("--port", self.port.to_string()),
            ("--hive-url", self.hive_url.clone()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        if let Some(interval_secs) = self.heartbeat_interval_secs {
            arguments.extend([
                String::from("--heartbeat-interval"),
                interval_secs.to_string(),
            ]);
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

impl WorkerProcess {
    /// Starts a worker; its output goes to `log_path` from the first byte.
    pub fn start(launch: Launch, log_path: &Path, stop: &StopFlag) -> Result<Self> {
        let (reader, writer) =
            std::io::pipe().context("cannot make a pipe for the worker's log")?;
        let mut command = Command::new(&launch.binary);
        command
            .args(launch.arguments())
            .env_remove(TOKEN_VARIABLE)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let group = ProcessGroup::spawn(command, GRACE_PERIOD)
            .with_context(|| format!("cannot start the worker {}", launch.binary.display()))?;
        Ok(Self {
            log: Log::follow(reader, log_path)?,
            client: Client::new(launch.port, stop),
            stop: stop.clone(),
            group,
            launch,
        })
    }

    /// When its process was started.
    pub fn started(&self) -> Instant {
        self.group.started()
    }

    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// What it has written.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Talks to it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How it ended, if it did.
    pub fn exited(&self) -> Result<Option<Exit>> {
        let status = self
            .group
            .try_wait()
            .context("cannot ask for the worker's process")?;
        Ok(status.map(|status| Exit {
            status,
            lived: self.group.started().elapsed(),
        }))
    }

    /// Fails with a [`Mismatch`] if it has ended.
    pub fn ensure_alive(&self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(exit) => Err(exit.mismatch().into()),
        }
    }

    /// Waits until it says that it is ready. Looks at the process and asks every few milliseconds.
    ///
    /// Fails with a [`Mismatch`] where it ends, where another process answers in its name or where
    /// it isn't ready within `limit`.
    pub fn wait_until_ready(&self, limit: Duration, start_up: &mut StartUp) -> Result<()> {
        let waited = self.stop.wait_for("the worker to be ready", limit, || {
            self.ensure_alive()?;
            self.look_at_start_up(start_up)
        });
        waited.map_err(|error| match error.downcast::<TimedOut>() {
            Ok(timed_out) => {
                let got = match start_up.first_answer {
                    None => "no answer on its port",
                    Some(_) => "not ready",
                };
                let expected = format!("ready within {} s", timed_out.limit.as_secs_f64());
                Mismatch::new("start of the worker", expected, got).into()
            }
            Err(error) => error,
        })
    }

    /// Sends it, and all that it started, a signal.
    pub fn tell(&self, signal: GroupSignal) {
        self.group.tell(signal);
    }

    /// The processor time that it and all that it started have used; `None` where nobody can tell.
    pub fn processor_time(&self) -> Option<Duration> {
        cpu::group_time(self.pid())
    }

    /// Turns a missing answer into the broken promise that it is; other errors stay what they are.
    pub fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<NoAnswer>() {
            Err(other) => other,
            Ok(no_answer) => match self.exited() {
                Ok(Some(exit)) => exit.mismatch().into(),
                _ => Mismatch::new(no_answer.request, "an answer", no_answer.cause).into(),
            },
        }
    }

    /// Asks it to stop as an orchestrator would, and waits for its end.
    pub fn stop_orderly(&self, limit: Duration) -> Result<Exit> {
        self.group.ask_to_stop();
        self.stop
            .wait_for("the worker to stop", limit, || self.exited())
    }

    /// One question for health, or for ready once health says that it is.
    fn look_at_start_up(&self, start_up: &mut StartUp) -> Result<Option<()>> {
        let Ok(answer) = self.client.send(&dialect::health_request(), POLL_LIMIT) else {
            self.stop.check()?;
            return Ok(None);
        };
        let since_start = |instant: Instant| instant.duration_since(self.group.started());
        start_up
            .first_answer
            .get_or_insert(since_start(answer.received));
        match dialect::read_health(&answer) {
            Ok(health) if health.worker_id != self.launch.worker_id => anyhow::bail!(
                "another worker answers on port {}: worker_id is {}, ours is {}\n  try: --port 0",
                self.launch.port,
                health.worker_id,
                self.launch.worker_id,
            ),
            Ok(_) => {}
            Err(mismatch) => {
                start_up.mismatch.get_or_insert(mismatch);
            }
        }
        let Ok(answer) = self.client.send(&dialect::ready_request(), POLL_LIMIT) else {
            self.stop.check()?;
            return Ok(None);
        };
        match dialect::read_ready(&answer) {
            Ok(Readiness::Ready) => {
                start_up.ready = Some(since_start(answer.received));
                return Ok(Some(()));
            }
            Ok(Readiness::NotReady(_)) => {}
            Err(mismatch) => {
                start_up.mismatch.get_or_insert(mismatch);
            }
        }
        Ok(None)
    }
}

impl Exit {
    /// "exit status 1 after 0.3 s".
    pub fn describe(&self) -> String {
        let lived_s = self.lived.as_secs_f64();
        format!("{} after {lived_s:.1} s", describe_exit(self.status))
    }

    /// The broken promise that it is to end unasked.
    pub fn mismatch(&self) -> Mismatch {
        Mismatch::new(
            "the worker's process",
            "a process that lives",
            self.describe(),
        )
    }
}
