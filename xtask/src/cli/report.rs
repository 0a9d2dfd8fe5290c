//! Options of `worker:report` and of its own tasks.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::tasks::worker::config::ReportTarget;
use crate::tasks::worker::evidence::{CompareConfig, MergeConfig, RenderConfig};
use crate::tasks::worker::pack::{OpenConfig, PackConfig};

/// What follows the options in the help.
pub const HELP: &str = "\
Examples:
  cargo xtask worker:report target/worker-test/latest/events.jsonl --report html=run.html
  cargo xtask worker:report events.jsonl --report markdown=- --report junit
  cargo xtask worker:report merge a/report.json b/report.json --report html=fleet.html
  cargo xtask worker:report compare target/worker-test/RUN target/worker-test/latest
  cargo xtask worker:report pack target/worker-test/latest

Without a path a report lands beside the recording.";

/// Options of `worker:report`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ReportArgs {
    /// What else can be done with reports.
    #[command(subcommand)]
    task: Option<ReportTask>,
    /// The recording: the events.jsonl of a run's folder
    #[arg(value_name = "EVENTS.jsonl", required = true)]
    events: Option<PathBuf>,
    /// What to render: json, junit, markdown or html; `-` as PATH is standard output. May be repeated
    #[arg(long, value_name = "KIND[=PATH]", required = true)]
    report: Vec<ReportTarget>,
}

/// What can be done with reports besides rendering a recording.
#[derive(Debug, Subcommand)]
pub enum ReportTask {
    /// Merge runs of many machines and backends into one matrix
    #[command(name = "merge", after_help = MERGE_HELP)]
    Merge(MergeArgs),
    /// Compare two recorded runs: checks that changed, figures with their ratio, what differs in
    /// the environment
    #[command(name = "compare", after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Pack a recorded run into one file to send: recording, logs and reports, without secrets
    #[command(name = "pack", after_help = PACK_HELP)]
    Pack(PackArgs),
    /// Open such a file: unpack it, and render its reports from the recording
    #[command(name = "open", after_help = OPEN_HELP)]
    Open(OpenArgs),
}

const PACK_HELP: &str = "\
Examples:
  cargo xtask worker:report pack target/worker-test/latest
  cargo xtask worker:report pack target/worker-test/latest red.zip

Without FILE.zip it lands beside the run's folder. Any program that reads zip files can read it.";

/// Options of `worker:report pack`.
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The run: its folder, or the events.jsonl in it
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The file to write; `-` is standard output
    #[arg(value_name = "FILE.zip")]
    file: Option<PathBuf>,
}

const OPEN_HELP: &str = "\
Examples:
  cargo xtask worker:report open red.zip
  cargo xtask worker:report open red.zip target/worker-test/red

Without FOLDER it lands beside the file. The folder must not exist yet. It is a run's folder as any other:
`worker:report compare` and `worker:test --rerun` take it.";

/// Options of `worker:report open`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// What `worker:report pack` made
    #[arg(value_name = "FILE.zip")]
    file: PathBuf,
    /// The folder to make for it
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

const COMPARE_HELP: &str = "\
Examples:
  cargo xtask worker:report compare target/worker-test/RUN target/worker-test/latest
  cargo xtask worker:report compare a/events.jsonl b/events.jsonl --report html=compared.html

Without --report the comparison is shown on standard output. The exit code is 0 whatever it says.";

/// Options of `worker:report compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The run to compare with: its folder, or the events.jsonl in it
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The run that came after it
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// What to render: json, markdown or html; `-` as PATH is standard output. May be repeated
    #[arg(long, value_name = "KIND[=PATH]")]
    report: Vec<ReportTarget>,
}

const MERGE_HELP: &str = "\
Examples:
  cargo xtask worker:report merge a.json b.json --report html=fleet.html --report markdown=-
  cargo xtask worker:report merge */report.json --report json=fleet.json

The columns stand in the order of the files. The report of a matrix brings all of its columns, and a
recording (events.jsonl) is read like the report that would come of it. Without a path a report lands
beside the first file, as matrix.json, matrix.xml, matrix.md or matrix.html. The exit code is 0 when
the reports are written, whatever they say: each run had an exit code of its own.";

/// Options of `worker:report merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Reports of runs: the report.json of their folders
    #[arg(value_name = "REPORT.json", required = true)]
    files: Vec<PathBuf>,
    /// What to render: json, junit, markdown or html; `-` as PATH is standard output. May be repeated
    #[arg(long, value_name = "KIND[=PATH]", required = true)]
    report: Vec<ReportTarget>,
}

/// What is asked of recordings and reports.
#[derive(Debug)]
pub enum ReportConfig {
    /// Render one recorded run again.
    Render(RenderConfig),
    /// Put many runs into one matrix.
    Merge(MergeConfig),
    /// Put two runs side by side.
    Compare(CompareConfig),
    /// Make one file of a run.
    Pack(PackConfig),
    /// Make a run's folder of one file.
    Open(OpenConfig),
}

impl ReportArgs {
    /// What to render.
    pub fn into_config(self) -> ReportConfig {
        match self.task {
            Some(ReportTask::Merge(MergeArgs { files, report })) => {
                ReportConfig::Merge(MergeConfig {
                    files,
                    reports: report,
                })
            }
            Some(ReportTask::Compare(args)) => ReportConfig::Compare(CompareConfig {
                runs: [args.before, args.after],
                reports: args.report,
            }),
            Some(ReportTask::Pack(PackArgs { run, file })) => {
                ReportConfig::Pack(PackConfig { run, file })
            }
            Some(ReportTask::Open(OpenArgs { file, folder })) => {
                ReportConfig::Open(OpenConfig { file, folder })
            }
            None => ReportConfig::Render(RenderConfig {
                // The command line isn't accepted without one of the two.
                events: self.events.unwrap_or_default(),
                reports: self.report,
            }),
        }
    }
}
