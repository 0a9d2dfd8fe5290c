//! The tasks besides `worker:test` and `worker:report`, each in a few lines: what they do is elsewhere.

use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::mode::calibrate;
use super::model::download;
use super::model::download::{DownloadConfig, Refused};
use super::mutants::config::MutantsConfig;
use super::process::stop::{Interrupted, StopFlag};
use super::process::{reaper, signals, supervisor};
use super::reporter;
use super::workspace::Home;

/// Measures the load generator's own error and limits; gives the exit code.
pub fn calibrate() -> Result<ExitCode> {
    let stop = StopFlag::default();
    signals::raise_on_signal(&stop)?;
    let measured = calibrate::measure(&stop);
    let measured = measured.and_then(|found| Ok((found, calibrate::across(&stop)?)));
    let (calibration, loads) = match measured {
        Ok(measured) => measured,
        Err(error) => return interrupted(error),
    };
    // A reader that went away has seen enough.
    let lines = reporter::calibration(&calibration, &loads);
    let _ = writeln!(stdout(), "{}", lines.join("\n"));
    Ok(ExitCode::SUCCESS)
}

/// Shows that a run which is killed leaves nobody behind; gives the exit code.
pub fn self_test(python: Option<&Path>) -> Result<ExitCode> {
    let stop = StopFlag::default();
    signals::raise_on_signal(&stop)?;
    super::self_test::run(python, &stop)
}

/// Puts a process in front of a run, which sees to it that nobody is left behind however the run ends,
/// and gives the run's exit code; `None` where this process is to run itself.
pub fn supervise() -> Result<Option<ExitCode>> {
    supervisor::supervise().context("cannot start a process for the run")
}

/// Ends what a run left behind, if it was killed. For the hidden task that a run starts itself.
pub fn reap(run_id: &str) -> ExitCode {
    reaper::run(run_id)
}

/// Shows the catalog of models, or downloads one of them; gives the exit code.
pub fn download_model(config: &DownloadConfig) -> Result<ExitCode> {
    let stop = StopFlag::default();
    signals::raise_on_signal(&stop)?;
    let Err(error) = download::run(config, &Home::find().root, &stop) else {
        return Ok(ExitCode::SUCCESS);
    };
    let shown = format!("error: {error:#}");
    let code = match error.is::<Refused>() {
        true => ExitCode::from(2),
        false => interrupted(error)?,
    };
    // A terminal that is gone can't be told.
    let _ = writeln!(stderr(), "{shown}");
    Ok(code)
}

/// Tests the tester with a faulty worker; gives the exit code.
pub fn mutants(config: &MutantsConfig) -> Result<ExitCode> {
    let stop = StopFlag::default();
    signals::raise_on_signal(&stop)?;
    match super::mutants::run(config, &Home::find().root, &stop) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(error) => interrupted(error),
    }
}

/// The exit code of what a signal has ended, as shells have it; any other error stays one.
fn interrupted(error: anyhow::Error) -> Result<ExitCode> {
    match error.downcast_ref::<Interrupted>() {
        Some(Interrupted::Signal(signal)) => Ok(ExitCode::from(128 + *signal as u8)),
        Some(Interrupted::Failure(_)) | None => Err(error),
    }
}
