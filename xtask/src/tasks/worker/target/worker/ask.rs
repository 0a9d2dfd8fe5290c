//! What a worker is asked, and what comes of it: the one way, for the worker under test and for all
//! others.
//!
//! No answer is the worker's fault, whoever asks.

use std::cell::OnceCell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Exit, Program, WorkerHandle};
use crate::tasks::worker::net::client::{Client, NoAnswer, Request, Response};
use crate::tasks::worker::net::raw::{self, RawConnection};
use crate::tasks::worker::net::stream::StreamedAnswer;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::process::wait::wait_until;
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::event::{Mismatch, Unmet};
use crate::tasks::worker::target::dialect::{
    Completion, Dialect, Health, InferenceRequest, Readiness,
};
use crate::tasks::worker::target::open_stream::OpenStream;
use crate::tasks::worker::target::recorder::Recorder;
use crate::tasks::worker::target::stream;

/// How long a question about health or readiness may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How long a connection to a loopback port may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How long an inference may take until its last token.
const INFERENCE_LIMIT: Duration = Duration::from_secs(120);

/// How long nothing may come of an inference before somebody has to be seen working on it,
const WATCH_LIMIT: Duration = Duration::from_secs(10);

/// how long before it is taken for unanswered,
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// and what counts as work: some more than it takes to wait.
const LEAST_WORK: Duration = Duration::from_millis(300);

/// The least time for an answer once the worker has given one,
const LEAST_LIMIT: Duration = Duration::from_secs(15);

/// and so many times what the slowest has taken.
const SLOWEST_FACTOR: u32 = 20;

/// How much longer than the slowest answer so far a worker may be silent before nobody asks on.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// How long after its last connection a worker that died may take to be seen as dead.
const DEATH_LIMIT: Duration = Duration::from_millis(300);

/// How many of many requests are under way at once.
const AT_A_TIME: u32 = 4;

/// How soon a request that found the queue full is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

impl WorkerHandle {
    /// Talks to it, on the record.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Talks to it without a word to the journal: for polls, and for load.
    pub fn quiet_client(&self) -> &Client {
        &self.quiet
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

    /// Asks for an answer as a whole, as long as the slowest so far lets expect.
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
        let response = self.ask_good(&self.dialect().inference_request(request, false), limit)?;
        let took = response.received - response.sent;
        self.note_time(took);
        Ok((self.dialect().read_completion(&response)?, took))
    }

    /// Sends an inference that any worker has to answer.
    pub fn ask_good(&self, request: &Request, limit: Duration) -> Result<Response> {
        let (began, worked) = (Instant::now(), OnceCell::new());
        let is_patient = || {
            let waited = began.elapsed();
            waited < WATCH_LIMIT || {
                let worked = *worked.get_or_init(|| self.processor_time());
                waited < IDLE_LIMIT || self.has_worked_since(worked)
            }
        };
        self.heard(limit, || self.client.send_while(request, limit, is_patient))
    }

    /// What comes of a good inference. One that isn't answered in time is counted, and after the second
    /// no more are sent.
    fn heard<T>(&self, limit: Duration, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        self.line.silence.ensure_heard()?;
        let began = Instant::now();
        ask().map_err(|error| {
            let waited = began.elapsed();
            let was_silent = waited >= limit || (error.is::<NoAnswer>() && waited >= IDLE_LIMIT);
            let error = self.blame(error);
            match error.downcast_ref::<Mismatch>() {
                Some(mismatch) if was_silent => self.line.silence.count(mismatch),
                _ => {}
            }
            error
        })
    }

    /// Whether anything has been computed since its group had used so much processor time. Whoever
    /// computes elsewhere, or can't be watched, is believed.
    fn has_worked_since(&self, before: Option<Duration>) -> bool {
        let is_here = self.launch.backend == Backend::Cpu
            && matches!(self.launch.program, Program::Contract(_));
        match (before, self.processor_time()) {
            (Some(before), Some(now)) if is_here => now.saturating_sub(before) >= LEAST_WORK,
            _ => true,
        }
    }

