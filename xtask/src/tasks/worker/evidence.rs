//! Which reporters a run has, and rendering a recorded run again.

use std::io::{BufWriter, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::config::{Format, ReportTarget, WorkerTestConfig};
use super::record::replay;
use super::reporter::file::{self, FileReport};
use super::reporter::github::{Annotations, StepSummary};
use super::reporter::human::Human;
use super::reporter::json::JsonLines;
use super::reporter::{ReportKind, Reporter};

/// The recording in a run's folder.
const EVENTS: &str = "events.jsonl";

/// Everybody who hears of a run: the recording first, people next, then the files.
pub fn reporters(config: &WorkerTestConfig, folder: &Path) -> Vec<Box<dyn Reporter>> {
    let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
    let events = folder.join(EVENTS);
    match std::fs::File::create(&events) {
        Ok(file) => reporters.push(Box::new(JsonLines::new(BufWriter::new(file)))),
        // The run goes on: its verdict doesn't hang on its recording.
        Err(error) => eprintln!("warning: {} is missing: {error}", events.display()),
    }
    reporters.push(match config.format {
        Format::Human => Box::new(Human::on_stdout(config.verbosity)),
        Format::Json => Box::new(JsonLines::new(stdout())),
    });
    for kind in ReportKind::all() {
        reporters.push(Box::new(FileReport::new(
            kind,
            folder.join(kind.file_name()),
        )));
    }
    for ReportTarget { kind, path } in &config.reports {
        // Without a path it is the file in the run's folder, which is written anyway.
        if let Some(path) = path {
            reporters.push(Box::new(FileReport::new(*kind, path.clone())));
        }
    }
    if let Some(path) = set("GITHUB_STEP_SUMMARY") {
        reporters.push(Box::new(StepSummary::new(PathBuf::from(path))));
    }
    if set("GITHUB_ACTIONS").is_some() {
        // Not on standard output, which may carry events for a machine; GitHub reads both.
        reporters.push(Box::new(Annotations::new(stderr())));
    }
    reporters
}

/// What is asked of `worker:report`.
#[derive(Debug, Clone)]
pub struct RenderConfig {
    /// The recording.
    pub events: PathBuf,
    /// The reports to render.
    pub reports: Vec<ReportTarget>,
}

/// Renders a recorded run, also one that was cut off.
pub fn render(config: &RenderConfig) -> Result<()> {
    let events = &config.events;
    // A line that was cut off may end in half a character.
    let bytes = std::fs::read(events)
        .with_context(|| format!("cannot read the recording {}", events.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let report = replay::fold(text.lines())
        .with_context(|| format!("cannot render {}", events.display()))?;
    for ReportTarget { kind, path } in &config.reports {
        let path = match path {
            Some(path) => path.clone(),
            None => events.with_file_name(kind.file_name()),
        };
        file::write(*kind, &path, &report)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if path.as_os_str() != "-" {
            println!("{}", path.display());
        }
    }
    Ok(())
}

fn set(variable: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}
