//! A stress run while it goes on: load on every worker, and what is observed of them meanwhile.

use std::thread::{Scope, ScopedJoinHandle, scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::exercise::{addressee, exercise};
use super::pool;
use super::pool::{Revival, WorkerPool};
use crate::tasks::worker::check::rhythm::lag_ms;
use crate::tasks::worker::check::stress::beats::Book;
use crate::tasks::worker::check::stress::observed::{Member, Revived, UnderLoad};
use crate::tasks::worker::config::stress::StressConfig;
use crate::tasks::worker::load::sustained::SustainedLoad;
use crate::tasks::worker::process::platform::usage;
use crate::tasks::worker::record::event::EventKind;
use crate::tasks::worker::record::stress::{StressPlan, StressProgress, UsageSample};
use crate::tasks::worker::target::reference::Reference;
use crate::tasks::worker::target::worker::WorkerHandle;
use crate::tasks::worker::target::{RunContext, Subject};

/// How often the terminal hears how it goes.
const PULSE: Duration = Duration::from_secs(60);

/// More samples than these are thinned to half of them, again and again.
const SAMPLES_KEPT: usize = 2400;

/// Fewer requests of each worker than these can't be compared: the load goes on until there are as many,
const LEAST_REQUESTS: u64 = 12;

/// but not for longer than so many times what was asked for.
const PATIENCE: u32 = 6;

/// How long heartbeats may be under way before they are taken in.
const SETTLED_MS: f64 = 150.0;

/// What goes on.
struct PoolWatch<'run, 'pool, 'first> {
    subject: &'run Subject<'run>,
    pool: &'pool mut WorkerPool<'first>,
    config: &'run StressConfig,
    observed: UnderLoad,
    began: Instant,
    /// Every how many looks one sample is kept, and how many looks there were.
    stride: usize,
    looks: usize,
    /// The end of the last look, when all were there, and tokens by then.
    whole: Option<(Instant, Vec<u64>)>,
    pulse: (Instant, u64),
    /// Heartbeats of the second life have to be waited for until then.
    until: Option<Instant>,
}

/// Puts all workers under load for the time that was asked for.
///
/// Fails where we can't go on, or when the run is interrupted.
pub fn watch<'run>(
    subject: &'run Subject<'run>,
    pool: &mut WorkerPool<'_>,
    config: &'run StressConfig,
    references: &[Reference],
    limit: Duration,
) -> Result<UnderLoad> {
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let names = pool.launches().iter();
    let names = names.map(|launch| (launch.worker_id.clone(), launch.port));
    let mut book = Book::new(subject.dialect(), names, interval_ms);
    let journal = subject.context.journal;
    journal.emit(EventKind::StressStarted(StressPlan {
        workers: config.workers,
        streams: config.streams,
        duration_ms: config.duration.as_millis() as u64,
        kill_one: config.kill_one,
    }));
    let began = Instant::now();
    book.judge_from(journal.elapsed_ms(began));
    let member = |worker: &WorkerHandle| {
        let addressee = addressee(worker, subject.context.stop);
        let exercise = exercise(worker, references, limit);
        let client = worker.quiet_client().clone();
        Ok(Member {
            load: SustainedLoad::start(addressee, client, exercise, config.streams)?,
            samples: Vec::new(),
            tokens_together: 0,
            death: None,
            pid: worker.pid().unwrap_or_default(),
        })
    };
    let observed = UnderLoad {
        members: pool.iter().map(member).collect::<Result<_>>()?,
        book,
        beats: Ok(()),
        span: (began, began),
        complete: Duration::ZERO,
        revival: None,
    };
    let watch = PoolWatch {
        subject,
        pool,
        config,
        observed,
        began,
        stride: 1,
        looks: 0,
        whole: None,
        pulse: (began, 0),
        until: None,
    };
    scope(|scope| watch.until_the_end(scope, (&references[0], limit)))
}

