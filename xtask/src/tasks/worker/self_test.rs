//! `worker:test --self-test`: shows to whoever doubts it that nobody is left behind.
//!
//! Runs this very command against a worker that doesn't want to go, kills the run without a
//! warning, and looks at what is left.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::platform::{Listeners, Process};
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::record::event::{Event, EventKind};

const STUBBORN_SOURCE: &str = include_str!("self_test/stubborn_worker.py");

/// The check that the run is killed in: the worker never answers it.
const CHECK: &str = "inference.answers";

/// How long the run may take until it is in the midst of things.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long the clean-up may take: the worker's grace period, and three seconds.
const GONE_LIMIT: Duration = Duration::from_secs(6);

/// Gives the worker a child that has dropped its group, its session, its parent and its environment,
/// where such a one can be found.
const ORPHAN: Option<&str> = if platform::ADOPTS_ORPHANS {
    Some("STUBBORN_ORPHAN=600")
} else {
    None
};

/// A run that is going to be killed.
struct InnerRun {
    child: Child,
    events: Receiver<EventKind>,
}

/// The run when it was killed, and what it had started.
#[derive(Debug, Default)]
struct Leaders {
    supervisor: u32,
    run: u32,
    hive: u32,
    worker: u32,
    ports: Vec<u16>,
}

/// A folder that goes when this does.
struct Scratch(PathBuf);

/// Runs the self-test and gives its exit code.
pub fn run(python: Option<&Path>, stop: &StopFlag) -> Result<ExitCode> {
    let python = Python::find(python)?;
    let scratch = Scratch::new()?;
    say(
        "Starting a run over a worker that ignores every signal, has children and floods its log...",
    );
    let mut inner = InnerRun::start(&python, &scratch)?;
    let started = inner.wait_until_busy(stop)?;
    let table = platform::processes();
    let supervisor = inner.child.id();
    // The run itself, where a supervisor was put in front of it.
    let run = table.iter().find(|process| process.parent == supervisor);
    let run = run.filter(|_| platform::ADOPTS_ORPHANS).map(|run| run.pid);
    let leaders = Leaders {
        supervisor,
        run: run.unwrap_or(supervisor),
        ..started
    };
    let family = family(&table, &leaders);
    for process in &family {
        let role = role(process, &leaders);
        say(&format!(
            "  {:>8}  {:<12} {role}",
            process.pid, process.name
        ));
    }
    say("Killing the run (no signal handler, no destructor, no clean-up of its own)...");
    let killed = Instant::now();
    match run {
        Some(run) => platform::kill_process(run),
        None => inner.child.kill().context("cannot kill the run")?,
    }
    inner.child.wait()?;
    let left = wait_until_gone(&family, killed, stop)?;
    let held: Vec<_> = leaders
        .ports
        .iter()
        .filter(|&&port| platform::listeners(port) != Listeners::Nobody)
        .collect();
    for process in &left {
        say(&format!("  left behind: {process}"));
    }
    for port in &held {
        say(&format!("  still held: port {port}"));
    }
    if !(left.is_empty() && held.is_empty()) {
        say("FAILED: processes or ports were left behind");
        return Ok(ExitCode::FAILURE);
    }
    say(&format!(
        "PASSED: {} processes gone and {} ports free {:.1} s after the kill",
        family.len(),
        leaders.ports.len(),
        killed.elapsed().as_secs_f64()
    ));
    Ok(ExitCode::SUCCESS)
}

impl InnerRun {
    fn start(python: &Python, scratch: &Scratch) -> Result<Self> {
        let worker = scratch.write_worker(python)?;
        let mut child = Command::new(platform::own_executable()?)
            .args(["worker:test", "--format", "json", "--check", CHECK])
            .args(["--port", "0", "--hive-port", "0", "--worker-bin"])
            .arg(worker)
            .args(ORPHAN.iter().flat_map(|given| ["--worker-env", given]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a run")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, events) = channel();
        std::thread::spawn(move || read_events(stdout, |event| sender.send(event).is_ok()));
        Ok(Self { child, events })
    }

    /// Waits until the worker has been asked for something that it never answers.
    fn wait_until_busy(&mut self, stop: &StopFlag) -> Result<Leaders> {
        let mut started = Leaders::default();
        stop.wait_for("the run to be under way", START_LIMIT, || {
            for event in self.events.try_iter() {
                match event {
                    EventKind::HiveStarted { pid, port } => {
                        started.hive = pid;
                        started.ports.push(port);
                    }
                    EventKind::WorkerStarting(worker) => started.ports.push(worker.port),
                    EventKind::WorkerStarted { pid } => started.worker = pid,
                    EventKind::CheckStarted { id } if id == CHECK => return Ok(Some(())),
                    EventKind::Troubled { message } => bail!("the run could not start: {message}"),
                    _ => {}
                }
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the run exited early: {}", platform::describe_exit(status));
            }
            Ok(None)
        })?;
        Ok(started)
    }
}

impl Drop for InnerRun {
    /// Where we end early: the run's own reaper sees to the rest.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Scratch {
    fn new() -> Result<Self> {
        let name = format!("worker-self-test-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// A program that takes the contract's arguments.
    fn write_worker(&self, python: &Python) -> Result<PathBuf> {
        let source = self.0.join("stubborn_worker.py");
        std::fs::write(&source, STUBBORN_SOURCE)?;
        platform::write_launcher(&self.0.join("worker"), &python.command(), &source)
            .context("cannot write the worker")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The run, its children, and all that are in a group with one of them.
fn family<'a>(table: &'a [Process], leaders: &Leaders) -> Vec<&'a Process> {
    let belongs = |process: &&Process| {
        let own = [
            leaders.supervisor,
            leaders.run,
            leaders.hive,
            leaders.worker,
        ];
        own.contains(&process.pid)
            || own.contains(&process.parent)
            || (process.group != 0 && own[2..].contains(&process.group))
    };
    table.iter().filter(belongs).collect()
}

fn role(process: &Process, leaders: &Leaders) -> &'static str {
    match process.pid {
        pid if pid == leaders.run => "the run",
        pid if pid == leaders.supervisor => "its supervisor",
        pid if pid == leaders.hive => "the mock hive",
        pid if pid == leaders.worker => "the worker",
        _ if process.group == leaders.worker => "the worker's child",
        _ if process.name == "sleep" => "an orphan without an environment",
        _ => "the reaper",
    }
}

/// Who is still there when the time is up.
fn wait_until_gone<'a>(
    family: &[&'a Process],
    killed: Instant,
    stop: &StopFlag,
) -> Result<Vec<&'a Process>> {
    let mut left = Vec::new();
    let limit = GONE_LIMIT.saturating_sub(killed.elapsed());
    let gone = stop.wait_for("all processes to end", limit, || {
        let table = platform::processes();
        let lives = |process: &&&Process| {
            let same =
                |other: &Process| other.pid == process.pid && other.started == process.started;
            table.iter().any(same)
        };
        left = family.iter().filter(lives).copied().collect();
        Ok(left.is_empty().then_some(()))
    });
    in_time(gone)?;
    Ok(left)
}

/// Hands over the events in `output` as long as somebody takes them.
fn read_events(output: impl Read, mut take: impl FnMut(EventKind) -> bool) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(event) = serde_json::from_str::<Event>(&line)
            && !take(event.kind)
        {
            return;
        }
    }
}

/// Whoever doesn't listen any more still gets the exit code.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
