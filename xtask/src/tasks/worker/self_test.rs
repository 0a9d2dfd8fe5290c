//! `worker:test --self-test`: shows to whoever doubts it that nobody is left behind.
//!
//! Runs this very command against a worker that doesn't want to go, kills the run without a
//! warning, and looks at what is left.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::platform::Process;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::process::{platform, registry, strays};
use crate::tasks::worker::record::event::{Event, EventKind};

const STUBBORN_SOURCE: &str = include_str!("self_test/stubborn_worker.py");

/// The check that the run is killed in: the worker never answers it.
const CHECK: &str = "inference.answers";

/// How long the run may take until it is in the midst of things.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long the clean-up may take: the worker's grace period, and three seconds.
const GONE_LIMIT: Duration = Duration::from_secs(6);

/// How long the run may take to clean up where it is asked to, because this test was.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Gives the worker a child that has dropped its group, its session, its parent and its environment,
/// where such a one can be found.
const ORPHAN: Option<&str> = if platform::ADOPTS_ORPHANS {
    Some("STUBBORN_ORPHAN=600")
} else {
    None
};

/// A folder that goes when this does.
struct ScratchFolder(PathBuf);

/// What the run has told of itself.
struct Told(Vec<EventKind>);

/// Runs the self-test and gives its exit code.
pub fn run(python: Option<&Path>, stop: &StopFlag) -> Result<ExitCode> {
    let python = Python::find(python)?;
    let folder = ScratchFolder::new()?;
    say(
        "Starting a run over a worker that ignores every signal, has children and floods its log...",
    );
    let events = folder.0.join("events.jsonl");
    let run = start(&folder.write_worker(&python)?, &events)?;
    let told = wait_until_busy(&run, &events, stop)?;
    let family = strays::family_of(run.pid());
    let victim = family.iter().find(|process| process.parent == run.pid());
    // The run itself, where a supervisor was put in front of it.
    let victim = victim.filter(|_| platform::ADOPTS_ORPHANS);
    let victim = victim.map_or(run.pid(), |run| run.pid);
    for process in &family {
        let role = told.role(process, run.pid(), victim);
        let (pid, name) = (process.pid, &process.name);
        say(&format!("  {pid:>8}  {name:<12} {role}"));
    }
    say("Killing the run (no signal handler, no destructor, no clean-up of its own)...");
    let killed = Instant::now();
    platform::kill_process(victim);
    let mut left = Vec::new();
    let waited = stop.wait_for("all processes to end", GONE_LIMIT, || {
        left = strays::living(&family);
        Ok(left.is_empty().then_some(()))
    });
    in_time(waited)?;
    let took_s = killed.elapsed().as_secs_f64();
    let ports = told.ports();
    let held = ports.iter();
    let held: Vec<String> = held
        .filter_map(|(port, whose)| registry::held_port(*port, whose))
        .collect();
    for survivor in left.iter().map(ToString::to_string).chain(held.clone()) {
        say(&format!("  left behind: {survivor}"));
    }
    if !(left.is_empty() && held.is_empty()) {
        say("FAILED: processes or ports were left behind");
        return Ok(ExitCode::FAILURE);
    }
    say(&format!(
        "PASSED: {} processes gone and {} ports free {took_s:.1} s after the kill",
        family.len(),
        ports.len(),
    ));
    Ok(ExitCode::SUCCESS)
}

fn start(worker: &Path, events: &Path) -> Result<ProcessGroup> {
    let mut command = Command::new(platform::own_executable()?);
    command
        .args(["worker:test", "--format", "json", "--check", CHECK])
        .args(["--port", "0", "--hive-port", "0", "--worker-bin"])
        .arg(worker)
        .args(ORPHAN.iter().flat_map(|given| ["--worker-env", given]))
        .stdin(Stdio::null())
        .stdout(File::create(events).context("cannot keep the run's events")?);
    ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD).context("cannot start a run")
}

/// Waits until the worker has been asked for something that it never answers.
fn wait_until_busy(run: &ProcessGroup, events: &Path, stop: &StopFlag) -> Result<Told> {
    stop.wait_for("the run to be under way", START_LIMIT, || {
        let told = Told::read(events)?;
        if let Some(message) = told.trouble() {
            bail!("the run could not start: {message}");
        }
        if let Some(status) = run.try_wait()? {
            bail!("the run exited early: {}", platform::describe_exit(status));
        }
        Ok(told.is_busy().then_some(told))
    })
}

impl Told {
    /// The last line may not be whole yet, nor its last character.
    fn read(events: &Path) -> Result<Told> {
        let bytes = std::fs::read(events)?;
        let text = String::from_utf8_lossy(&bytes);
        let events = text.lines().map(serde_json::from_str::<Event>);
        Ok(Told(events.flatten().map(|event| event.kind).collect()))
    }

    fn is_busy(&self) -> bool {
        let is_asked = |event: &_| matches!(event, EventKind::CheckStarted { id } if id == CHECK);
        self.0.iter().any(is_asked)
    }

    fn trouble(&self) -> Option<&str> {
        self.0.iter().find_map(|event| match event {
            EventKind::Troubled { message } => Some(message.as_str()),
            _ => None,
        })
    }

    fn ports(&self) -> Vec<(u16, &'static str)> {
        let port = |event: &EventKind| match event {
            EventKind::HiveStarted { port, .. } => Some((*port, Role::Hive.name())),
            EventKind::WorkerStarting(worker) => Some((worker.port, Role::Worker.name())),
            _ => None,
        };
        self.0.iter().filter_map(port).collect()
    }

    fn role(&self, process: &Process, supervisor: u32, run: u32) -> &'static str {
        let leads = self.0.iter().find_map(|event| match event {
            EventKind::HiveStarted { pid, .. } if *pid == process.pid => Some(Role::Hive),
            EventKind::WorkerStarted { pid } if *pid == process.pid => Some(Role::Worker),
            _ => None,
        });
        let is_of_worker =
            |event: &_| matches!(event, EventKind::WorkerStarted { pid } if *pid == process.group);
        match leads {
            Some(role) => role.name(),
            None if process.pid == run => "the run",
            None if process.pid == supervisor => "its supervisor",
            None if self.0.iter().any(is_of_worker) => "the worker's child",
            None if process.name == "sleep" => "an orphan without an environment",
            None => "the reaper",
        }
    }
}

impl ScratchFolder {
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

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whoever doesn't listen any more still gets the exit code.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
