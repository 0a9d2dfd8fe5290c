//! Starts that have to fail, and starts whose two outputs have to be told apart: the process alone,
//! without a hive.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::corrupt_models;
use crate::tasks::worker::process::gpu::is_surely_absent;
use crate::tasks::worker::process::group::describe_exit;
use crate::tasks::worker::process::port;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::worker::{Launch, WorkerHandle};

/// How long a worker may take until it knows that it can't serve.
const KNOWING_LIMIT: Duration = Duration::from_secs(8);

/// "Within 2 s of knowing that it can't serve", and a little for a busy machine.
pub const EXIT_LIMIT: Duration = Duration::from_millis(2500);

/// How long it may take to stop when we end it.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How long a worker that is ready is left alone: what it logs then, it logs for nothing.
pub const QUIET: Duration = Duration::from_millis(400);

/// How long a question for readiness may take.
const QUESTION_LIMIT: Duration = Duration::from_millis(500);

/// How long the log lines of a start may be under way.
const SETTLED: Duration = Duration::from_millis(100);

/// How often a worker is started on another port because somebody else took its own.
const PORTS: usize = 4;

/// The start on a port that is ours.
const TAKEN_PORT: &str = "taken port";

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

impl StartErrors {
    /// Tries all starts side by side.
    pub fn make(auxiliaries: &Auxiliaries) -> Result<StartErrors> {
        let folder = auxiliaries.context.folder.join("start-errors");
        std::fs::create_dir_all(&folder)?;
        // It is held until the last worker has seen that it is taken.
        let taken =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
        let starts = starts(auxiliaries, &folder, taken.local_addr()?.port())?;
        let stop = auxiliaries.context.stop;
        let runs = std::thread::scope(|scope| {
            let threads = starts.iter().map(|(name, launch)| {
                let (folder, launch) = (folder.join(name.replace(' ', "-")), launch.clone());
                scope.spawn(move || match *name {
                    TAKEN_PORT => run(launch, &folder, stop, false).map(|(run, _)| run),
                    _ => run_on_a_free_port(launch, &folder, stop, false),
                })
            });
            let threads: Vec<_> = threads.collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<BareRun>>| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        });
        // The corrupt models are as large as the good one.
        std::fs::remove_dir_all(&folder).context("cannot remove the corrupt models")?;
        drop(taken);
        let names = starts.iter().map(|(name, _)| *name);
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

/// Runs workers beside each other, each with more options, until they are ready, and ends them in an
/// orderly way. Their output goes to files in folders of these names.
pub fn run_until_ready(
    auxiliaries: &Auxiliaries,
    starts: &[(&str, &[(&'static str, &str)])],
) -> Result<Vec<BareRun>> {
    let launches = starts.iter().map(|(_, more)| alone(auxiliaries, more));
    let launches = launches.collect::<Result<Vec<_>>>()?;
    let (folder, stop) = (auxiliaries.context.folder, auxiliaries.context.stop);
    std::thread::scope(|scope| {
        let runs = starts.iter().zip(launches).map(|((name, _), launch)| {
            let folder = folder.join(name);
            scope.spawn(move || run_on_a_free_port(launch, &folder, stop, true))
        });
        let runs: Vec<_> = runs.collect();
        let runs = runs.into_iter().map(|run| run.join());
        runs.map(|run| run.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// A launch without a hive, on a port of its own unless `changes` names one.
fn alone(auxiliaries: &Auxiliaries, changes: &[(&'static str, &str)]) -> Result<Launch> {
    let mut launch = Launch {
        port: port::pick_free()?,
        hive_url: String::from(NO_HIVE),
        ..auxiliaries.launch.clone()
    };
    launch.set(changes);
    Ok(launch)
}

/// Every start that has to fail, with its name.
fn starts(
    auxiliaries: &Auxiliaries,
    folder: &Path,
    taken_port: u16,
) -> Result<Vec<(&'static str, Launch)>> {
    let model = &auxiliaries.launch.model;
    let models = [
        ("missing model", Some(folder.join("missing.gguf"))),
        ("folder as model", Some(folder.to_owned())),
        (
            "text file as model",
            Some(corrupt_models::text_file(folder)?),
        ),
        (
            "empty file as model",
            Some(corrupt_models::empty_file(folder)?),
        ),
        ("half a model", Some(corrupt_models::half(model, folder)?)),
        (
            "a model without its end",
            Some(corrupt_models::shortened(model, folder)?),
        ),
        (
            "unknown architecture",
            corrupt_models::unknown_architecture(model, folder)?,
        ),
        (
            "unknown quantisation",
            corrupt_models::unknown_quantisation(model, folder)?,
        ),
    ];
    let options = [
        ("unknown backend", "--backend", "abacus"),
        ("absent device", "--device", "4242"),
        ("open host without a token", "--host", "0.0.0.0"),
        ("no name", "--worker-id", ""),
        (
            "a line break in the model's name",
            "--model",
            "no\nmodel.gguf",
        ),
    ];
    let absent = [Backend::Metal, Backend::Cuda].into_iter();
    let absent = absent.filter(|backend| is_surely_absent(*backend));
    let absent = absent.map(|backend| (backend.as_str(), "--backend", backend.as_str()));
    // Other backends may have several.
    let is_cpu = auxiliaries.launch.backend == Backend::Cpu;
    let second = is_cpu.then_some(("second device", "--device", "1"));
    let missing = folder.join("missing.gguf").display().to_string();
    let in_json = [("--model", missing.as_str()), ("--log-format", "json")];
    let mut starts = vec![("JSON logs and no model", alone(auxiliaries, &in_json)?)];
    for (name, option, value) in options.into_iter().chain(absent).chain(second) {
        starts.push((name, alone(auxiliaries, &[(option, value)])?));
    }
    for (name, path) in models {
        if let Some(path) = path {
            let model: PathBuf = path;
            starts.push((
                name,
                Launch {
                    model,
                    ..alone(auxiliaries, &[])?
                },
            ));
        }
    }
    let taken = Launch {
        port: taken_port,
        ..alone(auxiliaries, &[])?
    };
    starts.push((TAKEN_PORT, taken));
    Ok(starts)
}

/// The same as [`run`], on another port where somebody else has got the first: a worker that refuses to
/// start doesn't hold its own for long.
fn run_on_a_free_port(
    mut launch: Launch,
    folder: &Path,
    stop: &StopFlag,
    is_welcome: bool,
) -> Result<BareRun> {
    for _ in 1..PORTS {
        let (run, has_lost_port) = run(launch.clone(), folder, stop, is_welcome)?;
        if !has_lost_port {
            return Ok(run);
        }
        launch.port = port::pick_free()?;
    }
    Ok(run(launch, folder, stop, is_welcome)?.0)
}

/// Runs a worker until it ends by itself, becomes ready, or the time is up. Tells also whether somebody
/// else had its port by then.
///
/// Where readiness is what we waited for, the worker is asked to stop and its end is awaited.
fn run(
    launch: Launch,
    folder: &Path,
    stop: &StopFlag,
    is_welcome: bool,
) -> Result<(BareRun, bool)> {
    std::fs::create_dir_all(folder)?;
    let worker = WorkerHandle::start_apart(launch, folder, stop)?;
    let started = worker.started();
    let mut became_ready = false;
    let waited = stop.wait_for(
        "the end of a worker that can't serve",
        KNOWING_LIMIT,
        || {
            if worker.exited()?.is_some() {
                return Ok(Some(()));
            }
            became_ready |= worker.says_ready(QUESTION_LIMIT);
            let knows = first_error(&worker).map(|at| at + EXIT_LIMIT);
            let is_late = knows.is_some_and(|at| Instant::now() > at);
            Ok((became_ready || is_late).then_some(()))
        },
    );
    in_time(waited)?;
    let mut quiet_lines = 0;
    if is_welcome && became_ready {
        // What belongs to the start and to our questions may still be under way.
        stop.let_pass(SETTLED)?;
        let before = worker.log().timed_lines().len();
        stop.let_pass(QUIET)?;
        quiet_lines = worker.log().timed_lines().len() - before;
        in_time(worker.stop_orderly(STOP_LIMIT))?;
    }
    let (exit, lived) = (worker.exited()?.map(|exit| exit.status), started.elapsed());
    let has_lost_port = !became_ready && worker.port_lost().is_some();
    worker.finish();
    let since_start = |(at, line): (Instant, String)| (at.duration_since(started), line);
    let output = worker.output().map(|output| output.timed_lines());
    let run = BareRun {
        exit,
        became_ready,
        lived,
        stdout: output
            .unwrap_or_default()
            .into_iter()
            .map(|(_, line)| line)
            .collect(),
        stderr: worker
            .log()
            .timed_lines()
            .into_iter()
            .map(since_start)
            .collect(),
        quiet_lines,
    };
    Ok((run, has_lost_port))
}

impl BareRun {
    /// "exit status 0 after 0.1 s", "ready to serve", "still running after 8 s".
    pub fn describe(&self) -> String {
        let lived_s = self.lived.as_secs_f64();
        match self.exit {
            _ if self.became_ready => String::from("a worker that says it is ready"),
            Some(status) => format!("{} after {lived_s:.1} s", describe_exit(status)),
            None => format!("a process that is still running after {lived_s:.1} s"),
        }
    }
}

/// When the first line came that says what is wrong.
fn first_error(worker: &WorkerHandle) -> Option<Instant> {
    let lines = worker.log().timed_lines();
    let error = lines.iter().find(|(_, line)| line.starts_with("error:"));
    error.map(|(at, _)| *at)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::tasks::worker::target::dialect::native;
    use crate::tasks::worker::target::worker::Program;

    /// Another run's worker may get the port that ours has given up, or has not taken yet.
    #[test]
    fn a_stranger_on_the_port_is_not_taken_for_the_worker() {
        let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut connection in stranger.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = connection.read(&mut [0; 4096]);
                let body = r#"{"ready":true}"#;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
                let length = body.len();
                let _ = write!(
                    connection,
                    "{head}\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
        });
        let folder = std::env::temp_dir().join(format!("launches-{}", uuid::Uuid::new_v4()));
        let command = "sh -c 'sleep 0.3; exit 3'";
        let launch = Launch {
            dialect: native(),
            program: Program::Template(command.parse().unwrap()),
            worker_id: String::from("w"),
            model: PathBuf::from("m.gguf"),
            model_ref: String::from("m"),
            backend: Backend::Cpu,
            device: 0,
            port,
            hive_url: String::from(NO_HIVE),
            heartbeat_interval_secs: None,
            has_heartbeat: false,
            token: None,
            more: Vec::new(),
        };
        let stop = StopFlag::default();
        let (first, has_lost_port) = run(launch.clone(), &folder, &stop, false).unwrap();
        assert!(asked.load(Ordering::Relaxed) > 0);
        assert!(has_lost_port && !first.became_ready, "{first:?}");
        let second = run_on_a_free_port(launch, &folder, &stop, false).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(second.exit.and_then(|status| status.code()), Some(3));
    }
}
