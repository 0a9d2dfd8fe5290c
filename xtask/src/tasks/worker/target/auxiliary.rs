//! A worker beside the one under test, with a hive of its own, for what must not touch the first.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::context::RunContext;
use super::dialect::{BeatState, Dialect, HeartbeatPayload};
use super::hive::MockHiveServer;
use super::logs_of_check::LogsOfCheck;
use super::observations::Observations;
use super::recorder::{Asker, Line};
use super::reference::References;
use super::worker::start_up::{PortLost, StartUp};
use super::worker::{Exit, Launch, WorkerHandle};
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::port;
use crate::tasks::worker::process::stop::{StopFlag, in_time};
use crate::tasks::worker::record::event::{Heartbeat, Unmet};
use crate::tasks::worker::record::facts::TimedLine;

impl Drop for AuxiliaryWorker {
    /// What it wrote may be what explains a verdict.
    fn drop(&mut self) {
        let logs = self.worker.line().logs.clone();
        let (log, started) = (self.worker.log(), self.worker.started());
        logs.keep(&self.name, log, started, &self.journal);
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
    /// How late we were ourselves, and when.
    pub jitter: JitterWatch,
    name: String,
    journal: Journal,
    ready_limit: Duration,
}

/// Starts workers beside the one under test: all that a check is given whose workers are its own, so that
/// several such checks can be tried side by side.
#[derive(Debug, Clone)]
pub struct Auxiliaries<'run> {
    /// What they run in.
    pub context: RunContext<'run>,
    /// How the worker under test was started.
    pub launch: Launch,
    /// What is observed once and judged by several checks.
    pub observations: Arc<Observations>,
    /// Whether the worker under test is a server that was running already.
    is_attached: bool,
    /// Where what the worker under test is asked goes.
    line: Line,
    alone: Arc<Alone>,
}

/// What an auxiliary worker answers alone.
#[derive(Debug, Default)]
struct Alone {
    known: OnceLock<References>,
    /// Others wait meanwhile.
    measuring: Mutex<()>,
}

impl<'run> Auxiliaries<'run> {
    /// Those of a run.
    pub fn new(context: RunContext<'run>, worker: &WorkerHandle) -> Self {
        Self {
            context,
            launch: worker.launch().clone(),
            observations: Arc::default(),
            is_attached: worker.pid().is_none(),
            line: worker.line().clone(),
            alone: Arc::default(),
        }
    }

    /// The same for a check that others are tried beside: what is asked bears its name, and it alone
    /// is told what its workers wrote.
    pub fn of_check(&self, id: &'static str) -> Self {
        let line = Line {
            asker: Asker::new(id),
            logs: LogsOfCheck::default(),
            ..self.line.clone()
        };
        Self {
            line,
            ..self.clone()
        }
    }

    /// Starts a second worker with a hive of its own; `change` says what is different.
    pub fn start(&self, name: &str, change: impl FnOnce(&mut Launch)) -> Result<AuxiliaryWorker> {
        self.start_after(name, |launch, _| {
            change(launch);
            Ok(())
        })
    }

    /// The same, where the hive has to be prepared before the worker starts.
    pub fn start_after(
        &self,
        name: &str,
        prepare: impl FnOnce(&mut Launch, &MockHiveServer) -> Result<()>,
    ) -> Result<AuxiliaryWorker> {
        AuxiliaryWorker::start(self, name, prepare)
    }

    /// How they are talked to.
    pub fn dialect(&self) -> &'static dyn Dialect {
        self.launch.dialect
    }

    /// Fails where no worker of the run answers an inference any more.
    pub fn ensure_heard(&self) -> Result<(), Unmet> {
        self.line.silence.ensure_heard()
    }

    /// What auxiliary workers answer: measured once, on one that has nothing else to do.
    pub fn references_alone(&self, idle: &WorkerHandle) -> Result<&References> {
        let _alone = lock(&self.alone.measuring);
        if let Some(known) = self.alone.known.get() {
            return Ok(known);
        }
        let known = References::of_idle(idle)?;
        Ok(self.alone.known.get_or_init(|| known))
    }

    /// What they wrote since then, where a check didn't pass.
    pub fn log_since(&self, began: Instant) -> Vec<TimedLine> {
        self.line.logs.since(began, None, self.context.journal)
    }

    /// Where what one of them is asked goes.
    pub fn line_of(&self, name: &str) -> Line {
        Line {
            auxiliary: Some(name.to_owned()),
            ..self.line.clone()
        }
    }
}

impl AuxiliaryWorker {
    /// Starts the pair. `prepare` sees both before the worker starts.
    fn start(
        auxiliaries: &Auxiliaries<'_>,
        name: &str,
        prepare: impl FnOnce(&mut Launch, &MockHiveServer) -> Result<()>,
    ) -> Result<Self> {
        let context = auxiliaries.context;
        let stop = context.stop;
        let folder = context.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let hive = match context.python {
            Some(python) => {
                MockHiveServer::start(python, 0, &folder, &context.journal.unread(), stop)?
            }
            None => MockHiveServer::absent(stop),
        };
        let under_test = &auxiliaries.launch;
        let mut launch = Launch {
            worker_id: format!("{}-{name}", under_test.worker_id),
            port: match auxiliaries.is_attached {
                false => port::pick_free()?,
                // Another one can't be started: it is the same again.
                true => under_test.port,
            },
            hive_url: hive.url(),
            ..under_test.clone()
        };
        prepare(&mut launch, &hive)?;
        let log_path = folder.join("worker.log");
        let worker = WorkerHandle::start(launch, &log_path, auxiliaries.line_of(name), stop)?;
        Ok(Self {
            worker,
            hive,
            stop: stop.clone(),
            jitter: JitterWatch::start(),
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
        let look = || -> Result<Option<()>> {
            self.hive.ensure_alive()?;
            self.worker.ensure_alive()?;
            Ok(None)
        };
        self.stop.watch(time, look).map(drop)
    }
}
