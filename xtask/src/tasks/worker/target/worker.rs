//! The worker's process: its guard, its output, its end. How it comes to be ready and what it is asked
//! is in the files beside this.

pub mod ask;
mod launch;
pub mod start_up;

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use self::launch::{Launch, Program, TOKEN_VARIABLE};
use super::dialect::{Dialect, Promise};
use super::recorder::Line;
use crate::tasks::worker::net::client::Client;
use crate::tasks::worker::process::group::{
    GroupSignal, ProcessGroup, Role, Watch, describe_exit, longest_end,
};
use crate::tasks::worker::process::log::Log;
use crate::tasks::worker::process::secrets::{Redacted, redactor};
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::process::{platform, registry};
use crate::tasks::worker::record::event::Mismatch;

/// How long a worker may take to stop when a guard ends it. Nobody waits for its answers any more,
/// so it has nothing to drain.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// How long its end may take at most.
pub const END_LIMIT: Duration = longest_end(GRACE_PERIOD);

/// How long the rest of the log of a worker that has ended may take to be read.
const LOG_LIMIT: Duration = Duration::from_millis(500);

/// A running worker. Dropping it stops it, and all that it started; one that ran already runs on.
#[derive(Debug)]
pub struct WorkerHandle {
    /// `None` where it ran already.
    group: Option<ProcessGroup>,
    started: Instant,
    launch: Launch,
    log: Log,
    /// Its standard output, where that isn't in the log.
    output: Option<Log>,
    /// Talks to it without a word to the journal.
    quiet: Client,
    /// The same, on the record.
    client: Client,
    line: Line,
    stop: StopFlag,
    /// Whether the last request got no answer although the process lives.
    unanswered: Cell<bool>,
    /// The longest that an answer has taken so far.
    slowest: Cell<Option<Duration>>,
}

/// How a worker's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The leader's status.
    pub status: ExitStatus,
    /// From its start until its end was seen.
    pub lived: Duration,
}

impl WorkerHandle {
    /// Starts a worker; its output goes to `log_path` from the first byte, and what it is asked to
    /// `line`.
    pub fn start(launch: Launch, log_path: &Path, line: Line, stop: &StopFlag) -> Result<Self> {
        if matches!(launch.program, Program::Attached) {
            return Self::attach(launch, log_path, line, stop);
        }
        let (reader, writer) = pipe()?;
        let both = (Stdio::from(writer.try_clone()?), Stdio::from(writer));
        Self::spawn(launch, both, (reader, log_path), None, line, stop)
    }

    /// Starts a worker whose standard output and standard error go to files of their own in `folder`,
    /// the latter as its log. What it is asked isn't recorded.
    pub fn start_apart(launch: Launch, folder: &Path, stop: &StopFlag) -> Result<Self> {
        let line = Line::nowhere(launch.dialect);
        let ((out_reader, out), (err_reader, err)) = (pipe()?, pipe()?);
        let (out_path, err_path) = (folder.join("stdout.log"), folder.join("stderr.log"));
        let output = Log::follow(Redacted::new(out_reader, redactor()), &out_path)?;
        let both = (Stdio::from(out), Stdio::from(err));
        Self::spawn(
            launch,
            both,
            (err_reader, &err_path),
            Some(output),
            line,
            stop,
        )
    }

    fn spawn(
        launch: Launch,
        (stdout, stderr): (Stdio, Stdio),
        (reader, log_path): (PipeReader, &Path),
        output: Option<Log>,
        line: Line,
        stop: &StopFlag,
    ) -> Result<Self> {
        let words = launch.command_line();
        let (program, arguments) = words.split_first().context("there is no command line")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        let authorization = launch.token.as_ref().map(|token| {
            command.env(TOKEN_VARIABLE, token);
            format!("Bearer {token}")
        });
        let group = ProcessGroup::spawn(command, Role::Worker, GRACE_PERIOD)
            .with_context(|| format!("cannot start the worker {}", program.display()))?;
        registry::watch_port(launch.port, "the worker");
        let quiet = Client::new(launch.port, group.watch(), stop).with_header(authorization);
        let log = Log::follow(Redacted::new(reader, redactor()), log_path)?;
        let mut handle = Self::of(launch, quiet, log, line, stop);
        handle.started = group.started();
        handle.group = Some(group);
        handle.output = output;
        Ok(handle)
    }

    /// Talks to a worker that runs already, and whose log isn't ours to see.
    fn attach(launch: Launch, log_path: &Path, line: Line, stop: &StopFlag) -> Result<Self> {
        let quiet = Client::new(launch.port, Watch::nobody(), stop);
        let log = Log::follow(std::io::empty(), log_path)?;
        Ok(Self::of(launch, quiet, log, line, stop))
    }

