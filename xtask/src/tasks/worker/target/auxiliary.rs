//! A worker beside the one under test, with a hive of its own, for what must not touch the first.

use std::time::Duration;

use anyhow::Result;

use super::dialect::{
    BeatState, Completion, Dialect, Health, HeartbeatPayload, InferenceRequest, Readiness,
};
use super::hive::MockHiveServer;
use super::open_stream::OpenStream;
use super::recorder::{Line, Recorder};
use super::stream;
use super::subject::Subject;
use super::worker::{Exit, Launch, PortLost, StartUp, WorkerHandle};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::net::client::{Client, Request, Response};
use crate::tasks::worker::net::raw::RawConnection;
use crate::tasks::worker::net::stream::StreamedAnswer;
use crate::tasks::worker::process::port;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::record::event::{EventKind, Heartbeat};

/// How long a question about health or readiness may take before it counts as unanswered.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How long a connection to a loopback port may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// A second worker with a hive of its own.
///
/// What it is asked shows up in the run's journal under its name. Its life and its heartbeats don't:
/// a reader would take them for those of the worker under test.
#[derive(Debug)]
pub struct AuxiliaryWorker {
    /// The worker. It is stopped before its hive.
    pub worker: WorkerHandle,
    /// Its hive.
    pub hive: MockHiveServer,
    /// Tells every wait to give up.
    pub stop: StopFlag,
    /// Talks to the worker.
    client: Client,
    line: Line,
    ready_limit: Duration,
}

impl Subject<'_> {
    /// Starts a second worker with a hive of its own; `change` says what is different.
    pub fn auxiliary(
        &self,
        name: &str,
        change: impl FnOnce(&mut Launch),
    ) -> Result<AuxiliaryWorker> {
        self.auxiliary_after(name, |launch, _| {
            change(launch);
            Ok(())
        })
    }

    /// The same, where the hive has to be prepared before the worker starts.
    pub fn auxiliary_after(
        &self,
        name: &str,
        prepare: impl FnOnce(&mut Launch, &MockHiveServer) -> Result<()>,
    ) -> Result<AuxiliaryWorker> {
        AuxiliaryWorker::start(self, name, prepare)
    }
}

impl AuxiliaryWorker {
    /// Starts the pair. `prepare` sees both before the worker starts.
    pub(super) fn start(
        subject: &Subject<'_>,
        name: &str,
        prepare: impl FnOnce(&mut Launch, &MockHiveServer) -> Result<()>,
    ) -> Result<Self> {
        let context = subject.context;
        let stop = context.stop;
        let folder = context.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let python = context.python;
        let hive = MockHiveServer::start(python, 0, &folder, &Journal::discard(), stop)?;
        let mut launch = Launch {
            worker_id: format!("{}-{name}", subject.worker.launch().worker_id),
            port: port::pick_free()?,
            hive_url: hive.url(),
            ..subject.worker.launch().clone()
        };
        prepare(&mut launch, &hive)?;
        let line = Line {
            journal: context.journal.clone(),
            check_id: subject.check_id.get(),
            auxiliary: Some(name.to_owned()),
            dialect: launch.dialect,
        };
        let log_path = folder.join("worker.log");
        let worker = WorkerHandle::start(launch, &log_path, stop)?;
        Ok(Self {
            client: worker.client().witnessed(line.clone()),
            worker,
            hive,
            stop: stop.clone(),
            line,
            ready_limit: Duration::from_secs(context.config.timeout_secs),
        })
    }

