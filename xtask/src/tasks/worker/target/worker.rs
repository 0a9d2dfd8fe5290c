//! The worker's process: its command line, its guard, its start-up.

use std::ffi::OsString;
use std::io::{PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::dialect::{Dialect, Readiness};
use crate::tasks::worker::net::client::{Client, NoAnswer};
use crate::tasks::worker::process::group::{
    GroupSignal, ProcessGroup, Role, describe_exit, longest_end, wait_until,
};
use crate::tasks::worker::process::log::Log;
use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::platform::{Listeners, Process};
use crate::tasks::worker::process::secrets::{Redacted, redactor};
use crate::tasks::worker::process::stop::{StopFlag, TimedOut};
use crate::tasks::worker::process::{port, registry};
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::event::Mismatch;

/// How long a worker may take to stop when a guard ends it. Nobody waits for its answers any more,
/// so it has nothing to drain.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// How long its end may take at most.
pub const END_LIMIT: Duration = longest_end(GRACE_PERIOD);

/// How long after its last connection a worker that died may take to be seen as dead.
const DEATH_LIMIT: Duration = Duration::from_millis(300);

/// How long the rest of the log of a worker that has ended may take to be read.
const LOG_LIMIT: Duration = Duration::from_millis(500);

/// How long one question of the readiness poll may take.
const POLL_LIMIT: Duration = Duration::from_secs(1);

/// The variable that holds a worker's secret.
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

/// A running worker. Dropping it stops it, and all that it started.
#[derive(Debug)]
pub struct WorkerHandle {
    group: ProcessGroup,
    launch: Launch,
    log: Log,
    /// Its standard output, where that isn't in the log.
    output: Option<Log>,
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
    /// When it was last asked before it was ready, and said that it isn't.
    pub last_not_ready: Option<Instant>,
    /// The first broken promise in an answer on the way.
    pub mismatch: Option<Mismatch>,
}

/// Somebody else has the worker's port, since our look at it before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortLost {
    /// Which port, who holds it, and the way out.
    pub message: String,
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

impl WorkerHandle {
    /// Starts a worker; its output goes to `log_path` from the first byte.
    pub fn start(launch: Launch, log_path: &Path, stop: &StopFlag) -> Result<Self> {
        let (reader, writer) = pipe()?;
        let both = (Stdio::from(writer.try_clone()?), Stdio::from(writer));
        Self::spawn(launch, both, (reader, log_path), None, stop)
    }

    /// Starts a worker whose standard output and standard error go to files of their own in `folder`,
    /// the latter as its log.
    pub fn start_apart(launch: Launch, folder: &Path, stop: &StopFlag) -> Result<Self> {
        let ((out_reader, out), (err_reader, err)) = (pipe()?, pipe()?);
        let (out_path, err_path) = (folder.join("stdout.log"), folder.join("stderr.log"));
        let output = Log::follow(Redacted::new(out_reader, redactor()), &out_path)?;
        let both = (Stdio::from(out), Stdio::from(err));
        Self::spawn(launch, both, (err_reader, &err_path), Some(output), stop)
    }

    fn spawn(
        launch: Launch,
        (stdout, stderr): (Stdio, Stdio),
        (reader, log_path): (PipeReader, &Path),
        output: Option<Log>,
        stop: &StopFlag,
    ) -> Result<Self> {
        let mut command = Command::new(&launch.binary);
        command
            .args(launch.arguments())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        let authorization = launch.token.as_ref().map(|token| {
            command.env(TOKEN_VARIABLE, token);
            format!("Bearer {token}")
        });
        let group = ProcessGroup::spawn(command, Role::Worker, GRACE_PERIOD)
            .with_context(|| format!("cannot start the worker {}", launch.binary.display()))?;
        registry::watch_port(launch.port, "the worker");
        Ok(Self {
            log: Log::follow(Redacted::new(reader, redactor()), log_path)?,
            output,
            client: Client::new(launch.port, group.watch(), stop).with_header(authorization),
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

    /// Its process and those that it started, as far as they live.
    pub fn pids(&self) -> Vec<u32> {
        let table = platform::processes().into_iter();
        let members = table.filter(|process| self.group.contains(process));
        members.map(|process| process.pid).collect()
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// What it has written; all of it, where it has ended.
    pub fn log(&self) -> &Log {
        if matches!(self.group.end(), Ok(Some(_))) {
            self.log.settle(LOG_LIMIT);
        }
        &self.log
    }

    /// Its standard output, where that isn't in the log; all of it, where it has ended.
    pub fn output(&self) -> Option<&Log> {
        if matches!(self.group.end(), Ok(Some(_))) {
            self.output
                .iter()
                .for_each(|output| output.settle(LOG_LIMIT));
        }
        self.output.as_ref()
    }

    /// Talks to it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How it ended, if it did.
    pub fn exited(&self) -> Result<Option<Exit>> {
        let end = self
            .group
            .end()
            .context("cannot ask for the worker's process")?;
        Ok(end.map(|(status, lived)| Exit { status, lived }))
    }

    /// Fails with a [`Mismatch`] if it has ended, or with [`PortLost`] where somebody else has its
    /// port.
    pub fn ensure_alive(&self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(exit) => Err(self.port_lost().map_or(exit.mismatch().into(), Into::into)),
        }
    }

    /// Waits until it says that it is ready. Looks at the process and asks every few milliseconds.
    ///
    /// Fails with a [`Mismatch`] where it ends or isn't ready within `limit`, and with [`PortLost`]
    /// where somebody else has its port.
    pub fn wait_until_ready(&self, limit: Duration, start_up: &mut StartUp) -> Result<()> {
        let waited = self.stop.wait_for("the worker to be ready", limit, || {
            if let Some(exit) = self.exited()? {
                return Err(self.port_lost().map_or(exit.mismatch().into(), Into::into));
            }
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

    /// The same. Where somebody else has its port, it is started once more, on another one, after
    /// `announce` was told why and how.
    pub fn become_ready(
        &mut self,
        limit: Duration,
        start_up: &mut StartUp,
        announce: impl FnOnce(&PortLost, &Launch),
    ) -> Result<()> {
        let lost = match self.wait_until_ready(limit, start_up) {
            Err(error) => error.downcast::<PortLost>()?,
            Ok(()) => return Ok(()),
        };
        self.end();
        let launch = Launch {
            port: port::pick_free()?,
            ..self.launch.clone()
        };
        announce(&lost, &launch);
        let log_path = self.log.path().to_owned();
        *self = Self::start(launch, &log_path, &self.stop)?;
        *start_up = StartUp::default();
        self.wait_until_ready(limit, start_up)
    }

    /// Ends it, where it hasn't ended yet, and all that it started. What outlived it is told at the end
    /// of the run.
    pub fn finish(&self) {
        self.group.end_all();
    }

    /// The same; tells at once what outlived it.
    pub fn end(&self) -> Vec<String> {
        self.finish();
        let mut left_behind = registry::left_behind();
        left_behind.extend(registry::held_port(self.launch.port, "the worker"));
        left_behind
    }

    /// Sends it, and all that it started, a signal.
    pub fn tell(&self, signal: GroupSignal) {
        self.group.tell(signal);
    }

    /// Kills it, and all that it started, as the system does when memory is short.
    pub fn kill_now(&self) {
        self.group.kill_now();
    }

    /// The processor time that it and all that it started have used; `None` where nobody can tell.
    pub fn processor_time(&self) -> Option<Duration> {
        platform::usage::group_time(self.pid())
    }

    /// What a busy machine has taken from it so far.
    pub fn waited_for_processor(&self) -> Duration {
        platform::usage::waited_for_processor(self.pid())
    }

    /// Turns a missing answer into the broken promise that it is; other errors stay what they are.
    pub fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<NoAnswer>() {
            Err(other) => other,
            Ok(no_answer) => match self.died() {
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

    /// How it ended, where it has just died: its connections go first.
    fn died(&self) -> Result<Option<Exit>> {
        wait_until(DEATH_LIMIT, Duration::from_millis(3), || {
            !matches!(self.exited(), Ok(None))
        });
        self.exited()
    }

    /// Fails with [`PortLost`] where we can't be sure that it is our worker that answers. `named` is
    /// another worker's id in the answer.
    fn ensure_listener(&self, named: Option<&str>) -> Result<(), PortLost> {
        let answers = match platform::listeners(self.launch.port) {
            Listeners::Known(holders) => {
                let strangers: Vec<_> = holders
                    .iter()
                    .filter(|holder| !self.is_ours(holder))
                    .map(ToString::to_string)
                    .collect();
                strangers.join(", ")
            }
            // Then the name is all that we have.
            Listeners::Nobody | Listeners::Unknown if named.is_none() => String::new(),
            Listeners::Nobody | Listeners::Unknown => String::from("another worker"),
        };
        if answers.is_empty() {
            return Ok(());
        }
        let port = self.launch.port;
        let named = named.map_or(String::new(), |id| format!(" as {id}"));
        let pid = self.pid();
        Err(self.lost(format!(
            "port {port} is answered by {answers}{named}, not by the worker that was started (pid {pid})\n  try: --port 0 to pick a free one"
        )))
    }

    /// Whether somebody else has the port that it was to listen on.
    fn port_lost(&self) -> Option<PortLost> {
        let port = self.launch.port;
        let ours = match platform::listeners(port) {
            Listeners::Known(holders) => holders.iter().all(|holder| self.is_ours(holder)),
            Listeners::Nobody | Listeners::Unknown => false,
        };
        let lost = !ours && port::is_taken(port);
        lost.then(|| self.lost(port::taken(port, "the worker", "--port")))
    }

    fn is_ours(&self, holder: &Process) -> bool {
        self.group.contains(holder) || registry::is_marked(holder)
    }

    /// What a stranger does with the port from now on is not our worker's doing.
    fn lost(&self, message: String) -> PortLost {
        registry::unwatch_port(self.launch.port);
        PortLost { message }
    }

    /// One question for health, or for ready once health says that it is.
    fn look_at_start_up(&self, start_up: &mut StartUp) -> Result<Option<()>> {
        let Ok(answer) = self
            .client
            .send(&self.launch.dialect.health_request(), POLL_LIMIT)
        else {
            self.stop.check()?;
            return Ok(None);
        };
        let since_start = |instant: Instant| instant.duration_since(self.group.started());
        start_up
            .first_answer
            .get_or_insert(since_start(answer.received));
        match self.launch.dialect.read_health(&answer) {
            Ok(health) => {
                if let Some(id) = health.worker_id.filter(|id| *id != self.launch.worker_id) {
                    self.ensure_listener(Some(&id))?;
                    let place = "health, `worker_id`";
                    let mismatch = Mismatch::new(place, &self.launch.worker_id, id);
                    start_up.mismatch.get_or_insert(mismatch);
                }
            }
            Err(mismatch) => {
                start_up.mismatch.get_or_insert(mismatch);
            }
        }
        let Ok(answer) = self
            .client
            .send(&self.launch.dialect.ready_request(), POLL_LIMIT)
        else {
            self.stop.check()?;
            return Ok(None);
        };
        match self.launch.dialect.read_ready(&answer) {
            Ok(Readiness::Ready) => {
                start_up.ready = Some(since_start(answer.received));
                self.ensure_listener(None)?;
                return Ok(Some(()));
            }
            Ok(Readiness::NotReady(_)) => start_up.last_not_ready = Some(answer.sent),
            Err(mismatch) => {
                start_up.mismatch.get_or_insert(mismatch);
            }
        }
        Ok(None)
    }
}

fn pipe() -> Result<(PipeReader, PipeWriter)> {
    std::io::pipe().context("cannot make a pipe for the worker's log")
}

/// Sets an option's value, or adds the option.
fn set(arguments: &mut Vec<OsString>, option: &str, value: &str) {
    match arguments.iter().position(|word| word == option) {
        Some(at) => arguments[at + 1] = value.into(),
        None => arguments.extend([option.into(), value.into()]),
    }
}

impl std::fmt::Display for PortLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PortLost {}

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
