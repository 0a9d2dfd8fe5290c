//! The suite: one worker, from its start to its stop, and every planned check on the way.

use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::beside::{ApartCheck, Beside, at_once};
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
    CheckRecord, EventKind, Level, LogSource, Mismatch, Outcome, PlannedCheck, Suite, Unmet,
    WorkerInfo,
};
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::hive::MockHiveServer;
use crate::tasks::worker::target::logs_of_check::LogsOfCheck;
use crate::tasks::worker::target::observations::Observations;
use crate::tasks::worker::target::recorder::{Asker, Line};
use crate::tasks::worker::target::silence::Silence;
use crate::tasks::worker::target::worker::start_up::{PortLost, StartUp};
use crate::tasks::worker::target::worker::{Launch, WorkerHandle};
use crate::tasks::worker::target::{RunContext, Subject};

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
    let mut failed = 0;
    std::thread::scope(|scope| -> Result<()> {
        let mut beside = Beside::default();
        let mut begun = Vec::new();
        for planned in plan {
            subject.context.stop.check()?;
            let suite = planned.info.suite;
            if !begun.contains(&suite) {
                begun.push(suite);
                begin_apart(subject, plan, suite, scope, &mut beside);
            }
            let needs_it = planned.skipped.is_none() && needs_of(planned).contains(&Need::Ready);
            was_missed |= needs_it && subject.worker.exited()?.is_some();
            let enough = enough_failed(subject, planned.info, failed);
            let planned = Planned {
                skipped: planned.skipped.or(enough),
                ..*planned
            };
            let outcome = run_check(subject, planned, &mut beside)?;
            let is_broken = matches!(outcome, Some(Outcome::Failed(_)));
            failed += u32::from(is_broken && planned.info.level == Level::Must);
        }
        Ok(())
    })?;
    if was_missed && !plan.iter().any(|planned| planned.info.id == LIVES) {
        blame_untimely_end(subject)?;
    }
    Ok(())
}

/// Begins what a suite tries with workers of its own, if there is more than one.
fn begin_apart<'scope, 'run: 'scope>(
    subject: &Subject<'run>,
    plan: &[Planned],
    suite: Suite,
    scope: &'scope Scope<'scope, '_>,
    beside: &mut Beside,
) {
    let is_meant = |planned: &&Planned| planned.info.suite == suite && planned.skipped.is_none();
    let (apart, others): (Vec<&Planned>, Vec<&Planned>) = plan
        .iter()
        .filter(is_meant)
        .partition(|planned| apart_check(planned.info).is_some());
    if apart.len() < 2 {
        return;
    }
    let Some(at_once) = at_once(subject, others.is_empty()) else {
        return;
    };
    let has_its_needs = |planned: &&&Planned| {
        needs_of(planned)
            .iter()
            .all(|need| need.unmet(subject).is_none())
    };
    let checks = apart.iter().filter(has_its_needs);
    let checks = checks.filter_map(|planned| apart_check(planned.info));
    beside.start(scope, &subject.auxiliaries, checks.collect(), at_once);
}

fn apart_check(info: &CheckInfo) -> Option<ApartCheck> {
    match table::find(info.id)?.experiment {
        Experiment::Apart(run) => Some(ApartCheck { id: info.id, run }),
        _ => None,
    }
}

/// Why another check isn't tried after so many have failed. How the worker ends is seen all the same.
fn enough_failed(subject: &Subject, info: &CheckInfo, failed: u32) -> Option<&'static str> {
    let limit = subject.context.config.max_fail?;
    let is_over = info.phase == Phase::Serving && failed >= limit;
    is_over.then_some("as many checks have failed as --max-fail allows")
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
    let auxiliaries = Auxiliaries::new(context, &worker);
    Ok(Subject {
        context,
        hive,
        worker,
        start_up: StartUp::default(),
        not_ready: None,
        check_id,
        auxiliaries,
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
            subject.worker.ensure_let_in()?;
            let after_ms = subject.start_up.ready.unwrap_or_default().as_millis() as u64;
            journal.emit(EventKind::WorkerReady { after_ms });
        }
        Err(error) => subject.not_ready = Some(error.downcast::<Mismatch>()?),
    }
    Ok(())
}

/// Runs a check, or leaves it out, which has no outcome here. Fails only when the run is interrupted.
fn run_check(
    subject: &Subject<'_>,
    planned: Planned,
    beside: &mut Beside,
) -> Result<Option<Outcome>> {
    let RunContext { journal, stop, .. } = subject.context;
    let Planned { info, skipped } = planned;
    let id = info.id;
    subject.check_id.set(id);
    let began = Instant::now();
    let unmet = || {
        needs_of(&planned)
            .iter()
            .find_map(|need| need.unmet(subject))
    };
    if let Some(unmet) = skipped.map(Unmet::because_of).or_else(unmet) {
        stop.check()?;
        left_out(journal, id, unmet, began.elapsed());
        return Ok(None);
    }
    let outcome = match table::find(id).map(|check| check.experiment) {
        Some(Experiment::Asked(run)) => {
            let line = subject.worker.line();
            line.logs.clear();
            tried(subject.context, id, || {
                // How the worker ends is seen all the same.
                if info.phase == Phase::Serving {
                    subject.context.config.time_limit.ensure_not_over()?;
                }
                let judged = run(subject);
                if judged.is_err() {
                    let lines = line.logs.since(began, Some(subject.worker.log()), journal);
                    let id = id.to_owned();
                    journal.emit(EventKind::LogOfCheck { id, lines });
                }
                judged
            })?
        }
        Some(Experiment::Apart(run)) => {
            beside.tell(&subject.auxiliaries, ApartCheck { id, run })?
        }
        _ => anyhow::bail!("{id} is not a check of a suite: {info:?}"),
    };
    Ok(Some(outcome))
}

fn needs_of(planned: &Planned) -> &'static [Need] {
    table::find(planned.info.id).map_or(&[], |check| check.needs)
}
