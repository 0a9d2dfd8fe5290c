//! The workers of a stress run: the one under test and others like it, on ports of their own, with its
//! hive.

use std::time::Duration;

use anyhow::{Context, Result};

use super::exercise::place_of;
use crate::tasks::worker::check::stress::of_worker;
use crate::tasks::worker::process::port;
use crate::tasks::worker::record::event::{EventKind, Mismatch};
use crate::tasks::worker::record::stress::{PoolChange, PoolEvent};
use crate::tasks::worker::target::recorder::Line;
use crate::tasks::worker::target::reference::Reference;
use crate::tasks::worker::target::worker::start_up::{PortLost, StartUp};
use crate::tasks::worker::target::worker::{Launch, WorkerHandle};
use crate::tasks::worker::target::{RunContext, Subject};

/// How soon the end of a killed process has to be seen.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// All workers. The others are stopped when this is dropped, and the first with its subject.
#[derive(Debug)]
pub struct WorkerPool<'run> {
    context: RunContext<'run>,
    first: &'run WorkerHandle,
    others: Vec<WorkerHandle>,
    /// Who each of them is, also while it is away.
    launches: Vec<Launch>,
}

/// What came of starting a killed worker again.
#[derive(Debug)]
pub struct Revival {
    /// The new process.
    pub worker: WorkerHandle,
    /// From its start until it was ready, or the promise that it broke.
    pub ready: Result<Duration, Mismatch>,
    /// Whether its first answer was the right one.
    pub answered: Result<(), Mismatch>,
}

impl<'run> WorkerPool<'run> {
    /// Starts the others. Nobody waits for them yet.
    pub fn start(subject: &'run Subject<'run>, workers: u32) -> Result<Self> {
        let mut pool = Self {
            context: subject.context,
            first: &subject.worker,
            others: Vec::new(),
            launches: vec![subject.worker.launch().clone()],
        };
        let first = subject.worker.launch();
        let name = first.worker_id.strip_suffix("-1");
        let name = name.unwrap_or(&first.worker_id).to_owned();
        for number in 2..=workers {
            let launch = Launch {
                worker_id: format!("{name}-{number}"),
                port: port::pick_free()?,
                ..first.clone()
            };
            pool.launches.push(launch.clone());
            let line = subject.auxiliaries.line_of(&launch.worker_id);
            let worker = start(pool.context, launch, "", line)?;
            tell(pool.context, &worker, PoolEvent::Started);
            pool.others.push(worker);
        }
        Ok(pool)
    }

    /// How many they are, those that are away included.
    pub fn len(&self) -> usize {
        self.launches.len()
    }

    /// How each was started.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// The worker of that number; `None` while it is away.
    pub fn get(&self, number: usize) -> Option<&WorkerHandle> {
        match number.checked_sub(1) {
            None => Some(self.first),
            Some(other) => self.others.get(other),
        }
    }

    /// Those that are there.
    pub fn iter(&self) -> impl Iterator<Item = &WorkerHandle> {
        [self.first].into_iter().chain(&self.others)
    }

    /// Waits until all are ready, as long as one may take; gives the longest time that one took.
    pub fn wait_until_ready(&mut self) -> Result<Duration> {
        let limit = Duration::from_secs(self.context.config.timeout_secs);
        let journal = self.context.journal;
        let mut slowest = Duration::ZERO;
        for (worker, known) in self.others.iter_mut().zip(&mut self.launches[1..]) {
            let mut start_up = StartUp::default();
            let left = limit.saturating_sub(worker.started().elapsed());
            let announce = |lost: &PortLost, launch: &Launch| {
                journal.emit(lost.restarting(&launch.worker_id));
                known.port = launch.port;
            };
            worker
                .become_ready(left.max(Duration::from_secs(1)), &mut start_up, announce)
                .map_err(|error| of_worker(error, worker))?;
            slowest = slowest.max(start_up.ready.unwrap_or_default());
            tell(self.context, worker, PoolEvent::Ready);
        }
        Ok(slowest)
    }

    /// Takes the last one out, to be killed.
    pub fn pick_victim(&mut self) -> Option<WorkerHandle> {
        self.others.pop()
    }

    /// Puts it back.
    pub fn welcome(&mut self, worker: WorkerHandle) {
        if let Some(known) = self.launches.last_mut() {
            known.port = worker.launch().port;
        }
        self.others.push(worker);
    }
}

/// Kills a worker as the system does when memory is short, and starts it again: on its port, unless
/// another process has taken that.
///
/// Fails where that can't be done, or when the run is interrupted.
pub fn kill_and_revive(
    context: RunContext<'_>,
    victim: WorkerHandle,
    (reference, limit): (&Reference, Duration),
) -> Result<Revival> {
    let stop = context.stop;
    tell(context, &victim, PoolEvent::Killed);
    victim.kill_now();
    stop.wait_for("the end of a killed worker", KILL_LIMIT, || victim.exited())?;
    let (launch, line) = (victim.launch().clone(), victim.line().clone());
    drop(victim);
    let mut worker = start(context, launch, "-again", line)?;
    tell(context, &worker, PoolEvent::Restarted);
    let mut start_up = StartUp::default();
    let ready_limit = Duration::from_secs(context.config.timeout_secs);
    let announce = |lost: &PortLost, launch: &Launch| {
        context.journal.emit(lost.restarting(&launch.worker_id));
    };
    let ready = worker.become_ready(ready_limit, &mut start_up, announce);
    let ready = match ready.map_err(anyhow::Error::downcast::<Mismatch>) {
        Ok(()) => Ok(start_up.ready.unwrap_or_default()),
        Err(Ok(mismatch)) => Err(mismatch),
        Err(Err(other)) => return Err(other),
    };
    let answered = match &ready {
        Ok(_) => ask(&worker, reference, limit)?,
        Err(mismatch) => Err(mismatch.clone()),
    };
    if ready.is_ok() {
        tell(context, &worker, PoolEvent::Ready);
    }
    Ok(Revival {
        worker,
        ready,
        answered,
    })
}

/// Asks a worker that has nothing else to do, and compares.
pub fn ask(
    worker: &WorkerHandle,
    reference: &Reference,
    limit: Duration,
) -> Result<Result<(), Mismatch>> {
    let request = &reference.request;
    match worker.infer_within(request, limit) {
        Ok(answer) => {
            let text = answer.text.unwrap_or_default();
            Ok(reference.expect(&place_of(request), &text))
        }
        Err(error) => error.downcast::<Mismatch>().map(Err),
    }
}

fn start(context: RunContext<'_>, launch: Launch, again: &str, line: Line) -> Result<WorkerHandle> {
    let number = launch.worker_id.rsplit('-').next().unwrap_or_default();
    let log = format!("worker-{number}{again}.log");
    let worker_id = launch.worker_id.clone();
    let (folder, stop) = (context.folder, context.stop);
    let worker = WorkerHandle::start(launch, &folder.join(log), line, stop);
    worker.with_context(|| format!("cannot start {worker_id}"))
}

fn tell(context: RunContext<'_>, worker: &WorkerHandle, what: PoolEvent) {
    let launch = worker.launch();
    context.journal.emit(EventKind::PoolChanged(PoolChange {
        worker_id: launch.worker_id.clone(),
        pid: worker.pid().unwrap_or_default(),
        port: launch.port,
        what,
    }));
}