impl<'run> PoolWatch<'run, '_, '_> {
    fn until_the_end<'scope>(
        mut self,
        scope: &'scope Scope<'scope, '_>,
        first: (&'scope Reference, Duration),
    ) -> Result<UnderLoad>
    where
        'run: 'scope,
    {
        let context: RunContext<'run> = self.subject.context;
        let mut revival: Option<ScopedJoinHandle<'scope, Result<Revival>>> = None;
        let mut has_killed = !self.config.kill_one;
        // Each request, and each step of the revival, has a limit of its own.
        let limit = Duration::MAX;
        let name = "the end of the load";
        context.stop.wait_every(usage::FASTEST, name, limit, || {
            self.look()?;
            if !has_killed && self.began.elapsed() >= self.config.duration / 2 {
                has_killed = true;
                if let Some(victim) = self.take_victim() {
                    let body = move || pool::kill_and_revive(context, victim, first);
                    revival = Some(scope.spawn(body));
                }
            }
            if let Some(done) = revival.take_if(|thread| thread.is_finished()) {
                let revived = done.join();
                self.welcome(
                    revived.map_err(|_| anyhow!("the thread that kills a worker failed"))??,
                );
            }
            let is_over = has_killed && revival.is_none() && self.is_over();
            Ok(is_over.then_some(()))
        })?;
        self.finish()
    }

    /// One look at everybody.
    fn look(&mut self) -> Result<()> {
        self.subject.hive.ensure_alive()?;
        for number in 0..self.pool.len() {
            if self.observed.members[number].load.is_gone() {
                continue;
            }
            if let Some(worker) = self.pool.get(number)
                && let Some(exit) = worker.exited()?
            {
                let member = &mut self.observed.members[number];
                member.load.mark_gone();
                member.death = Some(exit.mismatch().of(&worker.launch().worker_id));
                self.observed.book.gone(number);
            }
        }
        self.sample();
        self.count_together();
        self.take_in_beats(SETTLED_MS);
        self.tell();
        Ok(())
    }

    fn sample(&mut self) {
        self.looks += 1;
        if !self.looks.is_multiple_of(self.stride) {
            return;
        }
        for member in &mut self.observed.members {
            if member.load.is_gone() {
                continue;
            }
            let tally = member.load.tally();
            if let Some(usage) = usage::of(member.pid) {
                member.samples.push(UsageSample {
                    requests: tally.requests + tally.failures,
                    tokens: tally.tokens,
                    memory_bytes: usage.anonymous_bytes.unwrap_or(usage.rss_bytes),
                    open_files: usage.open_files,
                    // Where files aren't told, threads aren't either.
                    threads: usage.open_files.map(|_| usage.threads),
                });
            }
        }
        if self
            .observed
            .members
            .iter()
            .any(|m| m.samples.len() > SAMPLES_KEPT)
        {
            self.stride *= 2;
            for member in &mut self.observed.members {
                let mut number = 0;
                member.samples.retain(|_| {
                    number += 1;
                    number % 2 == 0
                });
            }
        }
    }

    /// Throughput is only compared while all are there.
    fn count_together(&mut self) {
        let members = &mut self.observed.members;
        if members.iter().any(|member| member.load.is_gone()) {
            self.whole = None;
            return;
        }
        let tokens = members.iter().map(|member| member.load.tally().tokens);
        let (now, tokens) = (Instant::now(), tokens.collect::<Vec<_>>());
        if let Some((then, before)) = &self.whole {
            self.observed.complete += now - *then;
            for ((member, now), before) in members.iter_mut().zip(&tokens).zip(before) {
                member.tokens_together += now - before;
            }
        }
        self.whole = Some((now, tokens));
    }

    /// Beats that are younger than this may still be followed by older ones.
    fn take_in_beats(&mut self, settled_ms: f64) {
        let journal = self.subject.context.journal;
        let until_ms = journal.elapsed_ms(Instant::now()) - settled_ms;
        let mut beats = self
            .subject
            .hive
            .heartbeats_after(self.observed.book.seen());
        beats.truncate(
            beats
                .iter()
                .take_while(|beat| beat.arrived_ms <= until_ms)
                .count(),
        );
        let subject = self.subject;
        self.observed
            .book
            .take_in(&beats, |from, to| lag_ms(subject, from, to));
    }

