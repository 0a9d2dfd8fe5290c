//! `worker:test`: the story of a run, top-down. The only place that joins guards, modes and
//! reporters.

mod build;
mod check;
pub mod config;
pub mod explain;
mod journal;
mod mode;
pub mod model;
pub mod plan;
mod record;
mod reporter;
mod signals;
mod stop;
mod subject;

use std::io::stdout;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use self::config::{Format, WorkerTestConfig};
use self::journal::Journal;
use self::model::download::{DownloadConfig, UnknownModel};
use self::record::event::{EventKind, RunInfo, SCHEMA_VERSION};
use self::reporter::Reporter;
use self::reporter::human::Human;
use self::reporter::json::JsonLines;
use self::stop::{Interrupted, StopFlag};
use self::subject::hive::MockHiveServer;
use self::subject::process::Launch;
use self::subject::python::Python;
use self::subject::{Surroundings, port};

/// Where runs keep their files, from the workspace root.
const ARTIFACTS: &str = "target/worker-test";

/// Runs the test and gives the exit code that the README documents.
pub fn test(config: &WorkerTestConfig) -> Result<ExitCode> {
    let began = Instant::now();
    let root = workspace_root();
    let info = run_info(&root);
    let folder = PathBuf::from(&info.artifacts);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create the run's folder {}", folder.display()))?;
    let stop = StopFlag::default();
    signals::raise_on_signal(&stop)?;

    let (journal, keeper) = Journal::open(vec![reporter(config)]);
    journal.emit(EventKind::RunStarted(info));
    if let Err(error) = run(config, &root, &folder, &journal, &stop) {
        journal.emit(match error.downcast::<Interrupted>() {
            Ok(Interrupted { signal }) => EventKind::Interrupted { signal },
            Err(error) => EventKind::Troubled {
                message: format!("{error:#}"),
            },
        });
    }
    journal.emit(EventKind::RunFinished {
        duration_ms: began.elapsed().as_millis() as u64,
    });
    let report = keeper.close(&journal);
    Ok(ExitCode::from(report.verdict().exit_code()))
}

/// Shows the catalog of models, or downloads one of them; gives the exit code.
pub fn download_model(config: &DownloadConfig) -> Result<ExitCode> {
    let stop = StopFlag::default();
    signals::raise_on_signal(&stop)?;
    let Err(error) = model::download::run(config, &workspace_root(), &stop) else {
        return Ok(ExitCode::SUCCESS);
    };
    let code = match error.downcast_ref::<Interrupted>() {
        Some(Interrupted { signal }) => 128 + *signal as u8,
        None if error.is::<UnknownModel>() => 2,
        None => return Err(error),
    };
    eprintln!("error: {error:#}");
    Ok(ExitCode::from(code))
}

/// Everything that is started lives in here, and is gone when it returns.
fn run(
    config: &WorkerTestConfig,
    root: &Path,
    folder: &Path,
    journal: &Journal,
    stop: &StopFlag,
) -> Result<()> {
    let plan = plan::plan(&config.selection)?;
    journal.emit(EventKind::ModelChecking);
    let model = model::find(config, root)?;
    journal.emit(EventKind::ModelFound(model.info.clone()));
    let worker_port = port::claim(config.port, "the worker", "--port")?;
    let python = Python::find(config.python.as_deref())?;
    let hive_port = port::claim(config.hive_port, "the mock hive", "--hive-port")?;
    let hive = MockHiveServer::start(&python, hive_port, folder, journal, stop)?;
    let binary = match &config.worker_bin {
        Some(binary) => binary.clone(),
        None => build::build_worker(root, config.backend, journal, stop)?,
    };
    let launch = Launch {
        binary,
        worker_id: config.worker_id.clone(),
        model: model.path,
        model_ref: model.info.model_ref,
        backend: config.backend,
        device: config.device,
        port: worker_port,
        hive_url: hive.url(),
        heartbeat_interval_secs: Some(config.heartbeat_interval_secs),
        more: Vec::new(),
    };
    let surroundings = Surroundings {
        config,
        python: &python,
        folder,
        journal,
        stop,
    };
    let outcome = mode::suite::run(surroundings, &hive, launch, &plan);
    journal.emit(EventKind::CleanupStarted);
    drop(hive);
    journal.emit(EventKind::CleanupFinished {
        survivors: Vec::new(),
    });
    outcome
}

fn reporter(config: &WorkerTestConfig) -> Box<dyn Reporter> {
    match config.format {
        Format::Human => Box::new(Human::on_stdout()),
        Format::Json => Box::new(JsonLines::new(stdout())),
    }
}

fn run_info(root: &Path) -> RunInfo {
    let now = chrono::Local::now();
    let id = uuid::Uuid::new_v4().simple().to_string();
    let run_id = format!("{}-{}", now.format("%Y%m%d-%H%M%S"), &id[..8]);
    RunInfo {
        schema_version: SCHEMA_VERSION,
        started_at: now.to_rfc3339(),
        artifacts: root.join(ARTIFACTS).join(&run_id).display().to_string(),
        run_id,
    }
}

/// The folder that holds the workspace's manifest.
fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}
