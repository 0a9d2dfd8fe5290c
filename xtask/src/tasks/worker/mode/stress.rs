//! Several workers at once, under load, with one hive: whether they stay themselves, share the machine
//! fairly, leak nothing, and go on when one of them is killed.

mod exercise;
mod pool;
mod watch;

use std::time::Duration;

use anyhow::Result;

use self::pool::WorkerPool;
use super::suite;
use super::tried::{left_out, tried};
use crate::tasks::worker::check::lifecycle::LIVES;
use crate::tasks::worker::check::row::Experiment;
use crate::tasks::worker::check::stress::observed::PoolObservation;
use crate::tasks::worker::check::stress::{of_worker, stop_all};
use crate::tasks::worker::check::table;
use crate::tasks::worker::config::stress::StressConfig;
use crate::tasks::worker::plan::Planned;
use crate::tasks::worker::process::stop::Interrupted;
use crate::tasks::worker::record::check::{CheckInfo, Phase};
use crate::tasks::worker::record::event::{EventKind, PlannedCheck, Suite, Unmet};
use crate::tasks::worker::target::dialect::InferenceRequest;
use crate::tasks::worker::target::reference::Reference;
use crate::tasks::worker::target::{RunContext, Subject};

/// Prompts of the load besides the user's.
const PROMPTS: [&str; 2] = ["Once upon a time", "The capital of France is"];

/// The longest that a first request may take, when nothing is known of a worker's pace.
const FIRST_LIMIT: Duration = Duration::from_secs(120);

const ANSWERS: &str = "stress.answers";
const KILLED: &str = "stress.killed";
const GONE: &str = "stress.gone";

/// The planned checks.
pub fn planned(plan: &[Planned], config: &StressConfig) -> Vec<PlannedCheck> {
    let of_phase = |phase: Phase| wanted(config).filter(move |row| row.phase == phase);
    let (before, after) = suite::split_before(plan, Phase::End);
    let (lives, last) = after.split_at(begin_of_end(after));
    suite::planned_checks(before)
        .chain(of_phase(Phase::Stress).map(CheckInfo::planned))
        .chain(suite::planned_checks(lives))
        .chain(of_phase(Phase::End).map(CheckInfo::planned))
        .chain(suite::planned_checks(last))
        .collect()
}

/// Starts the others, puts all under load, and runs the planned checks around that.
///
/// Fails where we can't go on, or when the run is interrupted.
pub fn run(subject: &mut Subject<'_>, plan: &[Planned], config: &StressConfig) -> Result<()> {
    let (before, after) = suite::split_before(plan, Phase::End);
    let (lives, last) = after.split_at(begin_of_end(after));
    let sampler = suite::begin(subject)?;
    suite::run_checks(subject, before)?;
    let subject: &Subject<'_> = subject;
    let teller = Teller::new(subject.context, config);
    if let Some(mismatch) = &subject.not_ready {
        teller.tell("stress.ready", || {
            Err(mismatch
                .clone()
                .of(&subject.worker.launch().worker_id)
                .into())
        })?;
        teller.skip(
            &Unmet::because_of("the first worker never became ready"),
            |_| true,
        );
        suite::run_checks(subject, lives)?;
    } else {
        let mut pool = WorkerPool::start(subject, config.workers)?;
        stress(subject, &mut pool, config, &teller)?;
        suite::run_checks(subject, lives)?;
        drop(sampler);
        teller.tell(GONE, || stop_all(pool.iter()))?;
    }
    suite::run_checks(subject, last)
}

/// The rows of the checks of the pool, in their order.
fn wanted(config: &StressConfig) -> impl Iterator<Item = &'static CheckInfo> {
    let kill_one = config.kill_one;
    let rows = table::checks().map(|check| &check.info);
    let rows = rows.filter(|row| row.suite == Suite::Stress);
    rows.filter(move |row| kill_one || row.id != KILLED)
}

/// Where the checks begin that end the worker.
fn begin_of_end(plan: &[Planned]) -> usize {
    let lives = plan.iter().position(|planned| planned.info.id == LIVES);
    lives.map_or(0, |at| at + 1)
}

