//! The suite: one worker, from its start to its stop, and every planned check on the way.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::tried::{left_out, tried};
use crate::tasks::worker::check::connections::{IdleConnection, KEPT};
use crate::tasks::worker::check::device::DevicesBefore;
use crate::tasks::worker::check::lifecycle::LIVES;
use crate::tasks::worker::check::row::{Experiment, Need};
use crate::tasks::worker::check::table;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::plan::Planned;
use crate::tasks::worker::process::jitter::JitterWatch;
use crate::tasks::worker::process::vitals::Sampler;
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::check::{CheckInfo, Phase};
use crate::tasks::worker::record::event::{
    CheckRecord, EventKind, LogSource, Mismatch, Outcome, PlannedCheck, Unmet, WorkerInfo,
};
use crate::tasks::worker::target::hive::MockHiveServer;
use crate::tasks::worker::target::logs_of_check::LogsOfCheck;
use crate::tasks::worker::target::observations::Observations;
use crate::tasks::worker::target::recorder::{Asker, Line};
use crate::tasks::worker::target::silence::Silence;
use crate::tasks::worker::target::worker::start_up::{PortLost, StartUp};
use crate::tasks::worker::target::worker::{Launch, WorkerHandle};
use crate::tasks::worker::target::{Deadline, RunContext, Subject};

/// How many of the log's last lines go into the reports.
const EVIDENCE_LINES: usize = 300;

/// The planned checks as an event tells them.
pub fn planned_checks(plan: &[Planned]) -> impl Iterator<Item = PlannedCheck> {
    plan.iter().map(|planned| planned.info.planned())
}

/// The planned checks before this phase, and those from it on.
pub fn split_before(plan: &[Planned], phase: Phase) -> (&[Planned], &[Planned]) {
    plan.split_at(plan.partition_point(|planned| planned.info.phase < phase))
}

/// Waits until the worker is ready and runs every planned check.
///
/// Fails where we can't go on, or when the run is interrupted; broken promises are not failures
/// of this function but facts in the journal.
pub fn run(subject: &mut Subject<'_>, plan: &[Planned]) -> Result<()> {
    let _sampler = begin(subject)?;
    if subject.not_ready.is_none() && plan.iter().any(is_about_idling) {
        // Where it can't be opened, the check that wants it says so.
        let _ = IdleConnection::of(subject);
    }
    run_checks(subject, plan)
}

fn is_about_idling(planned: &Planned) -> bool {
    planned.info.id == KEPT && planned.skipped.is_none()
}

/// Waits until the worker is ready, or isn't in time, while its needs are sampled.
pub fn begin(subject: &mut Subject<'_>) -> Result<Option<Sampler>> {
    let start = |pid| Sampler::start(pid, subject.context.journal);
    let sampler = subject.worker.pid().map(start);
    wait_until_ready(subject)?;
    Ok(sampler)
}

/// Runs every planned check.
pub fn run_checks(subject: &Subject<'_>, plan: &[Planned]) -> Result<()> {
    let mut was_missed = false;
    for planned in plan {
        subject.context.stop.check()?;
        let needs_it = planned.skipped.is_none() && needs_of(planned).contains(&Need::Ready);
        was_missed |= needs_it && subject.worker.exited()?.is_some();
        run_check(subject, *planned)?;
    }
    if was_missed && !plan.iter().any(|planned| planned.info.id == LIVES) {
        blame_untimely_end(subject)?;
    }
    Ok(())
}

/// Checks that were left out because the worker had ended must not leave a run green.
fn blame_untimely_end(subject: &Subject<'_>) -> Result<()> {
    if let Some(exit) = subject.worker.exited()? {
        let journal = subject.context.journal;
        journal.emit(EventKind::CheckFinished(CheckRecord {
            id: LIVES.to_owned(),
            outcome: Outcome::Failed(exit.mismatch()),
            duration_ms: exit.lived.as_millis() as u64,
            detail: None,
        }));
    }
    Ok(())
}

/// Shows how the worker ended, where it has, and the end of its log.
pub fn show_log(subject: &Subject<'_>) {
    let journal = subject.context.journal;
    if let Ok(Some(exit)) = subject.worker.exited() {
        journal.emit(EventKind::WorkerExited {
            status: exit.describe(),
            lived_ms: exit.lived.as_millis() as u64,
        });
    }
    let log = subject.worker.log();
    journal.emit(EventKind::LogRecorded {
        source: LogSource::Worker,
        lines: log.tail(EVIDENCE_LINES),
    });
    journal.emit(EventKind::LogTail {
        source: LogSource::Worker,
        lines: log.tail(subject.context.config.log_lines),
        path: log.path().display().to_string(),
    });
}

