//! `worker:test`: the story of a run, top-down. The only place that joins guards, modes and
//! reporters.

mod artifacts;
mod build;
pub mod check;
pub mod config;
mod environment;
pub mod evidence;
pub mod explain;
mod journal;
mod load;
mod mode;
pub mod model;
pub mod mutants;
mod net;
mod other_tasks;
mod other_worker;
pub mod pack;
pub mod plan;
mod process;
pub mod record;
pub mod reporter;
pub mod rerun;
mod self_test;
mod setup;
mod target;
mod workspace;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use self::artifacts::RunFolder;
use self::config::arguments;
use self::config::target::WorkerSource;
use self::config::{Mode, WorkerTestConfig};
use self::environment::Gathering;
use self::journal::Journal;
use self::plan::Planned;
use self::process::python::Python;
use self::process::stop::{Interrupted, StopFlag};
use self::process::{inheritance, port, registry, secrets};
use self::record::backend::Backend;
use self::record::event::{
    CheckRecord, EventKind, Mismatch, NO_SURVIVORS, Outcome, PlannedCheck, Purpose, RunInfo,
    SCHEMA_VERSION,
};
use self::record::matrix::{Matrix, RunMetadata};
use self::record::report::Verdict;
use self::target::dialect::Promise;
use self::target::hive;
use self::target::hive::MockHiveServer;
use self::target::worker;
use self::target::worker::Launch;
use self::target::{Deadline, RunContext, RunSettings};

use self::workspace::Home;

pub use self::other_tasks::{calibrate, download_model, mutants, reap, self_test, supervise};
pub use self::process::reaper::TASK as REAPER_TASK;
pub use self::setup::{Inputs, inputs};

/// Where runs keep their files, from the target folder.
const ARTIFACTS: &str = "worker-test";

/// How far a run came that had a worker.
enum Ended {
    /// Everything was tried.
    Whole,
    /// Not everything was, and the journal says why.
    Early,
}

/// Runs the test and gives the exit code that the README documents.
pub fn test(
    config: &WorkerTestConfig,
    inputs: &Inputs,
    arguments: Vec<OsString>,
) -> Result<ExitCode> {
    let began = Instant::now();
    let home = Home::find();
    let root = home.root.as_path();
    let run_id = new_run_id();
    let folder = RunFolder::create(&artifacts(config, root), &run_id)?;
    let stop = StopFlag::default();
    process::signals::raise_on_signal(&stop)?;
    process::panics::raise_on_panic(&stop);
    registry::open(&run_id)?;
    let given = config.target.env.iter();
    let given: Vec<_> = given
        .map(|given| (given.name.clone(), given.value.clone()))
        .collect();
    inheritance::give_workers(&given);

    let reporters = evidence::reporters(config, folder.path());
    let (journal, keeper) = Journal::open(reporters, secrets::redactor());
    let purpose = config.mode.purpose();
    journal.emit(EventKind::RunStarted(run_info(
        run_id,
        folder.path(),
        purpose,
    )));
    journal.emit(EventKind::Configured {
        options: config.options(),
        arguments: repeatable(arguments),
    });
    let mut gathering = Gathering::begin(root, &journal);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let folder = folder.path();
        run(
            config,
            inputs,
            &home,
            folder,
            &journal,
            &stop,
            &mut gathering,
        )
    }));
    // What unwound has dropped its guards; a panic has raised the flag.
    match ran.unwrap_or_else(|_| stop.check().map(|()| Ended::Whole).map_err(Into::into)) {
        Ok(Ended::Early) => {}
        // It may have been raised during the clean-up.
        Ok(Ended::Whole) => {
            if let Err(interrupted) = stop.check() {
                journal.emit(ending(interrupted.into()));
            }
        }
        Err(error) => {
            journal.emit(ending(error));
            journal.emit(cleanup_started());
        }
    }
    audit(&journal);
    gathering.finish();
    journal.emit(EventKind::RunFinished {
        duration_ms: began.elapsed().as_millis() as u64,
    });
    let verdict = match keeper.close(&journal, || stop.check().is_err()) {
        Some(report) => report.verdict(),
        // Nobody takes the output, and somebody wants us to end.
        None => match stop.check() {
            Err(Interrupted::Signal(signal)) => Verdict::Interrupted(signal),
            _ => Verdict::Invalid,
        },
    };
    Ok(ExitCode::from(verdict.exit_code()))
}

/// What a run would try, and how long that took the last time, as text.
pub fn show_plan(config: &WorkerTestConfig, inputs: &Inputs) -> Result<String> {
    let (_, checks) = planned(config, inputs)?;
    let runs = artifacts::runs(&artifacts(config, &Home::find().root)).unwrap_or_default();
    Ok(explain::planned(&checks, &evidence::last_times(&runs)))
}

