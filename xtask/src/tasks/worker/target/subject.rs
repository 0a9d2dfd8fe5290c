//! The worker under test, with all that a check may ask of it.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::auxiliary::Auxiliaries;
use super::dialect::{Dialect, InferenceRequest};
use super::hive::MockHiveServer;
use super::observations::Observations;
use super::recorder::Asker;
use super::reference::{Reference, References};
use super::worker::WorkerHandle;
use super::worker::start_up::StartUp;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::model::reference::ModelReference;
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::event::{Mismatch, Unmet};

/// How long a chat of one token may take.
const CHAT_LIMIT: Duration = Duration::from_secs(120);

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

/// The worker under test with all that a check may ask of it.
#[derive(Debug)]
pub struct Subject<'run> {
    /// What it runs in.
    pub context: RunContext<'run>,
    /// Collects the worker's heartbeats, and nobody else's.
    pub hive: &'run MockHiveServer,
    /// The worker's process.
    pub worker: WorkerHandle,
    /// What was seen until it was ready.
    pub start_up: StartUp,
    /// The broken promise that kept it from being ready.
    pub not_ready: Option<Mismatch>,
    /// The check that is running.
    pub check_id: Asker,
    /// Starts workers beside it.
    pub auxiliaries: Auxiliaries<'run>,
    /// What is observed once and judged by several checks.
    pub observations: Observations,
    /// How late we were ourselves, and when.
    pub jitter: JitterWatch,
    /// What changed the worker's answers, if something did.
    pub degraded: RefCell<Option<Unmet>>,
}

/// Why the worker doesn't chat, if it doesn't.
#[derive(Debug)]
struct ChatRefusal(Option<String>);

impl RunContext<'_> {
    /// What the model says by another engine. Fails where that isn't known.
    pub fn known_model(&self) -> Result<&ModelReference> {
        self.known_model.context("nothing is known about the model")
    }
}

impl Subject<'_> {
    /// Why the worker refuses to chat with its model, if it does so in the form of an error. Whatever
    /// else it says is for a check to judge.
    pub fn chat_refusal(&self) -> Option<String> {
        let asked = self.observations.of(|| {
            let request = InferenceRequest {
                as_chat: true,
                ..InferenceRequest::greedy("Hello", 1)
            };
            let request = self.dialect().inference_request(&request, false);
            let response = self.worker.ask(&request, CHAT_LIMIT)?;
            let is_refused = (400..500).contains(&response.status);
            let refusal = self.dialect().read_error(&response);
            let refusal = refusal.ok().filter(|_| is_refused);
            Ok(ChatRefusal(refusal.map(|refusal| refusal.message)))
        });
        let message = asked.ok()?.0.as_ref()?;
        Some(format!("the server refuses to chat: {message}"))
    }

    /// How it is talked to.
    pub fn dialect(&self) -> &'static dyn Dialect {
        self.worker.dialect()
    }

    /// What the worker under test answers when nothing disturbs it.
    pub fn references(&self) -> Result<&References> {
        let prompt = self.context.config.prompt.as_str();
        self.observations
            .of(|| References::of_first(&self.worker, prompt))
    }

    /// The long one of them.
    pub fn reference(&self) -> Result<&Reference> {
        Ok(&self.references()?.long)
    }
}
