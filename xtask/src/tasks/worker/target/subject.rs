//! The worker under test, with all that a check may ask of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::dialect::{Completion, Dialect, Health, InferenceRequest, Readiness};
use super::hive::MockHiveServer;
use super::known::Pace;
use super::observations::Observations;
use super::recorder::{Line, Recorder};
use super::stream;
use super::worker::{StartUp, WorkerHandle};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::net::client::{Client, NoAnswer, Request, Response};
use crate::tasks::worker::net::raw;
use crate::tasks::worker::net::stream::StreamedAnswer;
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::event::Mismatch;

/// How long a question about health or readiness may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How long an inference may take until its last token.
const INFERENCE_LIMIT: Duration = Duration::from_secs(120);

/// The least time for an answer once the worker's pace is known.
const KNOWN_PACE_LIMIT: Duration = Duration::from_secs(15);

/// How much longer than the slowest answer so far a worker may be silent before nobody asks on.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

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
    /// The interval of the heartbeats, in seconds.
    pub heartbeat_interval_secs: u64,
    /// How long heartbeats are watched, in seconds.
    pub heartbeat_window_secs: u64,
    /// How many of the log's last lines are shown.
    pub log_lines: usize,
}

/// What a run needs to start processes.
#[derive(Debug, Clone, Copy)]
pub struct RunContext<'run> {
    /// What was asked for.
    pub config: &'run RunSettings,
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
    pub check_id: Cell<&'static str>,
    /// What is known about the worker's pace, once somebody has asked.
    pub known_pace: OnceCell<Pace>,
    /// What is observed once and judged by several checks.
    pub seen: Observations,
    /// How late we were ourselves, and when.
    pub jitter: JitterWatch,
    /// What changed the worker's answers, if something did.
    pub degraded_by: RefCell<Option<String>>,
    /// Whether the last request got no answer although the process lives.
    pub unanswered: Cell<bool>,
    /// The longest that an answer has taken so far.
    pub slowest: Cell<Option<Duration>>,
}

impl Subject<'_> {
    /// How it is talked to.
    pub fn dialect(&self) -> &'static dyn Dialect {
        self.worker.launch().dialect
    }

    /// Asks whether the process lives.
    pub fn health(&self) -> Result<Health> {
        let response = self.ask(&self.dialect().health_request(), QUESTION_LIMIT)?;
        Ok(self.dialect().read_health(&response)?)
    }

    /// Asks whether an inference would be accepted.
    pub fn ready(&self) -> Result<Readiness> {
        let response = self.ask(&self.dialect().ready_request(), QUESTION_LIMIT)?;
        Ok(self.dialect().read_ready(&response)?)
    }

    /// Asks for an answer as a whole.
    pub fn infer(&self, request: &InferenceRequest) -> Result<Completion> {
        self.infer_within(request, self.inference_limit())
    }

    /// The same, with a limit of its own.
    pub fn infer_within(&self, request: &InferenceRequest, limit: Duration) -> Result<Completion> {
        Ok(self.infer_timed(request, limit)?.0)
    }

    /// The same, with the time from the first byte of the request to the last of the answer: what
    /// we do with an answer, such as writing it down, is not the worker's time.
    pub fn infer_timed(
        &self,
        request: &InferenceRequest,
        limit: Duration,
    ) -> Result<(Completion, Duration)> {
        let response = self.ask(&self.dialect().inference_request(request, false), limit)?;
        let took = response.received - response.sent;
        self.learn_pace(took);
        Ok((self.dialect().read_completion(&response)?, took))
    }

    /// Asks for a streamed answer; its tokens become events as they arrive.
    pub fn infer_streamed(&self, request: &InferenceRequest) -> Result<StreamedAnswer> {
        self.infer_streamed_within(request, self.inference_limit())
    }

    /// The same, with a limit of its own.
    pub fn infer_streamed_within(
        &self,
        request: &InferenceRequest,
        limit: Duration,
    ) -> Result<StreamedAnswer> {
        let request = self.dialect().inference_request(request, true);
        let client = self.worker.client();
        let recorder = Recorder::of(&self.journal_line(), client, &request, limit);
        let on_text = |text: &str| recorder.token(text);
        match stream::receive(self.dialect(), client, &request, limit, on_text) {
            Ok(answer) => {
                recorder.streamed(&request, &answer);
                self.learn_pace(answer.ended - answer.sent);
                Ok(answer)
            }
            Err(error) => {
                recorder.unanswered(&error);
                Err(self.blame(error))
            }
        }
    }

    /// Sends any request and records the answer. No answer is the worker's fault.
    pub fn ask(&self, request: &Request, limit: Duration) -> Result<Response> {
        let response = self.client().send(request, limit);
        response.map_err(|error| self.blame(error))
    }

    /// Sends any bytes and records the answer. No answer is the worker's fault.
    pub fn ask_raw(&self, name: &str, bytes: &[u8], limit: Duration) -> Result<Response> {
        let response = self.exchange(name, bytes, limit);
        response.map_err(|error| self.blame(error))
    }

    /// Sends any bytes to whoever may hang up on them: then there is no answer.
    pub fn ask_rudely(
        &self,
        name: &str,
        bytes: &[u8],
        limit: Duration,
    ) -> Result<Option<Response>> {
        match self.exchange(name, bytes, limit) {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.is::<NoAnswer>() => {
                self.worker.ensure_alive()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Why no more questions make sense, once one was not answered and neither are the next.
    pub fn silence(&self) -> Option<String> {
        if !self.unanswered.get() {
            return None;
        }
        let request = InferenceRequest::greedy("Hello", 1);
        let request = self.dialect().inference_request(&request, false);
        let limit = self.slowest.get().unwrap_or_default() + SILENCE_LIMIT;
        for (request, limit) in [
            (&self.dialect().health_request(), QUESTION_LIMIT),
            (&request, limit),
        ] {
            if self.worker.client().send(request, limit).is_err() {
                let name = request.name();
                return Some(format!("the worker no longer answers {name}"));
            }
        }
        self.unanswered.set(false);
        None
    }

    fn exchange(&self, name: &str, bytes: &[u8], limit: Duration) -> Result<Response> {
        let port = self.worker.launch().port;
        let recorder = Recorder::of_bytes(&self.journal_line(), name, bytes, limit);
        let answer = raw::exchange(port, name, bytes, limit, self.context.stop);
        recorder.note(&answer);
        answer
    }

    /// Talks to the worker, in the name of the running check.
    pub fn client(&self) -> Client {
        self.worker.client().witnessed(self.journal_line())
    }

    /// Where facts about a request of the running check go.
    fn journal_line(&self) -> Line {
        Line {
            journal: self.context.journal.clone(),
            check_id: self.check_id.get(),
            auxiliary: None,
            dialect: self.dialect(),
        }
    }

    fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<NoAnswer>() {
            self.unanswered.set(true);
        }
        self.worker.blame(error)
    }

    /// The longest wait for an answer, by the slowest so far.
    fn inference_limit(&self) -> Duration {
        let slowest = self.slowest.get();
        slowest.map_or(INFERENCE_LIMIT, |slowest| {
            (slowest * 20 + KNOWN_PACE_LIMIT).min(INFERENCE_LIMIT)
        })
    }

    fn learn_pace(&self, took: Duration) {
        self.slowest.set(self.slowest.get().max(Some(took)));
    }
}
