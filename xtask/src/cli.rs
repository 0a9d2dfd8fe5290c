//! The command line, as types. Reads arguments and nothing else.

mod benchmark;
pub mod completions;
mod download;
mod mutants;
#[cfg(test)]
mod reference;
pub mod report;
mod stress;
mod target;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::benchmark::BenchmarkArgs;
use self::completions::CompletionsArgs;
use self::download::DownloadModelArgs;
use self::mutants::MutantsArgs;
use self::report::ReportArgs;
use self::stress::StressArgs;
use self::target::TargetArgs;
use crate::tasks::worker::REAPER_TASK;
use crate::tasks::worker::check::table;
use crate::tasks::worker::config::benchmark::parse_duration;
use crate::tasks::worker::config::{Format, Mode, ReportTarget, Teacher, WorkerTestConfig};
use crate::tasks::worker::explain::TableQuery;
use crate::tasks::worker::plan::{self, Selection, Shard, SuiteChoice};
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::output::{ReportKind, Verbosity};

/// Tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub task: Option<Task>,
}

/// The list of tasks.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Test an inference worker: start it, check its promises, show the evidence
    #[command(name = "worker:test", after_help = WORKER_TEST_HELP)]
    WorkerTest(Box<WorkerTestArgs>),
    /// Render a recorded run again, including one from another machine or an older version
    #[command(name = "worker:report", after_help = report::HELP)]
    WorkerReport(ReportArgs),
    /// Download a model from the catalog and verify it, or list the catalog
    #[command(name = "worker:download-model", after_help = download::HELP)]
    WorkerDownloadModel(DownloadModelArgs),
    /// Test the tester: a faulty worker breaks one promise at a time, and each has to be caught
    #[command(name = "worker:mutants", after_help = mutants::HELP)]
    WorkerMutants(MutantsArgs),
    /// Print a script that completes commands and options in your shell
    #[command(after_help = completions::HELP)]
    Completions(CompletionsArgs),
    /// Ends what a run left behind when it was killed; a run starts it itself
    #[command(name = REAPER_TASK, hide = true)]
    Reaper {
        /// The run that it belongs to.
        run_id: String,
    },
}

const WORKER_TEST_HELP: &str = "\
Examples:
  cargo xtask worker:test
  cargo xtask worker:test --backend cuda --device 0 --timeout 60
  cargo xtask worker:test --model /path/to/model.gguf --port 0 --hive-port 0
  cargo xtask worker:test --worker-bin ./my-worker --format json
  cargo xtask worker:test --worker-cmd 'my-worker {model} --listen {host}:{port}' --no-heartbeat
  cargo xtask worker:test --suite all --skip 'heartbeat.*'
  cargo xtask worker:test --all-backends --require cuda
  cargo xtask worker:test --explain health.answers
  cargo xtask worker:test --benchmark --concurrency 1,4,16
  cargo xtask worker:test --benchmark --find-max-rate --slo ttft:200ms,tpot:50ms
  cargo xtask worker:test --benchmark startup
  cargo xtask worker:test --stress 4 --kill-one --duration 30s
  cargo xtask worker:test --soak 1h

Exit codes:
  0  everything that was requested ran, and passed
  1  the worker broke a promise
  2  the command line is wrong
  3  could not judge: environment, build, model, interference
  130, 143  interrupted or terminated, after cleaning up";