fn stress(
    subject: &Subject<'_>,
    pool: &mut WorkerPool<'_>,
    config: &StressConfig,
    teller: &Teller<'_>,
) -> Result<()> {
    let is_ready = teller.tell("stress.ready", || {
        let slowest = pool.wait_until_ready()?;
        let first = subject.start_up.ready.unwrap_or_default();
        let slowest_ms = slowest.max(first).as_millis();
        Ok(format!(
            "{} workers, the slowest after {slowest_ms} ms",
            pool.len()
        ))
    })?;
    if !is_ready {
        teller.skip(&Unmet::because_of("not all workers became ready"), |id| {
            id != GONE
        });
        return Ok(());
    }
    let observed = observe(subject, pool, config);
    subject.context.stop.check()?;
    let observed = match observed {
        Ok(observed) => observed,
        // What keeps the load from beginning is a broken promise of answers, or nothing to judge by.
        Err(error) => {
            teller.tell(ANSWERS, || Err(error))?;
            teller.skip(&Unmet::because_of("there was no load"), |id| id != GONE);
            return Ok(());
        }
    };
    let journal = subject.context.journal;
    for worker in observed.workers() {
        journal.emit(EventKind::StressFinished(Box::new(worker)));
    }
    for row in wanted(config) {
        let Some(check) = table::find(row.id) else {
            continue;
        };
        if let Experiment::OfPool(judge) = check.experiment {
            match check.needs.iter().find_map(|need| need.unmet(subject)) {
                Some(unmet) => teller.skip(&unmet, |id| id == row.id),
                None => {
                    teller.tell(row.id, || judge(&observed))?;
                }
            }
        }
    }
    Ok(())
}

/// Asks each worker alone, then all of them at once.
fn observe<'run>(
    subject: &'run Subject<'run>,
    pool: &mut WorkerPool<'_>,
    config: &'run StressConfig,
) -> Result<PoolObservation<'run>> {
    subject.check_id.set(ANSWERS);
    let references = references(subject)?;
    let streams = config.workers * config.streams;
    let limits = references.iter().map(|known| known.limit(streams - 1));
    let limit = limits.max().unwrap_or(FIRST_LIMIT);
    let mut alone = Ok(());
    for worker in pool.iter() {
        for reference in &references {
            let answered = pool::ask(worker, reference, limit)?;
            let named = answered.map_err(|mismatch| mismatch.of(&worker.launch().worker_id));
            alone = alone.and(named);
        }
    }
    let together = watch::watch(subject, pool, config, &references, limit)?;
    Ok(PoolObservation {
        subject,
        config,
        alone,
        together,
        launches: pool.launches().to_vec(),
        pids: pool.iter().filter_map(|worker| worker.pid()).collect(),
    })
}

/// What is asked, and what the first worker answers to it.
fn references(subject: &Subject<'_>) -> Result<Vec<Reference>> {
    let config = subject.context.config;
    // Different lengths tell what is used for a request from what is used for a token.
    let lengths = [
        config.max_tokens,
        config.max_tokens.div_ceil(2),
        config.max_tokens.div_ceil(4),
    ];
    let prompts = [config.prompt.as_str()].into_iter().chain(PROMPTS);
    let ask = |(prompt, tokens): (&str, u32)| {
        let request = InferenceRequest::greedy(prompt, tokens);
        let known = Reference::whole(&subject.worker, request, FIRST_LIMIT);
        known.map_err(|error| of_worker(error, &subject.worker))
    };
    prompts.zip(lengths).map(ask).collect()
}

/// Tells how checks end.
struct Teller<'run> {
    context: RunContext<'run>,
    wanted: Vec<&'static str>,
    told: std::cell::RefCell<Vec<&'static str>>,
}

impl<'run> Teller<'run> {
    fn new(context: RunContext<'run>, config: &StressConfig) -> Self {
        Self {
            context,
            wanted: wanted(config).map(|row| row.id).collect(),
            told: std::cell::RefCell::default(),
        }
    }

    /// Runs a check and tells its end; whether it has passed. Fails only when the run is interrupted.
    fn tell(
        &self,
        id: &'static str,
        check: impl FnOnce() -> Result<String>,
    ) -> Result<bool, Interrupted> {
        let outcome = tried(self.context, id, check)?;
        self.told.borrow_mut().push(id);
        Ok(outcome.has_passed())
    }

    /// Says why those that are meant, and haven't been told yet, aren't tried.
    fn skip(&self, unmet: &Unmet, is_meant: impl Fn(&str) -> bool) {
        let told = self.told.borrow().clone();
        for id in &self.wanted {
            if is_meant(id) && !told.contains(id) {
                self.told.borrow_mut().push(id);
                left_out(self.context.journal, id, unmet.clone(), Duration::ZERO);
            }
        }
    }
}
