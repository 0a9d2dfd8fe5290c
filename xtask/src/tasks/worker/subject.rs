//! What we touch: the only place with sockets and processes.

pub mod client;
pub mod companion;
mod cpu;
pub mod dialect;
pub mod group;
pub mod hive;
pub mod log;
pub mod open_stream;
pub mod pace;
pub mod platform;
pub mod port;
pub mod process;
pub mod python;
pub mod raw;
pub mod reaper;
pub mod roster;
pub mod sse;
pub mod stream;

use std::cell::{Cell, OnceCell};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use self::client::{Request, Response};
use self::companion::Companion;
use self::dialect::{Completion, Health, InferenceRequest, Readiness};
use self::hive::MockHiveServer;
use self::pace::Pace;
use self::process::{Launch, StartUp, WorkerProcess};
use self::python::Python;
use self::stream::StreamedAnswer;
use super::config::WorkerTestConfig;
use super::journal::Journal;
use super::record::event::{Answer, EventKind, Mismatch};
use super::stop::StopFlag;

/// How long a question about health or readiness may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How long an inference may take until its last token.
const INFERENCE_LIMIT: Duration = Duration::from_secs(120);

/// What a run needs to start processes.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'run> {
    /// What was asked for.
    pub config: &'run WorkerTestConfig,
    /// Runs the mock hive.
    pub python: &'run Python,
    /// The folder that holds the run's files.
    pub folder: &'run Path,
    /// Where facts go.
    pub journal: &'run Journal,
    /// Tells every wait to give up.
    pub stop: &'run StopFlag,
}

/// The worker under test with all that a check may ask of it.
#[derive(Debug)]
pub struct Subject<'run> {
    /// What it runs in.
    pub surroundings: Surroundings<'run>,
    /// Collects the worker's heartbeats, and nobody else's.
    pub hive: &'run MockHiveServer,
    /// The worker's process.
    pub worker: WorkerProcess,
    /// What was seen until it was ready.
    pub start_up: StartUp,
    /// The broken promise that kept it from being ready.
    pub not_ready: Option<Mismatch>,
    /// The check that is running.
    pub check_id: Cell<&'static str>,
    /// What is known about the worker's pace, once somebody has asked.
    pub known_pace: OnceCell<Pace>,
}

impl Subject<'_> {
    /// Asks whether the process lives.
    pub fn health(&self) -> Result<Health> {
        let response = self.ask(&dialect::health_request(), QUESTION_LIMIT)?;
        Ok(dialect::read_health(&response)?)
    }

    /// Asks whether an inference would be accepted.
    pub fn ready(&self) -> Result<Readiness> {
        let response = self.ask(&dialect::ready_request(), QUESTION_LIMIT)?;
        Ok(dialect::read_ready(&response)?)
    }

    /// Asks for an answer as a whole.
    pub fn infer(&self, request: &InferenceRequest) -> Result<Completion> {
        let response = self.ask(&request.to_request(false), INFERENCE_LIMIT)?;
        Ok(dialect::read_completion(&response)?)
    }

    /// Asks for a streamed answer; its tokens become events as they arrive.
    pub fn infer_streamed(&self, request: &InferenceRequest) -> Result<StreamedAnswer> {
        let request = request.to_request(true);
        let id = self.check_id.get();
        let answer = stream::receive(self.worker.client(), &request, INFERENCE_LIMIT, |text| {
            let (id, text) = (id.to_owned(), text.to_owned());
            self.surroundings
                .journal
                .emit(EventKind::TokenReceived { id, text });
        });
        answer.map_err(|error| self.worker.blame(error))
    }

    /// Sends any request and records the answer. No answer is the worker's fault.
    pub fn ask(&self, request: &Request, limit: Duration) -> Result<Response> {
        let response = self
            .worker
            .client()
            .send(request, limit)
            .map_err(|error| self.worker.blame(error))?;
        let text = || Value::String(String::from_utf8_lossy(&response.body).into_owned());
        self.surroundings.journal.emit(EventKind::Answered(Answer {
            id: self.check_id.get().to_owned(),
            request: response.request.clone(),
            status: response.status,
            duration_ms: (response.received - response.sent).as_secs_f64() * 1e3,
            body: serde_json::from_slice(&response.body).unwrap_or_else(|_| text()),
        }));
        Ok(response)
    }

    /// How fast workers like this one are: measured once, on a companion that has nothing else to do.
    pub fn pace(&self, companion: &Companion) -> Result<&Pace> {
        if let Some(pace) = self.known_pace.get() {
            return Ok(pace);
        }
        let pace = Pace::measure(companion)?;
        Ok(self.known_pace.get_or_init(|| pace))
    }

    /// Starts a second worker with a hive of its own; `change` says what is different.
    pub fn companion(&self, name: &str, change: impl FnOnce(&mut Launch)) -> Result<Companion> {
        self.companion_after(name, |launch, _| {
            change(launch);
            Ok(())
        })
    }

    /// The same, where the hive has to be prepared before the worker starts.
    pub fn companion_after(
        &self,
        name: &str,
        prepare: impl FnOnce(&mut Launch, &MockHiveServer) -> Result<()>,
    ) -> Result<Companion> {
        Companion::start(self, name, prepare)
    }
}
