//! What is seen of several workers under load, for those who judge it.

use std::time::{Duration, Instant};

use super::beats::Book;
use crate::tasks::worker::config::stress::StressConfig;
use crate::tasks::worker::load::sustained::SustainedLoad;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::stress::{UsageSample, WorkerUnderStress, trends};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::worker::Launch;

/// What was seen of a pool: of each worker alone, and of all under load.
pub struct PoolObservation<'run> {
    /// The first worker, and how late we were ourselves.
    pub subject: &'run Subject<'run>,
    /// What was asked for.
    pub config: &'run StressConfig,
    /// Whether each of them gave the same text alone.
    pub alone: Result<(), Mismatch>,
    /// What was seen of them together.
    pub together: UnderLoad,
    /// How each was started.
    pub launches: Vec<Launch>,
    /// Their processes.
    pub pids: Vec<u32>,
}

/// What was seen of one worker.
pub struct Member {
    /// The load on it.
    pub load: SustainedLoad,
    /// What it used; of its second life only, where it was killed.
    pub samples: Vec<UsageSample>,
    /// Tokens that it generated while all were there.
    pub tokens_together: u64,
    /// Its end, where that came unasked.
    pub death: Option<Mismatch>,
    /// Its process.
    pub pid: u32,
}

/// What was seen of all of them together.
pub struct UnderLoad {
    /// In their order.
    pub members: Vec<Member>,
    /// Their heartbeats.
    pub book: Book,
    /// What is wrong with those, if anything.
    pub beats: Result<(), Mismatch>,
    /// When the load began, and when it ended.
    pub span: (Instant, Instant),
    /// How long all were there at once.
    pub complete: Duration,
    /// What came of the one that was killed.
    pub revival: Option<Revived>,
}

/// What came of the one that was killed.
#[derive(Debug)]
pub struct Revived {
    /// From its second start until it was ready, or the promise that it broke.
    pub ready: Result<Duration, Mismatch>,
    /// Whether its first answer was the right one.
    pub answered: Result<(), Mismatch>,
}

impl PoolObservation<'_> {
    /// What became of each worker, for the record.
    pub fn workers(&self) -> Vec<WorkerUnderStress> {
        (0..self.launches.len())
            .map(|number| self.worker(number))
            .collect()
    }

    fn worker(&self, number: usize) -> WorkerUnderStress {
        let (launch, member) = (&self.launches[number], &self.together.members[number]);
        let page = self.together.book.page(number);
        let (tally, health) = (member.load.tally(), member.load.health());
        let slowest = health.excesses(&self.subject.jitter).into_iter().max();
        let memory = member.samples.first().zip(member.samples.last());
        WorkerUnderStress {
            worker_id: launch.worker_id.clone(),
            pid: self.pids.get(number).copied().unwrap_or_default(),
            port: launch.port,
            killed: self.is_victim(number),
            requests: tally.requests,
            tokens: tally.tokens,
            failures: tally.failures,
            refused: tally.refused,
            cut: tally.cut,
            tokens_per_s: self.rate(member),
            beats: page.count,
            late_beats: page.late,
            health_answers: health.answers,
            health_slowest_ms: slowest
                .max(Some(health.longest_quick))
                .unwrap_or_default()
                .as_secs_f64()
                * 1e3,
            memory_bytes: memory.map(|(first, last)| (first.memory_bytes, last.memory_bytes)),
            trends: trends(&member.samples, self.config.streams),
        }
    }

    /// Its tokens a second while all were there.
    pub fn rate(&self, member: &Member) -> f64 {
        let together_s = self.together.complete.as_secs_f64();
        member.tokens_together as f64 / together_s.max(1e-3)
    }

    fn is_victim(&self, number: usize) -> bool {
        self.together.revival.is_some() && number + 1 == self.launches.len()
    }

    /// Each worker's name and what was seen of it.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        let names = self.launches.iter().map(|launch| launch.worker_id.as_str());
        names.zip(&self.together.members)
    }
}
