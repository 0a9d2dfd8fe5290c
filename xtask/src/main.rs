//! Parses the command line, dispatches, and sets the exit code.

mod cli;
mod tasks;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::report::ReportConfig;
use cli::{Cli, Task, WorkerTestArgs};
use tasks::worker::check::table;
use tasks::worker::evidence;
use tasks::worker::pack;

/// The exit code for a command line that is wrong, as clap gives it too.
const USAGE: u8 = 2;
/// The exit code for a run that could not judge.
const CANNOT_JUDGE: u8 = 3;

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        None => Ok(Cli::command()
            .print_help()
            .map(|()| ExitCode::SUCCESS)
            .unwrap_or(ExitCode::FAILURE)),
        Some(Task::WorkerTest(args)) => worker_test(*args, std::env::args_os().skip(1).collect()),
        Some(Task::Reaper { run_id }) => Ok(tasks::worker::reap(&run_id)),
        Some(Task::WorkerReport(args)) => report(args.into_config()),
        Some(Task::WorkerDownloadModel(args)) => tasks::worker::download_model(&args.into_config()),
        Some(Task::WorkerMutants(args)) => tasks::worker::mutants(&args.into_config()),
        Some(Task::Completions(args)) => print_text(&args.script(Cli::command())),
    };
    outcome.unwrap_or_else(|error| fail(&error, CANNOT_JUDGE))
}

/// A run by these arguments, which are also what repeats it.
fn worker_test(args: WorkerTestArgs, arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    if let Some(run) = args.rerun() {
        // Before anything is said, which the run itself would say once more.
        if let Some(code) = tasks::worker::supervise()? {
            return Ok(code);
        }
        return match tasks::worker::rerun::arguments(run) {
            Ok(arguments) => match Cli::parse_from(arguments_of_xtask(&arguments)).task {
                Some(Task::WorkerTest(args)) if args.rerun().is_none() => {
                    worker_test(*args, arguments)
                }
                _ => Ok(fail(
                    &anyhow::anyhow!("--rerun: {} is no run of worker:test", run.display()),
                    USAGE,
                )),
            },
            Err(error) => Ok(fail(&error, USAGE)),
        };
    }
    if let Some(python) = args.self_test() {
        return tasks::worker::self_test(python);
    }
    if args.is_calibration() {
        return tasks::worker::calibrate();
    }
    if let Some(question) = args.question() {
        return match question.answer(&table::rows(), table::by_hand) {
            Ok(text) => print_text(&text),
            Err(error) => Ok(fail(&error, USAGE)),
        };
    }
    let (all_backends, is_plan) = (args.all_backends(), args.is_plan());
    let asked = args.into_config().and_then(|config| {
        let inputs = tasks::worker::inputs(&config)?;
        Ok((config, inputs))
    });
    if is_plan {
        let planned = asked.and_then(|(config, inputs)| tasks::worker::show_plan(&config, &inputs));
        return match planned {
            Ok(text) => print_text(&text),
            Err(error) => Ok(fail(&error, USAGE)),
        };
    }
    if asked.is_ok()
        && let Some(code) = tasks::worker::supervise()?
    {
        return Ok(code);
    }
    match asked {
        Ok((config, inputs)) => match all_backends {
            None => tasks::worker::test(&config, &inputs, arguments),
            Some(required) => match evidence::ensure_matrix_reports(&config.reports) {
                Ok(()) => tasks::worker::test_all_backends(&config, &required, arguments),
                Err(error) => Ok(fail(&error, USAGE)),
            },
        },
        Err(error) => Ok(fail(&error, USAGE)),
    }
}

/// With the program's name in front, as clap wants them.
fn arguments_of_xtask(arguments: &[OsString]) -> Vec<OsString> {
    let name = OsString::from("cargo xtask");
    std::iter::once(name)
        .chain(arguments.iter().cloned())
        .collect()
}

fn report(config: ReportConfig) -> anyhow::Result<ExitCode> {
    match config {
        ReportConfig::Render(config) => evidence::render(&config)?,
        ReportConfig::Compare(config) => evidence::compare(&config)?,
        ReportConfig::Pack(config) => pack::pack(&config)?,
        ReportConfig::Open(config) => pack::open(&config)?,
        ReportConfig::Merge(config) => {
            if let Err(error) = evidence::ensure_matrix_reports(&config.reports) {
                return Ok(fail(&error, USAGE));
            }
            evidence::merge(&config)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an answer; a reader that went away (`| head`) has seen enough.
fn print_text(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    // A terminal that is gone can't be told.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}