    /// Waits until it says that it is ready, as long as the worker under test may take. It is started
    /// once more where somebody else has taken its port.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let mut start_up = StartUp::default();
        let line = &self.line;
        let announce = |lost: &PortLost, _: &Launch| {
            let name = line.auxiliary.as_deref().unwrap_or_default();
            let message =
                format!("{lost}\n  so the worker {name} is started once more, on another port");
            line.journal.emit(EventKind::Noted { message });
        };
        self.worker
            .become_ready(self.ready_limit, &mut start_up, announce)?;
        self.client = self.worker.client().witnessed(self.line.clone());
        Ok(())
    }

    /// How it is talked to.
    pub fn dialect(&self) -> &'static dyn Dialect {
        self.worker.launch().dialect
    }

    /// Talks to the worker.
    pub fn client(&self) -> &Client {
        &self.client
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
    pub fn infer(&self, request: &InferenceRequest, limit: Duration) -> Result<Completion> {
        let response = self.ask(&self.dialect().inference_request(request, false), limit)?;
        Ok(self.dialect().read_completion(&response)?)
    }

    /// Asks for a streamed answer.
    pub fn infer_streamed(
        &self,
        request: &InferenceRequest,
        limit: Duration,
    ) -> Result<StreamedAnswer> {
        let request = self.dialect().inference_request(request, true);
        let recorder = Recorder::of(&self.line, &self.client, &request, limit);
        match stream::receive(self.dialect(), &self.client, &request, limit, |_| {}) {
            Ok(answer) => {
                recorder.streamed(&request, &answer);
                Ok(answer)
            }
            Err(error) => {
                recorder.unanswered(&error);
                Err(self.worker.blame(error))
            }
        }
    }

    /// Sends any request. No answer is the worker's fault.
    pub fn ask(&self, request: &Request, limit: Duration) -> Result<Response> {
        let sent = self.client.send(request, limit);
        sent.map_err(|error| self.worker.blame(error))
    }

    /// A connection on which nothing has been sent yet.
    pub fn connect(&self) -> Result<RawConnection> {
        let port = self.worker.launch().port;
        let opened = RawConnection::open(port, CONNECT_LIMIT, &self.stop);
        opened.map_err(|error| self.worker.blame(error))
    }

    /// A connection whose worker soon feels that nobody reads.
    pub fn connect_narrow(&self) -> Result<RawConnection> {
        let port = self.worker.launch().port;
        let opened = RawConnection::open_narrow(port, CONNECT_LIMIT, &self.stop);
        opened.map_err(|error| self.worker.blame(error))
    }

    /// A streamed request whose answer is read as far as somebody asks for it.
    pub fn open_stream(&self, request: &InferenceRequest) -> Result<OpenStream> {
        self.open_on(
            self.connect()?,
            &self.dialect().inference_request(request, true),
        )
    }

    /// A request on this connection, whose answer is read as far as somebody asks for it.
    pub fn open_on(&self, connection: RawConnection, request: &Request) -> Result<OpenStream> {
        let recorder = Recorder::of(&self.line, &self.client, request, self.ready_limit);
        let stream = OpenStream::send(self.dialect(), connection, request, recorder);
        stream.map_err(|error| self.worker.blame(error))
    }

    /// Every heartbeat so far, each of which has to be well-formed.
    pub fn beats(&self) -> Result<Vec<(Heartbeat, HeartbeatPayload)>> {
        self.hive.ensure_alive()?;
        let mut beats = Vec::new();
        for request in self.hive.heartbeats() {
            let payload = self.dialect().read_heartbeat(&request)?;
            beats.push((request, payload));
        }
        Ok(beats)
    }

    /// What its last heartbeat said.
    pub fn last_state(&self) -> Result<Option<BeatState>> {
        Ok(self.beats()?.last().map(|(_, beat)| beat.state))
    }

    /// Waits until a heartbeat arrives after the first `seen`; `None` where none does in time.
    pub fn beat_after(&self, seen: usize, limit: Duration) -> Result<Option<Heartbeat>> {
        self.wait_for("another heartbeat", limit, || {
            Ok(self.hive.heartbeats().into_iter().nth(seen))
        })
    }

    /// Polls for a fact while the worker and the hive live; `None` where the time is up.
    pub fn wait_for<T>(
        &self,
        name: &str,
        limit: Duration,
        mut poll: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let waited = self.stop.wait_for(name, limit, || {
            self.hive.ensure_alive()?;
            let fact = poll()?;
            if fact.is_none() {
                self.worker.ensure_alive()?;
            }
            Ok(fact)
        });
        in_time(waited)
    }

    /// Waits for its end; `None` where it lives on.
    pub fn wait_for_exit(&self, limit: Duration) -> Result<Option<Exit>> {
        let waited = self
            .stop
            .wait_for("the worker's end", limit, || self.worker.exited());
        in_time(waited)
    }

    /// Lets time go by, for promises about what must not happen in it.
    pub fn let_pass(&self, time: Duration) -> Result<()> {
        self.wait_for("time to pass", time, || Ok(None::<()>))?;
        Ok(())
    }
}