/// Options of `worker:test`.
#[derive(Debug, Args)]
pub struct WorkerTestArgs {
    /// The worker's name in health answers and heartbeats [default: test-worker-<uuid>]
    #[arg(long, value_name = "ID")]
    worker_id: Option<String>,
    /// The GGUF model: a file, or a name in the catalog [default: TinyLlama if it is present, else
    /// the model in this repository]
    #[arg(long, value_name = "PATH|NAME")]
    model: Option<PathBuf>,
    /// What the model should say: a file of --save-reference [default: built in for models of the
    /// catalog]
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Record what this worker says, to hold others with the same model to it; use a worker that
    /// you trust
    #[arg(long, value_name = "FILE", conflicts_with_all = ["benchmark", "stress", "soak", "all_backends"])]
    save_reference: Option<PathBuf>,
    /// What heartbeats call the model [default: derived from the model]
    #[arg(long, value_name = "REF")]
    model_ref: Option<String>,
    /// What the worker computes on
    #[arg(long, value_enum, default_value = "cpu")]
    backend: Backend,
    /// Test every backend in turn, each in its own process, and show them side by side; backends
    /// that this machine lacks are skipped
    #[arg(long, conflicts_with = "backend")]
    all_backends: bool,
    /// With --all-backends: a backend that must not be skipped; may be repeated
    #[arg(long, value_enum, value_name = "BACKEND", requires = "all_backends")]
    require: Vec<Backend>,
    /// Which device of that backend
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: u32,
    /// Port of the worker; 0 picks a free one
    #[arg(long, default_value_t = 18081)]
    port: u16,
    /// Port of the mock hive; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 19200)]
    hive_port: u16,
    /// How long the worker may take to become ready
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// How long the checks of a serving worker may take together: those that are left then are
    /// reported as not judged
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    time_limit: Duration,
    /// Heartbeat interval to request from the worker, whose own default is 30
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    heartbeat_interval: u64,
    /// The longest wait for heartbeats; it ends as soon as there are enough
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    heartbeat_window: u64,
    /// The prompt to continue
    #[arg(long, value_name = "TEXT", default_value = "Hello, how are you?")]
    prompt: String,
    /// The most tokens to generate for it [default: 20, or 128 in a benchmark]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// How many lines of the worker's log to show
    #[arg(long, value_name = "N", default_value_t = 30)]
    log_lines: usize,
    /// The Python that runs the mock hive [default: python3, python or py -3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Which checks to run [default: isolation and contract]
    #[arg(long, value_enum)]
    suite: Option<SuiteChoice>,
    /// Run only the checks whose name matches, in any suite; may be repeated
    #[arg(long, value_name = "GLOB")]
    check: Vec<String>,
    /// Skip the checks whose name matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    skip: Vec<String>,
    /// Skip the remaining checks once N have failed; how the worker ends is still judged
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_fail: Option<u32>,
    /// Run one part of the checks, the Ith of N: for long suites on several machines, whose reports
    /// `worker:report merge` joins
    #[arg(long, value_name = "I/N", conflicts_with_all = ["benchmark", "stress", "soak", "all_backends"])]
    shard: Option<Shard>,
    /// Run again what failed or could not be judged in a recorded run, with the same options: its
    /// folder, or the events.jsonl in it; all of a benchmark or stress run. It starts the command that
    /// the recording names
    #[arg(long, value_name = "RUN", exclusive = true)]
    rerun: Option<PathBuf>,
    /// A file of checks that are known to fail, one `ID REASON` per line: one that fails doesn't make
    /// the run red, and one that passes does
    #[arg(long, value_name = "FILE")]
    known_failures: Option<PathBuf>,
    /// List all checks without running them
    #[arg(long)]
    list_checks: bool,
    /// Explain a check without running it: its promise, how it is tested, how to try it by hand
    #[arg(long, value_name = "ID", conflicts_with = "list_checks")]
    explain: Option<String>,
    /// Show what would run with these options, and how long that took the last time, without running it
    #[arg(long, conflicts_with_all = ["list_checks", "explain", "self_test", "all_backends"])]
    plan: bool,
    /// Kill a run over a stubborn worker, and show that nothing is left behind
    #[arg(long, conflicts_with_all = ["list_checks", "explain", "all_backends"])]
    self_test: bool,
    /// How to show the run on standard output
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Write a report: json, junit, markdown, html, repro, trace, and for a benchmark github-benchmark or
    /// bencher; `-` as PATH is standard output. Without a path it goes into the run's folder. May
    /// be repeated
    #[arg(long, value_name = "KIND[=PATH]")]
    report: Vec<ReportTarget>,
    /// Write the run as a trace for Perfetto (ui.perfetto.dev) and Chrome into its folder, as
    /// trace.json: short for --report trace
    #[arg(long)]
    trace: bool,
    /// Record what a worker like this one goes on with along its own texts, or along those of a
    /// report: for --all-backends, which compares them
    #[arg(long, value_name = "REPORT.json", num_args = 0..=1, require_equals = true, hide = true)]
    greedy: Option<Option<PathBuf>>,
    /// Where runs keep their folders [default: worker-test in the workspace's target folder, or in
    /// the one that CARGO_TARGET_DIR names]
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Show only the summary
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Also show requests and answers, with their headers
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    benchmark: BenchmarkArgs,
    #[command(flatten)]
    stress: StressArgs,
}