    fn of(launch: Launch, quiet: Client, log: Log, line: Line, stop: &StopFlag) -> Self {
        Self {
            group: None,
            started: Instant::now(),
            log,
            output: None,
            client: quiet.witnessed(line.clone()),
            quiet,
            line,
            stop: stop.clone(),
            unanswered: Cell::new(false),
            slowest: Cell::new(None),
            launch,
        }
    }

    /// When its process was started, or when we came to it.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The process that was started.
    pub fn pid(&self) -> Option<u32> {
        self.group.as_ref().map(ProcessGroup::pid)
    }

    /// Its process and those that it started, as far as they live.
    pub fn pids(&self) -> Vec<u32> {
        let members = self.group.as_ref().map(ProcessGroup::members);
        let members = members.unwrap_or_default().into_iter();
        members.map(|process| process.pid).collect()
    }

    /// How it was started.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// What it has written; all of it, where it has ended.
    pub fn log(&self) -> &Log {
        if matches!(self.exited(), Ok(Some(_))) {
            self.log.settle(LOG_LIMIT);
        }
        &self.log
    }

    /// Its standard output, where that isn't in the log; all of it, where it has ended.
    pub fn output(&self) -> Option<&Log> {
        if matches!(self.exited(), Ok(Some(_))) {
            self.output
                .iter()
                .for_each(|output| output.settle(LOG_LIMIT));
        }
        self.output.as_ref()
    }

    /// Where what it is asked goes.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// How it is talked to.
    pub fn dialect(&self) -> &'static dyn Dialect {
        self.launch.dialect
    }

    /// How it ended, if it did.
    pub fn exited(&self) -> Result<Option<Exit>> {
        let Some(group) = &self.group else {
            return Ok(None);
        };
        let end = group.end().context("cannot ask for the worker's process")?;
        Ok(end.map(|(status, lived)| Exit { status, lived }))
    }

    /// Ends it, where it hasn't ended yet, and all that it started. What outlived it is told at the end
    /// of the run.
    pub fn finish(&self) {
        if let Some(group) = &self.group {
            group.end_all();
        }
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
        if let Some(group) = &self.group {
            group.tell(signal);
        }
    }

    /// Kills it, and all that it started, as the system does when memory is short.
    pub fn kill_now(&self) {
        if let Some(group) = &self.group {
            group.kill_now();
        }
    }

    /// The processor time that it and all that it started have used; `None` where nobody can tell.
    pub fn processor_time(&self) -> Option<Duration> {
        platform::usage::group_time(self.pid()?)
    }

    /// What a busy machine has taken from it so far.
    pub fn waited_for_processor(&self) -> Duration {
        let pid = self.pid();
        pid.map_or(Duration::ZERO, platform::usage::waited_for_processor)
    }

    /// Lets time go by. Fails as soon as it has ended.
    pub fn let_pass(&self, time: Duration) -> Result<()> {
        let waited = self.stop.wait_for("time to pass", time, || {
            self.ensure_alive()?;
            Ok(None::<()>)
        });
        in_time(waited).map(drop)
    }

    /// Asks it to stop as an orchestrator would, and waits for its end.
    pub fn stop_orderly(&self, limit: Duration) -> Result<Exit> {
        if let Some(group) = &self.group {
            group.ask_to_stop();
        }
        self.stop
            .wait_for("the worker to stop", limit, || self.exited())
    }

    /// It ended because it was asked to: with 0 or, where the protocol promises no status, by the signal.
    pub fn expect_orderly(&self, exit: &Exit) -> Result<(), Mismatch> {
        let has_status = self.dialect().promises(Promise::ExitStatus);
        let is_orderly =
            exit.status.success() || (!has_status && platform::is_end_by_request(exit.status));
        if is_orderly {
            return Ok(());
        }
        let expected = match has_status {
            true => "exit status 0",
            false => "exit status 0, or an end by the signal",
        };
        Err(Mismatch::new(
            "stop of the worker",
            expected,
            exit.describe(),
        ))
    }
}

fn pipe() -> Result<(PipeReader, PipeWriter)> {
    std::io::pipe().context("cannot make a pipe for the worker's log")
}

impl Exit {
    /// "exit status 1 after 0.3 s".
    pub fn describe(&self) -> String {
        let lived_s = self.lived.as_secs_f64();
        format!("{} after {lived_s:.1} s", describe_exit(self.status))
    }

    /// What it means that it ended before it was ready: mostly a broken promise, but a program that
    /// this machine can't run has promised nothing.
    fn before_ready(&self) -> anyhow::Error {
        match platform::lacked_by_machine(self.status) {
            Some(lack) => anyhow!(
                "this machine can't run the worker: {}\n{lack}",
                self.describe()
            ),
            None => self.mismatch().into(),
        }
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
