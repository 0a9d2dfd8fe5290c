//! The worker under test, with all that a check may ask of it.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Result;

use super::auxiliary::Auxiliaries;
use super::context::RunContext;
use super::dialect::{Dialect, InferenceRequest};
use super::hive::MockHiveServer;
use super::observations::Observations;
use super::recorder::Asker;
use super::reference::{Reference, References};
use super::worker::WorkerHandle;
use super::worker::start_up::StartUp;
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::record::event::{Mismatch, Unmet};

/// How long a chat of one token may take.
const CHAT_LIMIT: Duration = Duration::from_secs(120);

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

    /// What the worker under test answers when nothing disturbs it. One that isn't ready is asked nothing.
    pub fn references(&self) -> Result<&References> {
        if let Some(mismatch) = &self.not_ready {
            return Err(mismatch.clone().into());
        }
        let prompt = self.context.config.prompt.as_str();
        self.observations
            .of(|| References::of_first(&self.worker, prompt))
    }

    /// The long one of them.
    pub fn reference(&self) -> Result<&Reference> {
        Ok(&self.references()?.long)
    }
}