/// Starts the worker. It lives until the subject is dropped.
pub fn start<'run>(
    context: RunContext<'run>,
    hive: &'run MockHiveServer,
    launch: Launch,
) -> Result<Subject<'run>> {
    let observations = Observations::default();
    if launch.backend == Backend::Cuda {
        // What can't be told now is told by the check that wants to know it.
        let _ = observations.of(DevicesBefore::look);
    }
    let line = Line {
        journal: context.journal.clone(),
        asker: Asker::new("start"),
        auxiliary: None,
        dialect: launch.dialect,
        silence: Silence::default(),
        logs: LogsOfCheck::default(),
    };
    let check_id = line.asker.clone();
    let worker = start_worker(context, launch, line)?;
    Ok(Subject {
        context,
        hive,
        worker,
        start_up: StartUp::default(),
        not_ready: None,
        check_id,
        alone: std::cell::OnceCell::new(),
        observations,
        jitter: JitterWatch::start(),
        degraded: std::cell::RefCell::new(None),
    })
}

fn start_worker(context: RunContext<'_>, launch: Launch, line: Line) -> Result<WorkerHandle> {
    let RunContext {
        journal,
        folder,
        stop,
        ..
    } = context;
    journal.emit(starting(&launch));
    let worker = WorkerHandle::start(launch, &folder.join("worker.log"), line, stop)?;
    started(journal, &worker);
    Ok(worker)
}

fn started(journal: &Journal, worker: &WorkerHandle) {
    if let Some(pid) = worker.pid() {
        journal.emit(EventKind::WorkerStarted { pid });
    }
}

fn starting(launch: &Launch) -> EventKind {
    let words = launch.command_line();
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    EventKind::WorkerStarting(WorkerInfo {
        worker_id: launch.worker_id.clone(),
        model: launch.model.display().to_string(),
        backend: launch.backend.as_str().to_owned(),
        device: launch.device,
        port: launch.port,
        hive_url: launch.hive_url.clone(),
        command: words.collect(),
        heartbeat_interval_s: launch.heartbeat_interval_secs,
    })
}

/// Not being ready is a fact for the checks; whatever else goes wrong ends the run.
fn wait_until_ready(subject: &mut Subject<'_>) -> Result<()> {
    let journal = subject.context.journal;
    let timeout = Duration::from_secs(subject.context.config.timeout_secs);
    journal.emit(EventKind::ReadyWaiting {
        timeout_ms: timeout.as_millis() as u64,
    });
    let waited = if subject.context.config.port == 0 {
        let announce = |lost: &PortLost, launch: &Launch| {
            journal.emit(lost.restarting("the worker"));
            journal.emit(starting(launch));
        };
        let (worker, start_up) = (&mut subject.worker, &mut subject.start_up);
        let first = worker.pid();
        let waited = worker.become_ready(timeout, start_up, announce);
        if worker.pid() != first {
            started(journal, worker);
        }
        waited
    } else {
        subject
            .worker
            .wait_until_ready(timeout, &mut subject.start_up)
    };
    match waited {
        Ok(()) => {
            let after_ms = subject.start_up.ready.unwrap_or_default().as_millis() as u64;
            journal.emit(EventKind::WorkerReady { after_ms });
        }
        Err(error) => subject.not_ready = Some(error.downcast::<Mismatch>()?),
    }
    Ok(())
}

/// Fails only when the run is interrupted: then the check has no outcome.
fn run_check(subject: &Subject<'_>, planned: Planned) -> Result<()> {
    let RunContext { journal, stop, .. } = subject.context;
    let Planned { info, skipped } = planned;
    let id = info.id;
    let Some(Experiment::Asked(run)) = table::find(id).map(|check| check.experiment) else {
        anyhow::bail!("{id} is not a check of a suite: {info:?}");
    };
    subject.check_id.set(id);
    let began = Instant::now();
    let unmet = || {
        needs_of(&planned)
            .iter()
            .find_map(|need| need.unmet(subject))
    };
    match skipped.map(Unmet::because_of).or_else(unmet) {
        Some(unmet) => {
            stop.check()?;
            left_out(journal, id, unmet, began.elapsed());
        }
        None => {
            let line = subject.worker.line();
            line.logs.clear();
            tried(subject.context, id, || {
                ensure_in_time(subject, info)?;
                let judged = run(subject);
                if judged.is_err() {
                    let lines = line.logs.since(began, &subject.worker, journal);
                    let id = id.to_owned();
                    journal.emit(EventKind::LogOfCheck { id, lines });
                }
                judged
            })?;
        }
    }
    Ok(())
}

/// A worker that answers slowly, or not at all, must not hold a run for ever: what was not tried by then
/// is named, and the run isn't green. How the worker ends is seen all the same.
fn ensure_in_time(subject: &Subject<'_>, info: &CheckInfo) -> Result<()> {
    let Deadline { began, limit } = subject.context.config.time_limit;
    let is_over = info.phase == Phase::Serving && began.elapsed() >= limit;
    anyhow::ensure!(
        !is_over,
        "not tried: earlier checks took {limit:?}\n  try: a longer --time-limit, or see what holds \
         them up"
    );
    Ok(())
}

fn needs_of(planned: &Planned) -> &'static [Need] {
    table::find(planned.info.id).map_or(&[], |check| check.needs)
}
