//! The options of `worker:mutants`, as types.

use std::path::PathBuf;

use clap::Args;

use crate::tasks::worker::mutants::config::MutantsConfig;

/// What `--help` says below the options.
pub const HELP: &str = "\
Examples:
  cargo xtask worker:mutants
  cargo xtask worker:mutants --quick
  cargo xtask worker:mutants --quick --each-check
  cargo xtask worker:mutants --fault 'beat.*' --jobs 2

Each fault is tried in a run of its own over the isolation and contract suites, and over the check
of the resilience suite that has to catch it. The table of faults is xtask/tests/faults.toml; its
benign rows break no promise, and no check may fail because of them.

Exit codes:
  0  every fault was caught by the check that guards its promise, and no other check was blamed
  1  one was not
  2  the command line is wrong
  3  it could not be tried
  130, 143  interrupted or terminated, after cleaning up";

/// Options of `worker:mutants`.
#[derive(Debug, Args)]
pub struct MutantsArgs {
    /// Try only the faults whose name matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    fault: Vec<String>,
    /// How many runs at a time; they mostly wait [default: two per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    jobs: Option<u8>,
    /// Try only one fault for each check, which shows that every check can fail
    #[arg(long)]
    each_check: bool,
    /// Run only the isolation suite and the check that has to catch the fault
    #[arg(long)]
    quick: bool,
    /// The Python that runs the mock hive [default: python3, python or py -3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

impl MutantsArgs {
    /// What to try, and how.
    pub fn into_config(self) -> MutantsConfig {
        MutantsConfig {
            faults: self.fault,
            jobs: self.jobs.map(usize::from),
            quick: self.quick,
            each_check: self.each_check,
            python: self.python,
        }
    }
}
