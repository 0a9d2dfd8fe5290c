//! What was seen of several workers under load, held against what they promise. Runs nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::exercise::HEALTH_LIMIT;
use super::pool;
use super::watch::{Member, Watched};
use crate::tasks::worker::config::stress::StressConfig;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::stress::{Resource, Trend, WorkerUnderStress, trends};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::worker::Launch;

/// Equal processes with equal work get equal shares of a machine, give or take what its scheduler
/// rounds: a factor of two between the slowest and the fastest isn't chance.
const FAIR_SHARE: f64 = 0.5;

/// With fewer tokens of the fastest than these a ratio says nothing.
const COMPARABLE_TOKENS: u64 = 60;

/// The part of slow answers about health that a busy machine may be to blame for.
const ACCIDENTS: f64 = 0.1;

/// What else a machine does comes in bursts, and a worker that doesn't answer under load does so all
/// the while: slow answers in so many of these parts of the load are its own.
const PARTS: u32 = 5;
const PARTS_BLAMED: usize = 3;

/// How soon after its second start a killed worker has to beat: "at once", and some room.
const RESUME_LIMIT_MS: f64 = 1000.0;

/// What was seen.
pub struct Evidence<'run> {
    /// The first worker, and how late we were ourselves.
    pub subject: &'run Subject<'run>,
    /// What was asked for.
    pub config: &'run StressConfig,
    /// Whether each of them gave the same text alone.
    pub alone: Result<(), Mismatch>,
    /// What was seen of them together.
    pub watched: Watched,
    /// How each was started.
    pub launches: Vec<Launch>,
    /// Their processes.
    pub pids: Vec<u32>,
}

/// How the check of that name judges; `None` for those that aren't about the load.
pub fn check(id: &str) -> Option<fn(&Evidence<'_>) -> Result<String>> {
    Some(match id {
        "stress.alive" => alive,
        "stress.answers" => answers,
        "stress.health" => health,
        "stress.beats" => beats,
        "stress.fair" => fair,
        "stress.killed" => killed,
        "stress.leaks" => leaks,
        _ => return None,
    })
}

impl Evidence<'_> {
    /// What became of each worker, for the record.
    pub fn workers(&self) -> Vec<WorkerUnderStress> {
        (0..self.launches.len())
            .map(|number| self.worker(number))
            .collect()
    }

    fn worker(&self, number: usize) -> WorkerUnderStress {
        let (launch, member) = (&self.launches[number], &self.watched.members[number]);
        let page = self.watched.book.page(number);
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

    fn rate(&self, member: &Member) -> f64 {
        let together_s = self.watched.together.as_secs_f64();
        member.tokens_together as f64 / together_s.max(1e-3)
    }

    fn is_victim(&self, number: usize) -> bool {
        self.watched.revival.is_some() && number + 1 == self.launches.len()
    }

    /// In which part of the load this was.
    fn part(&self, at: Instant) -> u32 {
        let (began, ended) = self.watched.span;
        let share = (at - began).as_secs_f64() / (ended - began).as_secs_f64().max(1e-3);
        ((share * f64::from(PARTS)) as u32).min(PARTS - 1)
    }

    /// Each worker's name and what was seen of it.
    fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        let names = self.launches.iter().map(|launch| launch.worker_id.as_str());
        names.zip(&self.watched.members)
    }
}

fn alive(evidence: &Evidence<'_>) -> Result<String> {
    for (_, member) in evidence.members() {
        if let Some(mismatch) = &member.death {
            return Err(mismatch.clone().into());
        }
    }
    Ok(format!("{} workers", evidence.launches.len()))
}

fn answers(evidence: &Evidence<'_>) -> Result<String> {
    evidence.alone.clone()?;
    let (mut requests, mut refused) = (0, 0);
    for (worker_id, member) in evidence.members() {
        let tally = member.load.tally();
        if let Some(mismatch) = tally.trouble {
            let mut mismatch = pool::of(worker_id, mismatch);
            let all = tally.requests + tally.failures;
            mismatch.got += &format!(" ({} of {all} went wrong)", tally.failures);
            return Err(mismatch.into());
        }
        if tally.requests == 0 && member.death.is_none() {
            bail!("no answer of {worker_id} came within the load\n  try: a longer --duration");
        }
        requests += tally.requests;
        refused += tally.refused;
    }
    let full = match refused {
        0 => String::new(),
        count => format!(", {count} times a full queue"),
    };
    Ok(format!("{requests} answers{full}"))
}

fn health(evidence: &Evidence<'_>) -> Result<String> {
    let (mut answers, mut slowest, mut excused) = (0, Duration::ZERO, 0);
    for (worker_id, member) in evidence.members() {
        let health = member.load.health();
        if let Some(mismatch) = health.trouble {
            return Err(pool::of(worker_id, mismatch).into());
        }
        let excesses = health.excesses(&evidence.subject.jitter);
        let slow = health.slow.iter().zip(&excesses);
        let slow: Vec<_> = slow.filter(|(_, excess)| **excess > HEALTH_LIMIT).collect();
        let longest = excesses.iter().max().copied().unwrap_or_default();
        let parts: BTreeSet<u32> = slow
            .iter()
            .map(|((asked, _), _)| evidence.part(*asked))
            .collect();
        let allowed = (health.answers as f64 * ACCIDENTS).max(1.0);
        if slow.len() as f64 > allowed && parts.len() >= PARTS_BLAMED {
            let place = format!("{worker_id}: health under load");
            let got = format!(
                "{} of {} that took longer, up to {} ms",
                slow.len(),
                health.answers,
                longest.as_millis()
            );
            return Err(Mismatch::new(place, "answers within 250 ms", got).into());
        }
        excused += (excesses.len() - slow.len()) as u64;
        answers += health.answers;
        slowest = slowest.max(longest).max(health.longest_quick);
    }
    ensure!(
        answers > 0,
        "health was never polled: this machine is too busy"
    );
    ensure!(
        excused * 2 <= answers,
        "this machine was too busy to judge: {excused} of {answers} answers about health were slow, \
         and so was the harness itself at that time"
    );
    Ok(format!(
        "{answers} answers, the slowest after {} ms",
        slowest.as_millis()
    ))
}

