//! Starts that have to fail, and starts whose two outputs have to be told apart: the process alone,
//! without a hive.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Subject;
use super::corrupt_models;
use super::dialect;
use super::worker::{Launch, TOKEN_VARIABLE};
use crate::tasks::worker::net::client::Client;
use crate::tasks::worker::process::group::{ProcessGroup, Role, describe_exit};
use crate::tasks::worker::process::port;
use crate::tasks::worker::process::stop::{StopFlag, TimedOut, in_time};

/// How long a worker may take until it knows that it can't serve.
const KNOWING_LIMIT: Duration = Duration::from_secs(8);

/// "Within 2 s of knowing that it can't serve", and a little for a busy machine.
pub const EXIT_LIMIT: Duration = Duration::from_millis(2500);

/// How long it may take to stop when we end it.
const GRACE_PERIOD: Duration = Duration::from_secs(3);

/// How long output may be under way after the end of the process.
const OUTPUT_LIMIT: Duration = Duration::from_millis(500);

/// How long a worker that is ready is left alone: what it logs then, it logs for nothing.
pub const QUIET: Duration = Duration::from_millis(400);

/// How long a question for readiness may take.
const QUESTION_LIMIT: Duration = Duration::from_millis(500);

/// How long the log lines of a start may be under way.
const SETTLED: Duration = Duration::from_millis(100);

/// Where no hive is.
const NO_HIVE: &str = "http://127.0.0.1:9";

/// Every start that had to fail.
#[derive(Debug)]
pub struct StartErrors {
    /// What was wrong with it, and how it went.
    pub starts: Vec<(&'static str, BareRun)>,
}

/// How a process went.
#[derive(Debug, Clone)]
pub struct BareRun {
    /// How it ended by itself, if it did.
    pub exit: Option<ExitStatus>,
    /// Whether it said that it is ready.
    pub became_ready: bool,
    /// How long it lived, or until we ended it.
    pub lived: Duration,
    /// Lines on standard output.
    pub stdout: Vec<String>,
    /// Lines on standard error, and when each came after the start.
    pub stderr: Vec<(Duration, String)>,
    /// How many of them came while nobody asked for anything, in the time after it became ready.
    pub quiet_lines: usize,
}

/// A start: what differs from the worker under test.
struct Start {
    name: &'static str,
    arguments: Vec<OsString>,
    port: u16,
}

impl StartErrors {
    /// Tries all starts side by side.
    pub fn make(subject: &Subject) -> Result<StartErrors> {
        let folder = subject.context.folder.join("start-errors");
        std::fs::create_dir_all(&folder)?;
        // It is held until the last worker has seen that it is taken.
        let taken =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
        let starts = starts(subject, &folder, taken.local_addr()?.port())?;
        let launch = subject.worker.launch();
        let stop = subject.context.stop;
        let runs = std::thread::scope(|scope| {
            let threads: Vec<_> = starts
                .iter()
                .map(|start| {
                    scope.spawn(|| run(launch, &start.arguments, start.port, stop, |_| false))
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<BareRun>>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        });
        // The corrupt models are as large as the good one.
        std::fs::remove_dir_all(&folder).context("cannot remove the spoiled models")?;
        drop(taken);
        let names = starts.iter().map(|start| start.name);
        Ok(StartErrors {
            starts: names.zip(runs?).collect(),
        })
    }

    /// The starts of these names.
    pub fn of<'a>(
        &'a self,
        names: &'a [&str],
    ) -> impl Iterator<Item = &'a (&'static str, BareRun)> {
        self.starts.iter().filter(|(name, _)| names.contains(name))
    }
}

/// Runs the worker with more options until it is ready, and ends it in an orderly way.
pub fn run_until_ready(subject: &Subject, more: &[&str]) -> Result<BareRun> {
    let launch = subject.worker.launch();
    let port = port::pick_free()?;
    let mut arguments = launch.arguments();
    set(&mut arguments, "--port", port.to_string());
    set(&mut arguments, "--hive-url", NO_HIVE);
    arguments.extend(more.iter().map(OsString::from));
    let stop = subject.context.stop;
    run(launch, &arguments, port, stop, |is_ready| is_ready)
}

fn starts(subject: &Subject, folder: &std::path::Path, taken_port: u16) -> Result<Vec<Start>> {
    let launch = subject.worker.launch();
    let model = |path: PathBuf| vec![("--model", OsString::from(path))];
    let mut changes = vec![
        ("missing model", model(folder.join("missing.gguf"))),
        ("folder as model", model(folder.to_owned())),
        (
            "text file as model",
            model(corrupt_models::text_file(folder)?),
        ),
        (
            "empty file as model",
            model(corrupt_models::empty_file(folder)?),
        ),
        (
            "half a model",
            model(corrupt_models::half(&launch.model, folder)?),
        ),
        (
            "a model without its end",
            model(corrupt_models::shortened(&launch.model, folder)?),
        ),
        (
            "taken port",
            vec![("--port", taken_port.to_string().into())],
        ),
        ("unknown backend", vec![("--backend", "abacus".into())]),
        ("absent device", vec![("--device", "4242".into())]),
        (
            "open host without a token",
            vec![("--host", "0.0.0.0".into())],
        ),
    ];
    for backend in absent_backends() {
        changes.push((backend, vec![("--backend", backend.into())]));
    }
    if let Some(path) = corrupt_models::unknown_architecture(&launch.model, folder)? {
        changes.push(("unknown architecture", model(path)));
    }
    if let Some(path) = corrupt_models::unknown_quantisation(&launch.model, folder)? {
        changes.push(("unknown quantisation", model(path)));
    }
    let start = |(name, changes): (&'static str, Vec<(&str, OsString)>)| {
        let mut arguments = launch.arguments();
        let port = port::pick_free()?;
        set(&mut arguments, "--port", port.to_string());
        set(&mut arguments, "--hive-url", NO_HIVE);
        for (option, value) in changes {
            set(&mut arguments, option, value);
        }
        Ok(Start {
            name,
            arguments,
            port,
        })
    };
    changes.into_iter().map(start).collect()
}

/// Backends that no build of any worker can have on this machine.
fn absent_backends() -> Vec<&'static str> {
    let mut absent = Vec::new();
    if !cfg!(target_os = "macos") {
        absent.push("metal");
    }
    let has_nvidia = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"];
    if cfg!(target_os = "macos")
        || (cfg!(target_os = "linux")
            && !has_nvidia.iter().any(|path| PathBuf::from(path).exists()))
    {
        absent.push("cuda");
    }
    absent
}

