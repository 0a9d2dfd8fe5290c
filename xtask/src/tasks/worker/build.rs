//! Builds the worker of this workspace, before its time counts.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tasks::worker::config::Backend;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::event::EventKind;

/// The target folder of what is built for this very machine, from the workspace root.
const TARGET: &str = "target/native";

const PACKAGE: &str = "llm-worker-rbee";

/// The longest a build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// How long cargo may take to stop.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// Builds the worker for this machine and gives the path of its binary.
///
/// candle chooses its kernels at compile time, so the worker is built for the very processor that
/// runs it, into a target folder of its own: other builds stay portable and keep their artifacts.
pub fn build_worker(
    root: &Path,
    backend: Backend,
    journal: &Journal,
    stop: &StopFlag,
) -> Result<PathBuf> {
    build_worker_at(root, &root.join(TARGET), backend, journal, stop)
}

/// The same for another checkout of the workspace, with a target folder of anybody's.
pub fn build_worker_at(
    root: &Path,
    target: &Path,
    backend: Backend,
    journal: &Journal,
    stop: &StopFlag,
) -> Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .args(["build", "--release", "--package", PACKAGE, "--bin", PACKAGE])
        .arg("--target-dir")
        .arg(target)
        .args(["--config", "build.rustflags=[\"-Ctarget-cpu=native\"]"])
        .args(["--message-format", "json-render-diagnostics"]);
    if backend != Backend::Cpu {
        command.args(["--features", backend.as_str()]);
    }
    journal.emit(EventKind::BuildStarted {
        command: format!("cargo build --release --package {PACKAGE}"),
        limit_ms: Some(BUILD_LIMIT.as_millis() as u64),
    });
    let began = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let group =
        ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD).context("cannot start cargo")?;
    let messages = group
        .take_pipes()
        .1
        .context("cargo has no standard output")?;
    let errors = group.take_stderr().context("cargo has no standard error")?;
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = BufReader::new(errors).read_to_string(&mut text);
        text
    });
    let progress = journal.clone();
    let binary = std::thread::spawn(move || read_messages(messages, &progress));
    let status = stop.wait_for("the build of the worker", BUILD_LIMIT, || {
        Ok(group.try_wait()?)
    })?;
    let (binary, errors) = (
        binary.join().ok().flatten(),
        errors.join().unwrap_or_default(),
    );
    let Some(binary) = binary.filter(|_| status.success()) else {
        bail!(
            "the worker cannot be built: cargo ended with {status}\n{}",
            errors.trim_end()
        );
    };
    journal.emit(EventKind::BuildFinished {
        binary: binary.display().to_string(),
        duration_ms: began.elapsed().as_millis() as u64,
    });
    Ok(binary)
}

/// Reads cargo's messages to their end; gives the worker's executable.
fn read_messages(messages: impl Read, journal: &Journal) -> Option<PathBuf> {
    let mut binary = None;
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        if let Some(executable) = message["executable"].as_str() {
            binary = Some(PathBuf::from(executable));
        }
        if message["fresh"] == false
            && let Some(package) = message["target"]["name"].as_str()
        {
            let package = package.to_owned();
            journal.emit(EventKind::BuildProgress { package });
        }
    }
    binary
}