fn beats(evidence: &Evidence<'_>) -> Result<String> {
    evidence.watched.beats.clone()?;
    let pages = || (0..evidence.launches.len()).map(|number| evidence.watched.book.page(number));
    let count: u64 = pages().map(|page| page.count).sum();
    let latest_ms = pages().map(|page| page.worst_ms()).fold(0.0, f64::max);
    Ok(format!(
        "{count} heartbeats, max lateness {latest_ms:.0} ms"
    ))
}

fn fair(evidence: &Evidence<'_>) -> Result<String> {
    let members = || evidence.members();
    let by_tokens = |(_, member): &(&str, &Member)| member.tokens_together;
    let (Some(slowest), Some(fastest)) = (
        members().min_by_key(by_tokens),
        members().max_by_key(by_tokens),
    ) else {
        bail!("there is no worker");
    };
    let most = fastest.1.tokens_together;
    ensure!(
        most >= COMPARABLE_TOKENS,
        "{most} tokens of the fastest worker while all were there are too few to compare\n  try: a \
         longer --duration"
    );
    let share = slowest.1.tokens_together as f64 / most as f64;
    let rates = format!(
        "{:.1} tokens/s against {:.1}",
        evidence.rate(slowest.1),
        evidence.rate(fastest.1)
    );
    if share < FAIR_SHARE {
        let place = format!("{} beside {}", slowest.0, fastest.0);
        let expected = format!("at least {:.0} % of its throughput", FAIR_SHARE * 100.0);
        let got = format!("{:.0} %: {rates}", share * 100.0);
        return Err(Mismatch::new(place, expected, got).into());
    }
    Ok(format!(
        "the slowest has {:.0} % of the fastest: {rates}",
        share * 100.0
    ))
}

fn killed(evidence: &Evidence<'_>) -> Result<String> {
    let Some(revival) = &evidence.watched.revival else {
        bail!("the worker that was to be killed had ended before");
    };
    let number = evidence.launches.len() - 1;
    let worker_id = evidence.launches[number].worker_id.as_str();
    let ready = revival.ready.clone().map_err(|m| pool::of(worker_id, m))?;
    revival
        .answered
        .clone()
        .map_err(|m| pool::of(worker_id, m))?;
    let page = evidence.watched.book.page(number);
    let place = format!("heartbeats of {worker_id} after its second start");
    match page.resumed_after_ms {
        Some(after_ms) if after_ms - ready.as_secs_f64() * 1e3 <= RESUME_LIMIT_MS => {}
        Some(after_ms) => {
            let expected = format!("{RESUME_LIMIT_MS:.0} ms after it was ready at most");
            return Err(Mismatch::new(place, expected, format!("{after_ms:.0} ms")).into());
        }
        None => return Err(Mismatch::new(place, "a sequence from 1", "none").into()),
    }
    if page.second_life < 2 {
        return Err(Mismatch::new(place, "one every interval", "a single one").into());
    }
    // Whether the others minded is seen in their answers: a request that failed fails this, too.
    for (other, member) in evidence.members().take(number) {
        if let Some(mismatch) = member.load.tally().trouble {
            return Err(pool::of(other, mismatch).into());
        }
    }
    Ok(format!(
        "ready again after {} ms, {} heartbeats since, {} requests interrupted",
        ready.as_millis(),
        page.second_life,
        evidence.watched.members[number].load.tally().cut
    ))
}

fn leaks(evidence: &Evidence<'_>) -> Result<String> {
    let mut steepest: Option<(f64, Trend)> = None;
    for (worker_id, member) in evidence.members() {
        for trend in trends(&member.samples, evidence.config.streams) {
            if trend.is_leak() {
                return Err(leak(worker_id, &trend).into());
            }
            let part = trend.grown / trend.floor;
            if steepest.as_ref().is_none_or(|(most, _)| part > *most) {
                steepest = Some((part, trend));
            }
        }
    }
    let Some((_, trend)) = steepest else {
        bail!("there are too few samples to see a trend\n  try: a longer --duration");
    };
    Ok(format!(
        "the steepest: {} more at least, of {} that are no leak (n {})",
        trend.resource.amount(trend.grown.max(0.0)),
        trend.resource.amount(trend.floor),
        trend.slope.n
    ))
}

fn leak(worker_id: &str, trend: &Trend) -> Mismatch {
    let (slope, resource, per) = (trend.slope, trend.resource, trend.per.as_str());
    let unit = match resource {
        Resource::Memory => "bytes",
        other => other.as_str(),
    };
    Mismatch::new(
        format!(
            "{worker_id}: {} over the {per}s that it answered",
            resource.as_str()
        ),
        format!("growth of less than {}", resource.amount(trend.floor)),
        format!(
            "{} at least: {:.2} {unit} a {per} (99 % interval {:.2} to {:.2}, R² {:.2}, n {})",
            resource.amount(trend.grown),
            slope.slope,
            slope.interval.0,
            slope.interval.1,
            slope.r_squared,
            slope.n
        ),
    )
}