/// Sets an option's value, or adds the option.
fn set(arguments: &mut Vec<OsString>, option: &str, value: impl Into<OsString>) {
    match arguments.iter().position(|word| word == option) {
        Some(at) => arguments[at + 1] = value.into(),
        None => arguments.extend([option.into(), value.into()]),
    }
}

/// Runs a worker until it ends by itself, becomes ready, or the time is up.
///
/// `is_welcome` says of readiness whether it is what we waited for: then the worker is asked to stop
/// and its end is awaited.
fn run(
    launch: &Launch,
    arguments: &[OsString],
    port: u16,
    stop: &StopFlag,
    is_welcome: impl Fn(bool) -> bool,
) -> Result<BareRun> {
    let mut command = Command::new(&launch.binary);
    command
        .args(arguments)
        .env_remove(TOKEN_VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let group = ProcessGroup::spawn(command, Role::Worker, GRACE_PERIOD)
        .with_context(|| format!("cannot start the worker {}", launch.binary.display()))?;
    let started = group.started();
    let stdout = Output::follow(group.take_pipes().1, started);
    let stderr = Output::follow(group.take_stderr(), started);
    let client = Client::new(port, group.watch(), stop);
    let mut became_ready = false;
    let waited = stop.wait_for(
        "the end of a worker that can't serve",
        KNOWING_LIMIT,
        || {
            if group.try_wait()?.is_some() {
                return Ok(Some(()));
            }
            became_ready |= is_ready(&client);
            let knows = stderr.first_error().map(|at| at + EXIT_LIMIT);
            let is_late = knows.is_some_and(|at| started.elapsed() > at);
            Ok((became_ready || is_late).then_some(()))
        },
    );
    if let Err(error) = waited {
        error.downcast::<TimedOut>()?;
    }
    let mut quiet_lines = 0;
    if is_welcome(became_ready) {
        // What belongs to the start and to our questions may still be under way.
        let_pass(stop, SETTLED)?;
        let before = stderr.count();
        let_pass(stop, QUIET)?;
        quiet_lines = stderr.count() - before;
        group.ask_to_stop();
        let ended = stop.wait_for(
            "the end of a worker",
            GRACE_PERIOD,
            || Ok(group.try_wait()?),
        );
        if let Err(error) = ended {
            error.downcast::<TimedOut>()?;
        }
    }
    let (exit, lived) = (group.try_wait()?, started.elapsed());
    drop(group);
    Ok(BareRun {
        exit,
        became_ready,
        lived,
        stdout: stdout.lines().into_iter().map(|(_, line)| line).collect(),
        stderr: stderr.lines(),
        quiet_lines,
    })
}

impl BareRun {
    /// "exit status 0 after 0.1 s", "ready to serve", "still running after 8 s".
    pub fn describe(&self) -> String {
        let lived_s = self.lived.as_secs_f64();
        match self.exit {
            _ if self.became_ready => String::from("a worker that says it is ready"),
            Some(status) => format!("{} after {lived_s:.1} s", describe_exit(status)),
            None => format!("a process that still runs after {lived_s:.1} s"),
        }
    }
}

fn let_pass(stop: &StopFlag, time: Duration) -> Result<()> {
    in_time(stop.wait_for("time to pass", time, || Ok(None::<()>))).map(drop)
}

fn is_ready(client: &Client) -> bool {
    let answer = client.send(&dialect::ready_request(), QUESTION_LIMIT);
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Lines that a process writes, with their times.
#[derive(Debug)]
struct Output {
    lines: Arc<Mutex<Vec<(Duration, String)>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Output {
    fn follow(pipe: Option<impl Read + Send + 'static>, started: Instant) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let thread = pipe.map(|pipe| {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(pipe);
                let mut line = Vec::new();
                while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    lock(&written).push((started.elapsed(), text));
                    line.clear();
                }
            })
        });
        Self { lines, thread }
    }

    /// When the first line came that says what is wrong.
    fn first_error(&self) -> Option<Duration> {
        let lines = lock(&self.lines);
        let error = lines.iter().find(|(_, line)| line.starts_with("error:"));
        error.map(|(at, _)| *at)
    }

    /// How many lines have come so far.
    fn count(&self) -> usize {
        lock(&self.lines).len()
    }

    /// All lines, once the pipe is closed or nobody can wait any longer.
    fn lines(self) -> Vec<(Duration, String)> {
        let began = Instant::now();
        while let Some(thread) = &self.thread {
            if thread.is_finished() || began.elapsed() >= OUTPUT_LIMIT {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        lock(&self.lines).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::set;

    #[test]
    fn an_option_is_replaced_or_added() {
        let mut arguments = vec![OsString::from("--port"), OsString::from("1")];
        set(&mut arguments, "--port", "2");
        set(&mut arguments, "--host", "h");
        assert_eq!(arguments, ["--port", "2", "--host", "h"]);
    }
}
