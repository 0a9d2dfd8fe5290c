//! Which reporters a run has, and rendering a recorded run again.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Write, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tasks::worker::config::{Format, ReportTarget, WorkerTestConfig};
use crate::tasks::worker::mode::matrix::Step;
use crate::tasks::worker::record::event::CheckStatus;
use crate::tasks::worker::record::matrix::summary;
use crate::tasks::worker::record::matrix::summary::RunSummary;
use crate::tasks::worker::record::matrix::{Matrix, RunMetadata};
use crate::tasks::worker::record::output::{ReportKind, Verbosity};
use crate::tasks::worker::record::replay;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::runs_compared::RunsCompared;
use crate::tasks::worker::reporter::detached::{self, Detached};
use crate::tasks::worker::reporter::file;
use crate::tasks::worker::reporter::file::FileReport;
use crate::tasks::worker::reporter::github;
use crate::tasks::worker::reporter::github::{Annotations, Fenced, StepSummary};
use crate::tasks::worker::reporter::human;
use crate::tasks::worker::reporter::human::Human;
use crate::tasks::worker::reporter::json::JsonLines;
use crate::tasks::worker::reporter::{self, Reporter, document};

/// The recording in a run's folder.
pub const EVENTS: &str = "events.jsonl";

/// Everybody who hears of a run: the recording first, then the files, then whoever may keep us
/// waiting, people last.
pub fn reporters(config: &WorkerTestConfig, folder: &Path) -> Vec<Box<dyn Reporter>> {
    let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
    let events = folder.join(EVENTS);
    match std::fs::File::create(&events) {
        Ok(file) => reporters.push(Box::new(JsonLines::new(BufWriter::new(file)))),
        // The run goes on: its verdict doesn't hang on its recording.
        Err(error) => eprintln!("warning: {} is missing: {error}", events.display()),
    }
    for kind in ReportKind::always() {
        let path = folder.join(kind.file_name());
        reporters.push(Box::new(FileReport::new(kind, path)));
    }
    if let Some(path) = set("GITHUB_STEP_SUMMARY") {
        reporters.push(Box::new(StepSummary::new(PathBuf::from(path))));
    }
    let mut detached = |name, reporter| reporters.push(Box::new(Detached::start(name, reporter)));
    for ReportTarget { kind, path } in &config.reports {
        let path = match path {
            Some(path) => path.clone(),
            // The file in the run's folder is written anyway.
            None if ReportKind::always().any(|written| written == *kind) => continue,
            None => folder.join(kind.file_name()),
        };
        // Somebody's path may be a pipe.
        detached("a report", Box::new(FileReport::new(*kind, path)));
    }
    let on_github = set("GITHUB_ACTIONS").is_some();
    if on_github && config.format == Format::Json {
        // Not on standard output, which carries events for a machine; GitHub reads both.
        detached("the annotations", Box::new(Annotations::new(stderr())));
    }
    detached(
        "standard output",
        match config.format {
            Format::Human if on_github => {
                let word = uuid::Uuid::new_v4().to_string();
                let human = Human::on_stdout(config.verbosity);
                Box::new(Fenced::new(human, stdout(), word))
            }
            Format::Human => Box::new(Human::on_stdout(config.verbosity)),
            Format::Json => Box::new(JsonLines::new(stdout())),
        },
    );
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
    let report = recorded(events)?;
    for ReportTarget { kind, path } in &config.reports {
        let path = match path {
            Some(path) => path.clone(),
            None => events.with_file_name(kind.file_name()),
        };
        match file::write(*kind, &path, &report) {
            // A reader that went away (`| head`) has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe && path.as_os_str() == "-" => {}
            written => written.with_context(|| format!("cannot write {}", path.display()))?,
        }
        if path.as_os_str() != "-" {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// What is asked of `worker:report merge`.
#[derive(Debug, Clone)]
pub struct MergeConfig {
    /// Reports of runs and of matrices, or recordings.
    pub files: Vec<PathBuf>,
    /// The reports to render.
    pub reports: Vec<ReportTarget>,
}

/// Puts the runs of many machines into one matrix, and renders it.
pub fn merge(config: &MergeConfig) -> Result<()> {
    let mut columns = Vec::new();
    for path in &config.files {
        let read = columns_of(path);
        columns.extend(read.with_context(|| format!("cannot merge {}", path.display()))?);
    }
    let matrix = Matrix::fold(columns, RunMetadata::default());
    let beside = config.files.first().map(PathBuf::as_path);
    for ReportTarget { kind, path } in &config.reports {
        let path = match (path, beside) {
            (Some(path), _) => path.clone(),
            // Not the name of a run's own report, which may be the one that was read.
            (None, first) => first
                .unwrap_or(Path::new(""))
                .with_file_name("matrix")
                .with_extension(extension(*kind)),
        };
        write_matrix(*kind, &path, &matrix)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if path.as_os_str() != "-" {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// What is asked of `worker:report compare`.
#[derive(Debug, Clone)]
pub struct CompareConfig {
    /// The two runs: their folders, or their recordings.
    pub runs: [PathBuf; 2],
    /// The reports to render; none for people at a terminal.
    pub reports: Vec<ReportTarget>,
}

/// Puts two recorded runs side by side.
pub fn compare(config: &CompareConfig) -> Result<()> {
    let [before, after] = &config.runs;
    let compared = RunsCompared::of(&recorded(before)?, &recorded(after)?);
    if config.reports.is_empty() {
        let lines = human::comparison_lines(&compared);
        // A reader that went away (`| head`) has seen enough.
        return match human::print(&lines) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        };
    }
    for ReportTarget { kind, path } in &config.reports {
        let text = reporter::render_comparison(*kind, &compared);
        let text = text.context("--report: a comparison has json, markdown and html")?;
        let path = match path {
            Some(path) => path.clone(),
            None => Path::new("comparison").with_extension(extension(*kind)),
        };
        file::write_text(*kind, &path, &text)
            .with_context(|| format!("cannot write {}", path.display()))?;
        if path.as_os_str() != "-" {
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// The run of a recording, or of the folder that it is in.
pub fn recorded(path: &Path) -> Result<RunReport> {
    let events = match path.is_dir() {
        true => path.join(EVENTS),
        false => path.to_owned(),
    };
    // A line that was cut off may end in half a character.
    let bytes = std::fs::read(&events)
        .with_context(|| format!("cannot read the recording {}", events.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    replay::fold(text.lines()).with_context(|| format!("cannot render {}", events.display()))
}

/// Refuses the reports that tell of one run only.
pub fn ensure_matrix_reports(reports: &[ReportTarget]) -> Result<()> {
    for ReportTarget { kind, .. } in reports {
        if !ReportKind::of_matrices().contains(kind) {
            bail!("--report: several runs can only be reported as json, junit, markdown or html");
        }
    }
    Ok(())
}

/// Tells people which backend comes next. Machines hear of it from the run itself.
pub fn show_step(config: &WorkerTestConfig, step: &Step<'_>) {
    if config.format == Format::Json || config.verbosity == Verbosity::Quiet {
        return;
    }
    let lines = match step {
        Step::Begins(backend) => human::backend_lines(backend.as_str()),
        Step::Skipped(backend, reason) => human::skipped_backend_lines(backend.as_str(), reason),
    };
    // A terminal that is gone can't be told.
    let _ = detached::within_limit(move || human::print(&lines));
}

/// Shows the matrix and writes its reports. What can't be written is said, and changes nothing.
pub fn show_matrix(config: &WorkerTestConfig, matrix: &Matrix, folder: &Path) {
    let lines = match config.format {
        Format::Human => human::matrix_lines(matrix),
        Format::Json => vec![serde_json::to_string(matrix).unwrap_or_default()],
    };
    let is_json = config.format == Format::Json;
    let shown = detached::within_limit(move || match is_json {
        true => writeln!(stdout(), "{}", lines.concat()),
        false => human::print(&lines),
    });
    if let Err(error) = shown
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("warning: the matrix can't be shown: {error}");
    }
    let own = ReportKind::of_matrices().map(|kind| (kind, folder.join(kind.file_name())));
    let asked_for = config.reports.iter();
    let asked_for = asked_for.filter_map(|target| Some((target.kind, target.path.clone()?)));
    for (kind, path) in own.into_iter().chain(asked_for) {
        if let Err(error) = write_matrix(kind, &path, matrix) {
            eprintln!("warning: {} is missing: {error}", path.display());
        }
    }
    if let Some(path) = set("GITHUB_STEP_SUMMARY") {
        let page = reporter::render_matrix(ReportKind::Markdown, matrix).unwrap_or_default();
        if let Err(error) = github::append(Path::new(&path), &page) {
            eprintln!("warning: the job's summary is missing: {error}");
        }
    }
}

fn write_matrix(kind: ReportKind, path: &Path, matrix: &Matrix) -> io::Result<()> {
    let text = reporter::render_matrix(kind, matrix).unwrap_or_default();
    file::write_text(kind, path, &text)
}

/// How long each check took in the last of these runs, the oldest first, that tried it, in milliseconds.
pub fn last_times(runs: &[PathBuf]) -> BTreeMap<String, u64> {
    let reports = runs
        .iter()
        .map(|run| run.join(ReportKind::Json.file_name()));
    let columns = reports
        .filter_map(|report| columns_of(&report).ok())
        .flatten();
    let checks = columns.flat_map(|column| column.checks);
    let tried = checks.filter(|check| check.outcome != CheckStatus::Skipped);
    tried
        .filter_map(|check| Some((check.id, check.duration_ms?)))
        .collect()
}

/// The columns of one file: a report, or a recording, whose report they come of.
fn columns_of(path: &Path) -> Result<Vec<RunSummary>> {
    let bytes = std::fs::read(path).context("cannot read it")?;
    let text = String::from_utf8_lossy(&bytes);
    match replay::fold(text.lines()) {
        Ok(report) => Ok(summary::read(&document::render(&report))?),
        Err(newer @ replay::UnreadableRecording::Newer { .. }) => Err(newer.into()),
        Err(replay::UnreadableRecording::NotARecording { .. }) => Ok(summary::read(&text)?),
    }
}

fn extension(kind: ReportKind) -> &'static str {
    let name = Path::new(kind.file_name());
    name.extension().and_then(|end| end.to_str()).unwrap_or("")
}

fn set(variable: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}
