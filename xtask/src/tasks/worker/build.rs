//! Builds the worker of this workspace, before its time counts.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::event::EventKind;

const PACKAGE: &str = "llm-worker-rbee";

/// The longest a build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// How long cargo may take to stop.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// Builds the worker of the workspace at `root`, as any release build, and gives the path of its
/// binary. Its kernels are chosen when it runs, so that no flag of a compiler matters.
///
/// What cargo makes goes where the user said, or else into the workspace's own target folder; where
/// that can't be written to, into one for temporary files. `target` names another folder.
pub fn build_worker(
    root: &Path,
    target: Option<&Path>,
    backend: Backend,
    journal: &Journal,
    stop: &StopFlag,
) -> Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .args(["build", "--release", "--package", PACKAGE, "--bin", PACKAGE])
        .args(["--message-format", "json-render-diagnostics"])
        // Its progress is read, not shown.
        .env("CARGO_TERM_COLOR", "never")
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "200");
    if let Some(target) = target.map(Path::to_owned).or_else(|| elsewhere(root)) {
        command.arg("--target-dir").arg(target);
    }
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
    let progress = journal.clone();
    let errors = std::thread::spawn(move || read_errors(errors, &progress));
    let binary = std::thread::spawn(move || read_messages(messages));
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

/// Where builds and runs of this workspace go: where the user said, or else into its own target folder;
/// where that can't be written to, into one for temporary files.
pub fn target_folder(root: &Path) -> PathBuf {
    let said = said_target().and_then(|said| std::path::absolute(said).ok());
    said.or_else(|| elsewhere(root))
        .unwrap_or_else(|| root.join("target"))
}

/// What the user has told cargo.
fn said_target() -> Option<OsString> {
    let names = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];
    let mut said = names.iter().filter_map(std::env::var_os);
    said.find(|said| !said.is_empty())
}

/// Where to build a checkout that can't be written to, unless the user has said where.
fn elsewhere(root: &Path) -> Option<PathBuf> {
    let target = root.join("target");
    let is_writable = || {
        std::fs::create_dir_all(&target)?;
        tempfile(&target)
    };
    let stays = said_target().is_some() || is_writable().is_ok();
    (!stays).then(|| std::env::temp_dir().join("llm-worker-rbee-target"))
}

/// Whether a file can be made in a folder.
fn tempfile(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".written-by-{}", std::process::id()));
    std::fs::File::create_new(&path)?;
    std::fs::remove_file(&path)
}

/// Reads cargo's messages to their end; gives the worker's executable.
fn read_messages(messages: impl Read) -> Option<PathBuf> {
    let mut binary = None;
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        if message["reason"] == "compiler-artifact"
            && let Some(executable) = message["executable"].as_str()
        {
            binary = Some(PathBuf::from(executable));
        }
    }
    binary
}

/// Reads what cargo says to people, to its end: its progress becomes events, the rest is given.
fn read_errors(errors: impl Read, journal: &Journal) -> String {
    let mut text = String::new();
    let mut line = Vec::new();
    for byte in BufReader::new(errors).bytes().map_while(Result::ok) {
        if byte != b'\r' && byte != b'\n' {
            line.push(byte);
            continue;
        }
        let said = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        match read_progress(&said) {
            Some((done, of, package)) => journal.emit(EventKind::BuildProgress {
                package,
                done: Some(done),
                of: Some(of),
            }),
            None if said.trim().is_empty() => {}
            None => text += &format!("{said}\n"),
        }
    }
    text + &String::from_utf8_lossy(&line)
}

/// Reads `Building [=====>   ] 12/34: serde, tokio`: how many units are done, of how many, and which
/// are being built.
fn read_progress(line: &str) -> Option<(u32, u32, String)> {
    let (_, rest) = line.trim().strip_prefix("Building [")?.split_once("] ")?;
    let (counts, packages) = rest.split_once(": ").unwrap_or((rest, ""));
    let (done, of) = counts.split_once('/')?;
    let of = of.trim();
    Some((
        done.trim().parse().ok()?,
        of.parse().ok()?,
        packages.trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_from_errors() {
        let read = read_progress("    Building [=====>      ] 12/34: serde, tokio(build)");
        assert_eq!(read, Some((12, 34, String::from("serde, tokio(build)"))));
        let read = read_progress("Building [====] 34/34");
        assert_eq!(read, Some((34, 34, String::new())));
        for other in [
            "error: Building failed",
            "   Compiling serde v1.0.0",
            "Building a house",
        ] {
            assert_eq!(read_progress(other), None, "{other}");
        }
    }

    #[test]
    fn a_folder_that_takes_files_is_built_in() {
        let folder = std::env::temp_dir().join(format!("build-test-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(tempfile(&folder).is_ok() && tempfile(&folder.join("absent")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