/// Tests every backend that this machine has, each in a process of its own with these arguments;
/// gives the exit code that the README documents.
pub fn test_all_backends(
    config: &WorkerTestConfig,
    required: &[Backend],
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ExitCode> {
    let began = Instant::now();
    let home = Home::find();
    let root = home.root.as_path();
    let run_id = new_run_id() + artifacts::MATRIX_SUFFIX;
    let folder = RunFolder::create(&artifacts(config, root), &run_id)?;
    let stop = StopFlag::default();
    process::signals::raise_on_signal(&stop)?;
    process::panics::raise_on_panic(&stop);
    registry::open(&run_id)?;
    let run = run_info(run_id, folder.path(), config.mode.purpose());
    let matrix_run = mode::matrix::MatrixRun {
        arguments: mode::matrix::run_arguments(arguments),
        builds: config.target.source == WorkerSource::Workspace,
        device: config.device,
        required,
        folder: folder.path(),
        stop: &stop,
    };
    let columns = matrix_run.run(|step| evidence::show_step(config, &step));
    let survivors = registry::close().survivors;
    let metadata = RunMetadata {
        run: Some(run),
        duration_ms: Some(began.elapsed().as_millis() as u64),
        interrupted_by: match stop.check() {
            Err(Interrupted::Signal(signal)) => Some(signal),
            _ => None,
        },
        survivors,
    };
    let matrix = Matrix::fold(columns, metadata);
    evidence::show_matrix(config, &matrix, folder.path());
    Ok(ExitCode::from(matrix.exit_code))
}

/// What runs the same again, but for the checks.
fn repeatable(given: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let kept = arguments::without(given, arguments::SELECTION).into_iter();
    kept.map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// Everything that is started lives in here, and is gone when it returns.
///
/// Fails where nothing could be tried. Once there is a worker, the summary comes before the
/// clean-up, and why it ended before both.
fn run(
    config: &WorkerTestConfig,
    inputs: &Inputs,
    home: &Home,
    folder: &Path,
    journal: &Journal,
    stop: &StopFlag,
    gathering: &mut Gathering,
) -> Result<Ended> {
    let root = home.root.as_path();
    setup::ensure_testable(config, home)?;
    let (plan, checks) = planned(config, inputs)?;
    journal.emit(EventKind::Planned { checks });
    journal.emit(EventKind::ModelChecking);
    let model = match config.knows_model() {
        true => Some(model::find(config, root)?),
        false => None,
    };
    if let Some(model) = &model {
        journal.emit(EventKind::ModelFound(model.info.clone()));
        gathering.hash_model(&model.path, journal);
    }
    let attached = config.target.attached();
    if attached.is_none() {
        port::ensure_free(config.port, "the worker", "--port")?;
    }
    let (model_path, model_ref, reference) = match model {
        Some(model) => (model.path, model.info.model_ref, model.reference),
        None => (PathBuf::new(), config.model_ref.clone(), None),
    };
    let dialect = setup::dialect(config, inputs, &model_ref, stop)?;
    for message in dialect.differences() {
        journal.emit(EventKind::Noted { message });
    }
    // Where no heartbeats come, nobody has to receive them.
    let has_heartbeat =
        dialect.promises(Promise::Heartbeats) && !config.target.no_heartbeat && attached.is_none();
    let python = match has_heartbeat {
        true => {
            port::ensure_free(config.hive_port, "the mock hive", "--hive-port")?;
            Some(Python::find(config.python.as_deref())?)
        }
        false => None,
    };
    let hive = match &python {
        Some(python) => MockHiveServer::start(python, config.hive_port, folder, journal, stop)?,
        None => MockHiveServer::absent(stop),
    };
    let other = match &config.mode {
        Mode::Benchmark(benchmark) => benchmark
            .against
            .as_deref()
            .map(|meant| other_worker::find(root, meant, config.backend, journal, stop)),
        Mode::Suite | Mode::Stress(_) => None,
    };
    let other = other.transpose()?;
    let program = setup::program(config, root, journal, stop)?;
    let worker_port = match (attached, config.port) {
        (Some(server), _) => server.port,
        (None, 0) => port::pick_free()?,
        (None, port) => port,
    };
    let launch = Launch {
        dialect,
        program,
        has_heartbeat,
        worker_id: match config.mode {
            Mode::Stress(_) => format!("{}-1", config.worker_id),
            Mode::Suite | Mode::Benchmark(_) => config.worker_id.clone(),
        },
        model: model_path,
        model_ref: model_ref.clone(),
        backend: config.backend,
        device: config.device,
        port: worker_port,
        hive_url: hive.url(),
        heartbeat_interval_secs: Some(config.heartbeat_interval_secs),
        token: None,
        more: Vec::new(),
    };
    let settings = RunSettings {
        prompt: config.prompt.clone(),
        max_tokens: config.max_tokens,
        port: attached.map_or(config.port, |server| server.port),
        timeout_secs: config.timeout_secs,
        time_limit: Deadline {
            began: Instant::now(),
            limit: config.time_limit,
        },
        heartbeat_interval_secs: config.heartbeat_interval_secs,
        heartbeat_window_secs: config.heartbeat_window_secs,
        max_fail: config.max_fail,
        log_lines: config.log_lines,
    };
    let context = RunContext {
        config: &settings,
        python: python.as_ref(),
        folder,
        known_model: reference.as_ref(),
        journal,
        stop,
    };
    let mut subject = mode::suite::start(context, &hive, launch)?;
    process::panics::rehearse();
    let ran = match &config.mode {
        Mode::Suite => mode::suite::run(&mut subject, &plan),
        Mode::Stress(stress) => mode::stress::run(&mut subject, &plan, stress),
        Mode::Benchmark(benchmark) => {
            let (other, runs) = (other.as_deref(), artifacts(config, root));
            mode::bench::run(&mut subject, &plan, benchmark, other, &runs, || {
                gathering.wait();
            })
        }
    };
    let compared = ran.and_then(|()| match &config.greedy {
        Some(teacher) => mode::greedy::run(&subject, teacher),
        None => Ok(()),
    });
    let compared = compared.and_then(|()| match &config.save_reference {
        Some(path) => mode::reference::save(&subject, &model_ref, path),
        None => Ok(()),
    });
    let ended = match compared {
        Ok(()) => Ended::Whole,
        Err(error) => {
            journal.emit(ending(error));
            Ended::Early
        }
    };
    mode::suite::show_log(&subject);
    journal.emit(cleanup_started());
    Ok(ended)
}

/// The clean-up, with the longest that it may take, as an event.
fn cleanup_started() -> EventKind {
    let limit = worker::END_LIMIT + hive::END_LIMIT;
    EventKind::CleanupStarted {
        limit_ms: Some(limit.as_millis() as u64),
    }
}

/// Why a run ended early, as an event.
fn ending(error: anyhow::Error) -> EventKind {
    match error.downcast::<Interrupted>() {
        Ok(Interrupted::Signal(signal)) => EventKind::Interrupted { signal },
        Ok(Interrupted::Failure(message)) => EventKind::Troubled { message },
        Err(error) => EventKind::Troubled {
            message: format!("{error:#}"),
        },
    }
}

/// Looks for whatever outlived its guard. What had to be ended is a broken promise, even where its
/// check never ran.
fn audit(journal: &Journal) {
    let began = Instant::now();
    let audit = registry::close();
    if !audit.left_behind.is_empty() {
        let place = "the process table after the run";
        let got = audit.left_behind.join("; ");
        journal.emit(EventKind::CheckFinished(CheckRecord {
            id: NO_SURVIVORS.to_owned(),
            outcome: Outcome::Failed(Mismatch::new(place, "no process of the run", got)),
            duration_ms: began.elapsed().as_millis() as u64,
            detail: None,
        }));
    }
    journal.emit(EventKind::CleanupFinished {
        survivors: audit.survivors,
    });
}

/// The checks that were asked for, as the table and as reports have them.
fn planned(
    config: &WorkerTestConfig,
    inputs: &Inputs,
) -> Result<(Vec<Planned>, Vec<PlannedCheck>)> {
    let plan = plan::plan(&check::table::rows(), &config.selection)?;
    let mut checks = match &config.mode {
        Mode::Suite => mode::suite::planned_checks(&plan).collect(),
        Mode::Benchmark(benchmark) => mode::bench::planned(&plan, benchmark),
        Mode::Stress(stress) => mode::stress::planned(&plan, stress),
    };
    inputs.known.mark(&mut checks);
    Ok((plan, checks))
}

/// Where the folders of runs go.
fn artifacts(config: &WorkerTestConfig, root: &Path) -> PathBuf {
    let asked_for = config.artifacts.clone();
    asked_for.unwrap_or_else(|| build::target_folder(root).join(ARTIFACTS))
}

/// Begins with the time, so that runs sort by their names.
fn new_run_id() -> String {
    let now = chrono::Local::now().format("%Y%m%d-%H%M%S");
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{now}-{}", &id[..8])
}

fn run_info(run_id: String, folder: &Path, purpose: Purpose) -> RunInfo {
    RunInfo {
        schema_version: SCHEMA_VERSION,
        run_id,
        started_at: chrono::Local::now().to_rfc3339(),
        artifacts: folder.display().to_string(),
        purpose,
    }
}