    /// Asks for whole answers, a few at a time; one that finds the queue full is asked for again.
    pub fn infer_all(&self, requests: &[InferenceRequest]) -> Result<Vec<Completion>> {
        self.line.silence.ensure_heard()?;
        let (limit, next) = (self.inference_limit() * AT_A_TIME, AtomicUsize::new(0));
        let stop = &self.stop;
        let dialect = self.dialect();
        let ask_in_turn = |client: Client| {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let Some(request) = requests.get(number) else {
                    return answers;
                };
                let request = dialect.inference_request(request, false);
                answers.push((
                    number,
                    send_until_taken(dialect, &client, &request, limit, stop),
                ));
            }
        };
        let mut answers: Vec<_> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..AT_A_TIME)
                .map(|_| self.client.clone())
                .map(|client| scope.spawn(|| ask_in_turn(client)))
                .collect();
            let join = |asker: ScopedJoinHandle<'_, _>| asker.join();
            let all = askers.into_iter().map(join);
            all.flat_map(|answers| answers.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        answers.sort_by_key(|(number, _)| *number);
        let read = |(_, answer): (usize, Result<Response>)| {
            let response = answer.map_err(|error| self.blame(error))?;
            self.note_time((response.received - response.sent) / AT_A_TIME);
            Ok(dialect.read_completion(&response)?)
        };
        answers.into_iter().map(read).collect()
    }

    /// Asks for a streamed answer, as long as the slowest so far lets expect.
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
        let answer = self.heard(limit, || {
            let recorder = Recorder::of(&self.line, &self.client, &request, limit);
            let on_text = |text: &str| recorder.token(text);
            let received = stream::receive(self.dialect(), &self.client, &request, limit, on_text);
            match &received {
                Ok(answer) => recorder.streamed(&request, answer),
                Err(error) => recorder.unanswered(error),
            }
            received
        })?;
        self.note_time(answer.ended - answer.sent);
        Ok(answer)
    }

    /// Sends any request.
    pub fn ask(&self, request: &Request, limit: Duration) -> Result<Response> {
        let response = self.client.send(request, limit);
        response.map_err(|error| self.blame(error))
    }

    /// Sends any bytes.
    pub fn ask_raw(&self, name: &str, bytes: &[u8], limit: Duration) -> Result<Response> {
        let response = self.exchange(name, bytes, limit);
        response.map_err(|error| self.blame(error))
    }

    /// Sends any bytes, on which the worker may hang up: then there is no answer.
    pub fn ask_rudely(
        &self,
        name: &str,
        bytes: &[u8],
        limit: Duration,
    ) -> Result<Option<Response>> {
        match self.exchange(name, bytes, limit) {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.is::<NoAnswer>() => {
                self.ensure_alive()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn exchange(&self, name: &str, bytes: &[u8], limit: Duration) -> Result<Response> {
        let recorder = Recorder::of_bytes(&self.line, name, bytes, limit);
        let answer = raw::exchange(self.launch.port, name, bytes, limit, &self.stop);
        recorder.note(&answer);
        answer
    }

    /// A connection on which nothing has been sent yet.
    pub fn connect(&self) -> Result<RawConnection> {
        let opened = RawConnection::open(self.launch.port, CONNECT_LIMIT, &self.stop);
        opened.map_err(|error| self.blame(error))
    }

    /// A connection whose worker soon feels that nobody reads.
    pub fn connect_narrow(&self) -> Result<RawConnection> {
        let opened = RawConnection::open_narrow(self.launch.port, CONNECT_LIMIT, &self.stop);
        opened.map_err(|error| self.blame(error))
    }

    /// A streamed request whose answer is read as far as somebody asks for it.
    pub fn open_stream(&self, request: &InferenceRequest) -> Result<OpenStream> {
        let request = self.dialect().inference_request(request, true);
        self.open_on(self.connect()?, &request)
    }

    /// A request on this connection, whose answer is read as far as somebody asks for it.
    pub fn open_on(&self, connection: RawConnection, request: &Request) -> Result<OpenStream> {
        self.line.silence.ensure_heard()?;
        let recorder = Recorder::of(&self.line, &self.client, request, INFERENCE_LIMIT);
        let stream = OpenStream::send(self.dialect(), connection, request, recorder);
        stream.map_err(|error| self.blame(error))
    }

    /// Why no more questions make sense, once one was not answered and neither is the next. A worker that
    /// doesn't answer an inference can still be asked for other things.
    pub fn silence(&self) -> Option<Unmet> {
        if !self.unanswered.get() {
            return None;
        }
        let health = self.dialect().health_request();
        if let Some(mismatch) = self.unheard(&health, QUESTION_LIMIT) {
            let reason = format!("the worker no longer answers {}", mismatch.place);
            return Some(Unmet::by(reason, &mismatch));
        }
        self.unanswered.set(false);
        if self.line.silence.ensure_heard().is_ok() {
            let inference = InferenceRequest::greedy("Hello", 1);
            let inference = self.dialect().inference_request(&inference, false);
            let limit = self.slowest.get().unwrap_or_default() + SILENCE_LIMIT;
            if let Some(mismatch) = self.unheard(&inference, limit) {
                self.line.silence.count(&mismatch);
            }
        }
        None
    }

    /// The broken promise that a question isn't answered; nobody is told of the question.
    fn unheard(&self, request: &Request, limit: Duration) -> Option<Mismatch> {
        let error = self.quiet.send(request, limit).err()?;
        error.downcast::<NoAnswer>().ok().map(NoAnswer::mismatch)
    }

    /// Turns a missing answer into the broken promise that it is; other errors stay what they are.
    pub fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<NoAnswer>() {
            Err(other) => other,
            Ok(no_answer) => {
                self.unanswered.set(true);
                match self.died() {
                    Ok(Some(exit)) => exit.mismatch().into(),
                    _ => no_answer.mismatch().into(),
                }
            }
        }
    }

    /// How it ended, where it has just died: its connections go first.
    fn died(&self) -> Result<Option<Exit>> {
        wait_until(DEATH_LIMIT, Duration::from_millis(3), || {
            !matches!(self.exited(), Ok(None))
        });
        self.exited()
    }

    /// The longest wait for an answer, by the slowest so far.
    pub fn inference_limit(&self) -> Duration {
        self.slowest.get().map_or(INFERENCE_LIMIT, |slowest| {
            (slowest * SLOWEST_FACTOR + LEAST_LIMIT).min(INFERENCE_LIMIT)
        })
    }

    fn note_time(&self, took: Duration) {
        self.slowest.set(self.slowest.get().max(Some(took)));
    }
}

/// Sends a request as often as the queue is full, until the time is up.
pub fn send_until_taken(
    dialect: &dyn Dialect,
    client: &Client,
    request: &Request,
    limit: Duration,
    stop: &StopFlag,
) -> Result<Response> {
    let mut refusal = None;
    let taken = stop.wait_every(RETRY_INTERVAL, "room in the queue", limit, || {
        let response = client.send(request, limit)?;
        Ok(match dialect.is_busy(&response) {
            true => {
                refusal = Some(response);
                None
            }
            false => Some(response),
        })
    });
    in_time(taken)?.or(refusal).context("no time to ask")
}
