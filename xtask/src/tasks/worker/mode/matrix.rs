//! All backends, one after another: each is tested by a run of this very program, in a process and a
//! folder of its own, so that no backend can bring down or influence the test of another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::tasks::worker::config::arguments;
use crate::tasks::worker::process::group::{ProcessGroup, Role, describe_exit};
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::process::{gpu, platform};
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::matrix::summary;
use crate::tasks::worker::record::matrix::summary::RunSummary;

/// Longer than the longest of tests: each of their own waits has a deadline, too.
const COLUMN_LIMIT: Duration = Duration::from_secs(48 * 3600);

/// How long an interrupted run may take to clean up after itself.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// The report that a run leaves in its folder.
const REPORT: &str = "report.json";

/// Options that are the whole matrix's and no single run's, and whether a value follows.
const OWN_OPTIONS: &[arguments::Named] = &[
    ("--all-backends", false),
    ("--require", true),
    ("--report", true),
    ("--artifacts", true),
];

/// What is tested, and how.
#[derive(Debug)]
pub struct MatrixRun<'run> {
    /// The command line of each run: the task and its options, without those of the matrix.
    pub arguments: Vec<OsString>,
    /// Whether each run builds its worker, or is given one.
    pub builds: bool,
    /// The number of the device that each backend is tested on.
    pub device: u32,
    /// Backends whose absence is no excuse.
    pub required: &'run [Backend],
    /// The matrix's folder, which holds those of the runs.
    pub folder: &'run Path,
    /// Tells every wait to give up.
    pub stop: &'run StopFlag,
}

/// What happens next, for people.
#[derive(Debug)]
pub enum Step<'a> {
    /// A backend is going to be tested.
    Begins(Backend),
    /// A backend is left out.
    Skipped(Backend, &'a str),
}

impl MatrixRun<'_> {
    /// Tests what can be tested here; a column each, in the order of [`Backend`].
    pub fn run(&self, mut tell: impl FnMut(Step<'_>)) -> Vec<RunSummary> {
        let mut columns = Vec::new();
        let mut teacher = None;
        for &backend in Backend::value_variants() {
            let mut column = match self.why_not(backend) {
                Some(reason) => {
                    tell(Step::Skipped(backend, &reason));
                    RunSummary::skipped(backend.as_str(), reason)
                }
                None => {
                    tell(Step::Begins(backend));
                    let tested = self.test(backend, teacher.as_deref());
                    tested.unwrap_or_else(|error| {
                        RunSummary::lost(backend.as_str(), None, format!("{error:#}"))
                    })
                }
            };
            column.required = self.required.contains(&backend);
            if teacher.is_none() && column.greedy.is_some() {
                teacher = self.report_of(backend);
            }
            columns.push(column);
        }
        // All of them are about this machine, also those that had nobody to say so.
        let machine = columns.iter().find_map(|column| column.machine.clone());
        for column in &mut columns {
            column.machine.clone_from(&machine);
        }
        columns
    }

    /// Why a backend isn't tested, found out before anything is built.
    fn why_not(&self, backend: Backend) -> Option<String> {
        match self.stop.check() {
            Err(_) => Some(String::from("the run was interrupted before")),
            Ok(()) => gpu::missing(backend, self.device, self.builds),
        }
    }

    /// One run, from start to exit. Its output goes where ours goes, as it comes.
    fn test(&self, backend: Backend, teacher: Option<&Path>) -> Result<RunSummary> {
        let folder = self.folder.join(backend.as_str());
        let mut command = Command::new(platform::own_executable()?);
        command
            .args(&self.arguments)
            .args(["--backend", backend.as_str()])
            .arg("--artifacts")
            .arg(&folder)
            .arg(greedy_option(teacher))
            // The job's summary is the matrix's, which holds what the runs have to say.
            .env_remove("GITHUB_STEP_SUMMARY")
            .stdin(Stdio::null());
        // The process is the leader of a group that our guard ends: asked first, it cleans up after
        // itself. Where we are killed our reaper asks it, and on Linux it dies with us and its own
        // reaper sees to what it had started.
        let group = ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD)
            .context("cannot start a run of this program")?;
        let waited = self
            .stop
            .wait_for("the test of a backend", COLUMN_LIMIT, || {
                Ok(group.try_wait()?)
            });
        group.end_all();
        let status = group.try_wait()?.or_else(|| waited.ok());
        let code = status.and_then(|status| status.code());
        let ended = status.map_or_else(
            || String::from("it had to be killed"),
            |status| format!("it ended with {}", describe_exit(status)),
        );
        let lost = |why: &str| {
            let reason = format!("{why}: {ended}\n  see {}", folder.display());
            RunSummary::lost(
                backend.as_str(),
                code.and_then(|c| u8::try_from(c).ok()),
                reason,
            )
        };
        let Some(report) = self.report_of(backend) else {
            return Ok(lost("the run left no report"));
        };
        let text = std::fs::read_to_string(&report)
            .with_context(|| format!("cannot read {}", report.display()))?;
        let columns = summary::read(&text).with_context(|| report.display().to_string())?;
        let Some(column) = columns.into_iter().next() else {
            return Ok(lost("the run left an empty report"));
        };
        // A verdict that the process didn't stand by in the end is none.
        if column.exit_code.map(i32::from) != code {
            return Ok(lost("the run's report contradicts its exit code"));
        }
        Ok(column)
    }

    /// The report of a backend's run, once it has one.
    fn report_of(&self, backend: Backend) -> Option<PathBuf> {
        let folder = self.folder.join(backend.as_str());
        let runs = std::fs::read_dir(folder).ok()?.flatten();
        // `latest` is a link to the same folder, where there are links.
        let mut reports = runs
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path().join(REPORT));
        reports.find(|report| report.is_file())
    }
}

/// The command line of each run, from the one of the matrix.
pub fn run_arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    arguments::without(given, OWN_OPTIONS)
}

/// Asks a run for its next tokens: along its own text, or along the teacher's.
fn greedy_option(teacher: Option<&Path>) -> OsString {
    let mut option = OsString::from("--greedy");
    if let Some(teacher) = teacher {
        option.push("=");
        option.push(teacher);
    }
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(line: &str) -> Vec<OsString> {
        run_arguments(line.split(' ').map(OsString::from))
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_run_gets_all_options_but_those_of_the_matrix() {
        assert_eq!(
            kept(
                "worker:test --all-backends --stress 4 --require cuda --report html=x --port 0 --require=metal --artifacts a -q"
            ),
            words("worker:test --stress 4 --port 0 -q")
        );
    }

    #[test]
    fn what_only_looks_like_an_option_of_the_matrix_is_kept() {
        assert_eq!(
            kept("worker:test --prompt=--report --requires --all-backends"),
            words("worker:test --prompt=--report --requires")
        );
    }
}