    fn tell(&mut self) {
        if self.pulse.0.elapsed() < PULSE {
            return;
        }
        let tallies: Vec<_> = self
            .observed
            .members
            .iter()
            .map(|m| m.load.tally())
            .collect();
        let tokens: u64 = tallies.iter().map(|tally| tally.tokens).sum();
        let (then, before) = std::mem::replace(&mut self.pulse, (Instant::now(), tokens));
        let memory = self.observed.members.iter().map(|member| {
            let last = member.samples.last().map(|sample| sample.memory_bytes);
            last.filter(|_| !member.load.is_gone())
        });
        let pulse = StressProgress {
            since_ms: self.began.elapsed().as_millis() as u64,
            requests: tallies.iter().map(|tally| tally.requests).sum(),
            failures: tallies.iter().map(|tally| tally.failures).sum(),
            tokens_per_s: (tokens - before) as f64 / then.elapsed().as_secs_f64(),
            memory_bytes: memory.collect(),
            late_beats: self.observed.book.late(),
        };
        let journal = self.subject.context.journal;
        journal.emit(EventKind::StressGoesOn(pulse));
    }

    fn take_victim(&mut self) -> Option<WorkerHandle> {
        let number = self.pool.len() - 1;
        // One that is dead already can't be killed.
        if self.observed.members[number].death.is_some() {
            return None;
        }
        self.observed.members[number].load.mark_gone();
        self.observed.book.gone(number);
        self.pool.pick_victim()
    }

    fn welcome(&mut self, revival: Revival) {
        let number = self.pool.len() - 1;
        let journal = self.subject.context.journal;
        let subject = self.subject;
        let started_ms = journal.elapsed_ms(revival.worker.started());
        let jitter = |from, to| lag_ms(subject, from, to);
        self.take_in_beats(0.0);
        let member = &mut self.observed.members[number];
        member.samples.clear();
        member.pid = revival.worker.pid().unwrap_or_default();
        // One that didn't come back stays away: nobody waits for its answers and beats.
        if revival.ready.is_ok() {
            let again = addressee(&revival.worker, subject.context.stop);
            self.observed
                .book
                .reborn(number, again.port, started_ms, jitter);
            member
                .load
                .mark_back(again, revival.worker.quiet_client().clone());
        }
        let interval_s = self.subject.context.config.heartbeat_interval_secs;
        let beats = Duration::from_secs(interval_s) * 5 / 2;
        self.until = Some(Instant::now() + beats);
        self.pool.welcome(revival.worker);
        self.observed.revival = Some(Revived {
            ready: revival.ready,
            answered: revival.answered,
        });
    }

    fn is_over(&self) -> bool {
        let lasted = self.began.elapsed();
        let last = self.observed.book.page(self.pool.len() - 1);
        // Two beats of the second life show that its sequence rises.
        let is_heard =
            last.second_life >= 2 || self.until.is_none_or(|until| Instant::now() >= until);
        let has_enough = |member: &Member| {
            let tally = member.load.tally();
            member.load.is_gone() || tally.requests + tally.failures >= LEAST_REQUESTS
        };
        let is_enough = self.observed.members.iter().all(has_enough);
        lasted >= self.config.duration
            && is_heard
            && (is_enough || lasted >= self.config.duration * PATIENCE)
    }

    fn finish(mut self) -> Result<UnderLoad> {
        let journal = self.subject.context.journal;
        self.observed.span.1 = Instant::now();
        let ended_ms = journal.elapsed_ms(self.observed.span.1);
        let subject = self.subject;
        // What came by the end is under way to us for a moment.
        let settled = Duration::from_secs_f64(SETTLED_MS / 1e3);
        self.subject.context.stop.let_pass(settled)?;
        self.take_in_beats(0.0);
        let jitter = |from, to| lag_ms(subject, from, to);
        self.observed.beats = self.observed.book.judge(ended_ms, jitter);
        for member in &self.observed.members {
            member.load.end();
        }
        for member in &self.observed.members {
            let settled = member.load.settle(self.subject.context.stop);
            settled.context("a stream of the load didn't end")?;
        }
        Ok(self.observed)
    }
}
