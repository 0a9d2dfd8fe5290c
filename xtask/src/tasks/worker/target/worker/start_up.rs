//! From a worker's start until it is ready, on a port that somebody else may take first.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::WorkerHandle;
use super::launch::Launch;
use crate::tasks::worker::net::client::Response;
use crate::tasks::worker::process::platform::{self, Listeners, Process};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::process::{port, registry};
use crate::tasks::worker::record::event::{EventKind, Mismatch};
use crate::tasks::worker::target::dialect::Readiness;

/// How long one question of the readiness poll may take.
const POLL_LIMIT: Duration = Duration::from_secs(1);

/// What was seen until the worker was ready.
#[derive(Debug, Clone, Default)]
pub struct StartUp {
    /// From the start until the first HTTP answer.
    pub first_answer: Option<Duration>,
    /// From the start until the worker said that it is ready.
    pub ready: Option<Duration>,
    /// When it was last asked before it was ready, and said that it isn't.
    pub last_not_ready: Option<Instant>,
    /// The first broken promise in an answer on the way.
    pub mismatch: Option<Mismatch>,
}

/// Somebody else has the worker's port, since our look at it before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortLost {
    /// Which port, who holds it, and the way out.
    pub message: String,
}

impl WorkerHandle {
    /// Fails with a [`Mismatch`] if it has ended, or with [`PortLost`] where somebody else has its
    /// port.
    pub fn ensure_alive(&self) -> Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(exit) => Err(self.port_lost().map_or(exit.mismatch().into(), Into::into)),
        }
    }

    /// Waits until it says that it is ready. Looks at the process and asks every few milliseconds.
    ///
    /// Fails with a [`Mismatch`] where it ends or isn't ready within `limit`, with [`PortLost`] where
    /// somebody else has its port, and with neither where it asks for another key.
    pub fn wait_until_ready(&self, limit: Duration, start_up: &mut StartUp) -> Result<()> {
        let waited = self.stop.wait_for("the worker to be ready", limit, || {
            if let Some(exit) = self.exited()? {
                return Err(self.port_lost().map_or(exit.before_ready(), Into::into));
            }
            self.look_at_start_up(start_up)
        });
        waited.map_err(|error| match error.downcast::<TimedOut>() {
            Ok(timed_out) => {
                let got = match (start_up.first_answer, &start_up.mismatch) {
                    (None, _) => String::from("no whole answer on its port"),
                    (Some(_), None) => String::from("not ready"),
                    (Some(_), Some(broken)) => {
                        format!("not ready; {}: {}", broken.place, broken.got)
                    }
                };
                let expected = format!("ready within {} s", timed_out.limit.as_secs_f64());
                Mismatch::new("start of the worker", expected, got).into()
            }
            Err(error) => error,
        })
    }

    /// The same. Where somebody else has its port, it is started once more, on another one, after
    /// `announce` was told why and how.
    pub fn become_ready(
        &mut self,
        limit: Duration,
        start_up: &mut StartUp,
        announce: impl FnOnce(&PortLost, &Launch),
    ) -> Result<()> {
        let lost = match self.wait_until_ready(limit, start_up) {
            Err(error) => error.downcast::<PortLost>()?,
            Ok(()) => return Ok(()),
        };
        self.end();
        let launch = Launch {
            port: port::pick_free()?,
            ..self.launch.clone()
        };
        announce(&lost, &launch);
        let log_path = self.log.path().to_owned();
        *self = Self::start(launch, &log_path, self.line.clone(), &self.stop)?;
        *start_up = StartUp::default();
        self.wait_until_ready(limit, start_up)
    }

    /// Fails with [`PortLost`] where we can't be sure that it is our worker that answers. `named` is
    /// another worker's id in the answer.
    fn ensure_listener(&self, named: Option<&str>) -> Result<(), PortLost> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        let answers = match platform::listeners(self.launch.port) {
            Listeners::Known(holders) => {
                let strangers: Vec<_> = holders
                    .iter()
                    .filter(|holder| !self.is_ours(holder))
                    .map(ToString::to_string)
                    .collect();
                strangers.join(", ")
            }
            // Then the name is all that we have.
            Listeners::Nobody | Listeners::Unknown if named.is_none() => String::new(),
            Listeners::Nobody | Listeners::Unknown => String::from("another worker"),
        };
        if answers.is_empty() {
            return Ok(());
        }
        let port = self.launch.port;
        let named = named.map_or(String::new(), |id| format!(" as {id}"));
        Err(self.lost(format!(
            "port {port} is answered by {answers}{named}, not by the worker that was started (pid {pid})\n  try: --port 0 to pick a free one"
        )))
    }

    /// Whether it says that it is ready, and not somebody else who has got its port.
    pub fn says_ready(&self, limit: Duration) -> bool {
        let request = self.launch.dialect.ready_request();
        let answer = self.quiet.send(&request, limit);
        let is_ready = answer.is_ok_and(|answer| answer.status == 200);
        is_ready && self.ensure_listener(None).is_ok()
    }

    /// Whether somebody else has the port that it was to listen on.
    pub fn port_lost(&self) -> Option<PortLost> {
        let port = self.launch.port;
        let ours = match platform::listeners(port) {
            Listeners::Known(holders) => holders.iter().all(|holder| self.is_ours(holder)),
            Listeners::Nobody | Listeners::Unknown => false,
        };
        let lost = !ours && port::is_taken(port);
        lost.then(|| self.lost(port::taken(port, "the worker", "--port")))
    }

    fn is_ours(&self, holder: &Process) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.contains(holder)) || registry::is_marked(holder)
    }

    /// What a stranger does with the port from now on is not our worker's doing.
    fn lost(&self, message: String) -> PortLost {
        registry::unwatch_port(self.launch.port);
        PortLost { message }
    }

    /// Fails where nobody is served with the key that the run has, which is nobody's broken promise.
    pub fn ensure_let_in(&self) -> Result<()> {
        let Some(knock) = self.launch.dialect.knock() else {
            return Ok(());
        };
        match self.quiet.send(&knock, POLL_LIMIT) {
            Ok(answer) => self.ensure_not_shut_out(&answer),
            // Whatever else is wrong is for the checks to find.
            Err(_) => Ok(self.stop.check()?),
        }
    }

    fn ensure_not_shut_out(&self, answer: &Response) -> Result<()> {
        match self.launch.dialect.shut_out(answer) {
            Some(reason) => {
                self.ensure_listener(None)?;
                bail!(reason)
            }
            None => Ok(()),
        }
    }

    /// One question for health, or for ready once health says that it is.
    fn look_at_start_up(&self, start_up: &mut StartUp) -> Result<Option<()>> {
        let Ok(answer) = self
            .quiet
            .send(&self.launch.dialect.health_request(), POLL_LIMIT)
        else {
            self.stop.check()?;
            return Ok(None);
        };
        self.ensure_not_shut_out(&answer)?;
        let since_start = |instant: Instant| instant.saturating_duration_since(self.started);
        start_up
            .first_answer
            .get_or_insert(since_start(answer.received));
        match self.launch.dialect.read_health(&answer) {
            Ok(health) => {
                if let Some(id) = health.worker_id.filter(|id| *id != self.launch.worker_id) {
                    self.ensure_listener(Some(&id))?;
                    let place = "health, `worker_id`";
                    let mismatch = Mismatch::new(place, &self.launch.worker_id, id);
                    start_up.mismatch.get_or_insert(mismatch);
                }
            }
            Err(mismatch) => {
                start_up.mismatch.get_or_insert(mismatch);
            }
        }
        let Ok(answer) = self
            .quiet
            .send(&self.launch.dialect.ready_request(), POLL_LIMIT)
        else {
            self.stop.check()?;
            return Ok(None);
        };
        match self.launch.dialect.read_ready(&answer) {
            Ok(Readiness::Ready) => {
                start_up.ready = Some(since_start(answer.received));
                self.ensure_listener(None)?;
                return Ok(Some(()));
            }
            Ok(Readiness::NotReady(_)) => start_up.last_not_ready = Some(answer.sent),
            Err(mismatch) => {
                start_up.mismatch.get_or_insert(mismatch);
            }
        }
        Ok(None)
    }
}

impl PortLost {
    /// What is said when `who` is started once more because of it.
    pub fn restarting(&self, who: &str) -> EventKind {
        let message = format!("{self}\n  so {who} is started again, on another port");
        EventKind::Noted { message }
    }
}

impl std::fmt::Display for PortLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PortLost {}
