//! What is asked of `worker:mutants`. Pure.

use std::path::PathBuf;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct MutantsConfig {
    /// Globs over faults: only these; all of them where it is empty.
    pub faults: Vec<String>,
    /// How many runs at a time; three for each core where it is `None`.
    pub jobs: Option<usize>,
    /// Only the isolation suite, as far as it is about one worker, and the check that has to catch
    /// the fault, instead of everything that runs by default.
    pub quick: bool,
    /// One fault for each check, the first that it has to catch, instead of all of them.
    pub each_check: bool,
    /// The Python that runs the faulty worker and the mock hive; searched for where it is `None`.
    pub python: Option<PathBuf>,
}
