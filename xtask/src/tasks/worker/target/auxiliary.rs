//! A worker beside the one under test, with a hive of its own, for what must not touch the first.

use std::time::Duration;

use anyhow::Result;

use super::dialect::{BeatState, HeartbeatPayload};
use super::hive::MockHiveServer;
use super::subject::Subject;
use super::worker::start_up::{PortLost, StartUp};
use super::worker::{Exit, Launch, WorkerHandle};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::port;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::record::event::Heartbeat;

impl Drop for AuxiliaryWorker {
    /// What it wrote may be what explains a verdict.
    fn drop(&mut self) {
        let logs = self.worker.line().logs.clone();
        logs.keep(&self.name, &self.worker, &self.journal);
    }
}

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
    name: String,
    journal: Journal,
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
        let hive = match context.python {
            Some(python) => MockHiveServer::start(python, 0, &folder, &Journal::discard(), stop)?,
            None => MockHiveServer::absent(stop),
        };
        let mut launch = Launch {
            worker_id: format!("{}-{name}", subject.worker.launch().worker_id),
            port: match subject.worker.pid() {
                Some(_) => port::pick_free()?,
                // Another one can't be started: it is the same again.
                None => subject.worker.launch().port,
            },
            hive_url: hive.url(),
            ..subject.worker.launch().clone()
        };
        prepare(&mut launch, &hive)?;
        let log_path = folder.join("worker.log");
        let worker = WorkerHandle::start(launch, &log_path, subject.line_of(name), stop)?;
        Ok(Self {
            worker,
            hive,
            stop: stop.clone(),
            name: name.to_owned(),
            journal: context.journal.clone(),
            ready_limit: Duration::from_secs(context.config.timeout_secs),
        })
    }

    /// Waits until it says that it is ready, as long as the worker under test may take. It is started
    /// once more where somebody else has taken its port.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let mut start_up = StartUp::default();
        let (name, journal) = (&self.name, &self.journal);
        let announce = |lost: &PortLost, _: &Launch| {
            journal.emit(lost.restarting(&format!("the worker {name}")));
        };
        self.worker
            .become_ready(self.ready_limit, &mut start_up, announce)
    }

    /// Every heartbeat so far, each of which has to be well-formed.
    pub fn beats(&self) -> Result<Vec<(Heartbeat, HeartbeatPayload)>> {
        self.hive.ensure_alive()?;
        let mut beats = Vec::new();
        for request in self.hive.heartbeats() {
            let payload = self.worker.dialect().read_heartbeat(&request)?;
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
