//! What a run brings to whatever it does with workers: what was asked of it, and where its facts go.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::model::reference::ModelReference;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::StopFlag;

/// When something is over, and how long it was to take.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// From when on,
    pub began: Instant,
    /// for how long.
    pub limit: Duration,
}

impl Deadline {
    /// A worker that answers slowly, or not at all, must not hold a run for ever: what was not tried by
    /// then is named, and the run isn't green.
    ///
    /// Fails when it is over.
    pub fn ensure_not_over(self) -> Result<()> {
        let Deadline { began, limit } = self;
        anyhow::ensure!(
            began.elapsed() < limit,
            "not tried: earlier checks took {limit:?}\n  try: a longer --time-limit, or see what holds \
             them up"
        );
        Ok(())
    }
}

/// What was asked of a run, as far as those who talk to workers have to know it.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// The user's prompt.
    pub prompt: String,
    /// How many tokens are asked for with it.
    pub max_tokens: u32,
    /// The port that the worker has to use; 0 for any.
    pub port: u16,
    /// How long a worker may take until it is ready, in seconds.
    pub timeout_secs: u64,
    /// When no further check is tried on a worker that serves.
    pub time_limit: Deadline,
    /// The interval of the heartbeats, in seconds.
    pub heartbeat_interval_secs: u64,
    /// How long heartbeats are watched, in seconds.
    pub heartbeat_window_secs: u64,
    /// After so many failed checks those that are left are skipped.
    pub max_fail: Option<u32>,
    /// How many of the log's last lines are shown.
    pub log_lines: usize,
}

/// What a run needs to start processes.
#[derive(Debug, Clone, Copy)]
pub struct RunContext<'run> {
    /// What was asked for.
    pub config: &'run RunSettings,
    /// Runs the mock hive; `None` where no worker sends heartbeats.
    pub python: Option<&'run Python>,
    /// The folder that holds the run's files.
    pub folder: &'run Path,
    /// What the model says by another engine, where that is known.
    pub known_model: Option<&'run ModelReference>,
    /// Where facts go.
    pub journal: &'run Journal,
    /// Tells every wait to give up.
    pub stop: &'run StopFlag,
}

impl RunContext<'_> {
    /// What the model says by another engine. Fails where that isn't known.
    pub fn known_model(&self) -> Result<&ModelReference> {
        self.known_model.context("nothing is known about the model")
    }
}