impl WorkerTestArgs {
    /// The Python to do it with, where the self-test is asked for.
    pub fn self_test(&self) -> Option<Option<&Path>> {
        self.self_test.then_some(self.python.as_deref())
    }

    /// Whether only the client is to be measured.
    pub fn is_calibration(&self) -> bool {
        self.benchmark.calibrate
    }

    /// What is to be answered from the table of checks instead of running anything.
    pub fn question(&self) -> Option<TableQuery> {
        match &self.explain {
            Some(id) => Some(TableQuery::About(id.clone())),
            None => self.list_checks.then_some(TableQuery::List),
        }
    }

    /// The recorded run of which the failed part is to be run again.
    pub fn rerun(&self) -> Option<&Path> {
        self.rerun.as_deref()
    }

    /// Whether only the plan is asked for.
    pub fn is_plan(&self) -> bool {
        self.plan
    }

    /// The backends that must not be skipped, where all of them are to be tested.
    pub fn all_backends(&self) -> Option<Vec<Backend>> {
        self.all_backends.then(|| self.require.clone())
    }

    /// The validated configuration, or what is wrong with the command line.
    pub fn into_config(self) -> anyhow::Result<WorkerTestConfig> {
        let defaults = WorkerTestConfig::default();
        let stress = self.stress.into_config(self.benchmark.duration);
        let mode = match (self.benchmark.into_config(self.max_tokens), stress) {
            (Some(benchmark), _) => Mode::Benchmark(Box::new(benchmark)),
            (None, Some(stress)) => Mode::Stress(Box::new(stress)),
            (None, None) => Mode::Suite,
        };
        let selection = Selection {
            suite: self.suite,
            checks: self.check,
            skips: self.skip,
            shard: self.shard,
        };
        let selection = mode.selection(selection);
        plan::plan(&table::rows(), &selection)?;
        WorkerTestConfig {
            worker_id: self.worker_id.unwrap_or(defaults.worker_id),
            model_is_explicit: self.model.is_some(),
            model_path: self.model.unwrap_or(defaults.model_path),
            reference: self.reference,
            save_reference: self.save_reference,
            model_ref: self.model_ref.unwrap_or(defaults.model_ref),
            backend: self.backend,
            device: self.device,
            port: self.port,
            hive_port: self.hive_port,
            timeout_secs: self.timeout,
            time_limit: self.time_limit,
            heartbeat_interval_secs: self.heartbeat_interval,
            heartbeat_window_secs: self.heartbeat_window,
            mode,
            selection,
            prompt: self.prompt,
            max_tokens: self.max_tokens.unwrap_or(defaults.max_tokens),
            target: self.target.into_config(),
            max_fail: self.max_fail,
            known_failures: self.known_failures,
            log_lines: self.log_lines,
            python: self.python,
            format: self.format,
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, true) => Verbosity::Verbose,
                (false, false) => Verbosity::Normal,
            },
            reports: reports(self.report, self.trace),
            greedy: self.greedy.map(|teacher| match teacher {
                None => Teacher::Own,
                Some(path) => Teacher::Report(path),
            }),
            artifacts: self.artifacts,
        }
        .validate()
    }
}

/// The reports that were asked for, in one way or the other.
fn reports(mut reports: Vec<ReportTarget>, trace: bool) -> Vec<ReportTarget> {
    let kind = ReportKind::Trace;
    reports.extend(trace.then_some(ReportTarget { kind, path: None }));
    reports
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn its_defaults_are_those_of_the_configuration() {
        let cli = Cli::try_parse_from(["xtask", "worker:test"]).unwrap();
        let Some(Task::WorkerTest(args)) = cli.task else {
            panic!("worker:test was not parsed");
        };
        let mut parsed = args.into_config().unwrap();
        let default = WorkerTestConfig::default();
        parsed.worker_id.clone_from(&default.worker_id);
        assert_eq!(format!("{parsed:?}"), format!("{default:?}"));
    }
}
