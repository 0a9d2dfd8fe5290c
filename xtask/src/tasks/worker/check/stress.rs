//! What is judged of several workers under load at once. The load itself is `mode/stress`.

pub mod beats;
pub mod observed;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use self::observed::{Member, PoolObservation};
use super::judge::Evidence;
use super::row::{Check, Need};
use crate::tasks::worker::process::stop::TimedOut;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::stress::{Resource, Trend, trends};
use crate::tasks::worker::target::dialect::{ByHand, InferenceRequest, Promise};
use crate::tasks::worker::target::worker::WorkerHandle;

/// How long answers about health may take.
pub const HEALTH_LIMIT: Duration = Duration::from_millis(250);

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

/// The worker's default drain time and a little for the rest.
const STOP_LIMIT: Duration = Duration::from_secs(12);

/// How a health answer under load is looked at by hand.
const HEALTH: fn(&ByHand) -> String = |by| by.health("-s -w '%{time_total}\\n'");

/// How a load by hand begins.
const STREAM: fn(&ByHand) -> String = |by| by.stream("-sN", &InferenceRequest::greedy("Hello", 20));

/// What is seen of several workers under load.
pub const CHECKS: &[Check] = &[
    Check::stress("stress.ready")
        .promise("becomes ready beside the others")
        .explanation("Starts all workers together; fails if one isn't ready within --timeout, or ends.")
        .by_hand(|by| by.ready("-i")),
    Check::of_pool("stress.alive", alive)
        .promise("survives the load")
        .holds(&["H4"])
        .explanation("Fails if a process ends under load without being asked to.")
        .by_hand(HEALTH),
    Check::of_pool("stress.answers", answers)
        .promise("answers every request with a valid stream, with the same text as without load")
        .holds(&["R30"])
        .explanation("Fails if a request gets no answer, a stream is invalid, or a text differs from the one without load; a full queue is no failure.")
        .by_hand(STREAM),
    Check::of_pool("stress.health", health)
        .promise("answers health within 250 ms, under its own name, while all are under load")
        .holds(&["H8"])
        .explanation("Fails on another worker_id or status, or if more than a tenth of the answers, spread over the load, are slow and our own scheduling jitter doesn't explain it.")
        .by_hand(HEALTH),
    Check::of_pool("stress.beats", beats)
        .promise("sends heartbeats on time, under its own name and sequence, while all are under load")
        .holds(&["B11"])
        .explanation("Fails on a heartbeat of an unknown worker, a sequence that doesn't rise by one, or repeatedly late heartbeats.")
        .by_hand(STREAM)
        .needs(&[Need::Promised(Promise::Heartbeats)]),
    Check::of_pool("stress.fair", fair)
        .promise("generates at least half as many tokens/s as the fastest worker")
        .explanation("Counts tokens while all workers are up; fails on less than half of the fastest worker's.")
        .by_hand(STREAM),
    Check::of_pool("stress.killed", killed)
        .promise("recovers after being killed, without affecting other workers")
        .explanation("Kills one worker under load and starts it again; fails if it isn't ready, answers wrongly, doesn't count its heartbeats from 1, or another worker's request fails; --kill-one only.")
        .by_hand(|_| String::from("kill -KILL PID")),
    Check::of_pool("stress.leaks", leaks)
        .promise("doesn't leak memory, open files or threads")
        .explanation("Fits samples of each against requests and tokens answered; fails if the 99 % interval of a slope lies above the floor.")
        .by_hand(|_| String::from("grep -E 'VmRSS|Threads' /proc/PID/status; ls /proc/PID/fd | wc -l")),
];

/// The end of all workers, after the first has been found alive.
pub const AFTERWARDS: &[Check] = &[Check::stress("stress.gone")
    .at(Phase::End)
    .promise("stops when it is asked to, exits with 0, and leaves nothing behind")
    .holds(&["T9"])
    .explanation("Stops each worker as an orchestrator would; fails if an exit status isn't 0, a process outlives the drain time, or something is left behind.")
    .by_hand(|_| String::from("kill -TERM PID"))];

fn alive(pool: &PoolObservation<'_>) -> Result<Evidence> {
    for (_, member) in pool.members() {
        if let Some(mismatch) = &member.death {
            return Err(mismatch.clone().into());
        }
    }
    Ok(format!("{} workers", pool.launches.len()))
}

fn answers(pool: &PoolObservation<'_>) -> Result<Evidence> {
    pool.alone.clone()?;
    let (mut requests, mut refused) = (0, 0);
    for (worker_id, member) in pool.members() {
        let tally = member.load.tally();
        if let Some(mismatch) = tally.trouble {
            let mut mismatch = mismatch.of(worker_id);
            let all = tally.requests + tally.failures;
            mismatch.got += &format!(" ({} of {all} went wrong)", tally.failures);
            return Err(mismatch.into());
        }
        if tally.requests == 0 && member.death.is_none() {
            bail!("no answer from {worker_id} came during the load\n  try: a longer --duration");
        }
        requests += tally.requests;
        refused += tally.refused;
    }
    let full = match refused {
        0 => String::new(),
        count => format!(", the queue full {count} times"),
    };
    Ok(format!("{requests} answers{full}"))
}

fn health(pool: &PoolObservation<'_>) -> Result<Evidence> {
    let (mut answers, mut slowest, mut excused) = (0, Duration::ZERO, 0);
    for (worker_id, member) in pool.members() {
        let health = member.load.health();
        if let Some(mismatch) = health.trouble {
            return Err(mismatch.of(worker_id).into());
        }
        let excesses = health.excesses(&pool.subject.jitter);
        let slow = health.slow.iter().zip(&excesses);
        let slow: Vec<_> = slow.filter(|(_, excess)| **excess > HEALTH_LIMIT).collect();
        let longest = excesses.iter().max().copied().unwrap_or_default();
        let parts: BTreeSet<u32> = slow
            .iter()
            .map(|((asked, _), _)| part(pool, *asked))
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

/// In which part of the load this was.
fn part(pool: &PoolObservation<'_>, at: Instant) -> u32 {
    let (began, ended) = pool.together.span;
    let share = (at - began).as_secs_f64() / (ended - began).as_secs_f64().max(1e-3);
    ((share * f64::from(PARTS)) as u32).min(PARTS - 1)
}

fn beats(pool: &PoolObservation<'_>) -> Result<Evidence> {
    pool.together.beats.clone()?;
    let pages = || (0..pool.launches.len()).map(|number| pool.together.book.page(number));
    let count: u64 = pages().map(|page| page.count).sum();
    let latest_ms = pages().map(|page| page.worst_ms()).fold(0.0, f64::max);
    Ok(format!(
        "{count} heartbeats, max lateness {latest_ms:.0} ms"
    ))
}

fn fair(pool: &PoolObservation<'_>) -> Result<Evidence> {
    let members = || pool.members();
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
        "{most} tokens of the fastest worker while all were up are too few to compare\n  try: a \
         longer --duration"
    );
    let share = slowest.1.tokens_together as f64 / most as f64;
    let rates = format!(
        "{:.1} tokens/s against {:.1}",
        pool.rate(slowest.1),
        pool.rate(fastest.1)
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

fn killed(pool: &PoolObservation<'_>) -> Result<Evidence> {
    let Some(revival) = &pool.together.revival else {
        bail!("the worker to be killed had already ended");
    };
    let number = pool.launches.len() - 1;
    let worker_id = pool.launches[number].worker_id.as_str();
    let ready = revival
        .ready
        .clone()
        .map_err(|mismatch| mismatch.of(worker_id))?;
    revival
        .answered
        .clone()
        .map_err(|mismatch| mismatch.of(worker_id))?;
    let beats = match pool.launches[number].lacks(Promise::Heartbeats) {
        Some(_) => String::new(),
        None => format!("{} heartbeats since, ", beats_again(pool, number, ready)?),
    };
    // Whether the others minded is seen in their answers: a request that failed fails this, too.
    for (other, member) in pool.members().take(number) {
        if let Some(mismatch) = member.load.tally().trouble {
            return Err(mismatch.of(other).into());
        }
    }
    Ok(format!(
        "ready again after {} ms, {beats}{} requests interrupted",
        ready.as_millis(),
        pool.together.members[number].load.tally().cut
    ))
}

/// How many heartbeats a worker has sent since it was ready again.
fn beats_again(pool: &PoolObservation<'_>, number: usize, ready: Duration) -> Result<u64> {
    let page = pool.together.book.page(number);
    let worker_id = &pool.launches[number].worker_id;
    let place = format!("heartbeats of {worker_id} after its second start");
    match page.resumed_after_ms {
        Some(after_ms) if after_ms - ready.as_secs_f64() * 1e3 <= RESUME_LIMIT_MS => {}
        Some(after_ms) => {
            let expected = format!("at most {RESUME_LIMIT_MS:.0} ms after it was ready");
            return Err(Mismatch::new(place, expected, format!("{after_ms:.0} ms")).into());
        }
        None => return Err(Mismatch::new(place, "a sequence from 1", "none").into()),
    }
    if page.second_life < 2 {
        return Err(Mismatch::new(place, "one every interval", "a single one").into());
    }
    Ok(page.second_life)
}

fn leaks(pool: &PoolObservation<'_>) -> Result<Evidence> {
    let mut steepest: Option<(f64, Trend)> = None;
    for (worker_id, member) in pool.members() {
        for trend in trends(&member.samples, pool.config.streams) {
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
            "it grew by {} at least over {:.0} {per}s and was still growing: {:.2} {unit} a {per} (99 % interval {:.2} to {:.2}, R² {:.2}, n {})",
            resource.amount(trend.grown),
            trend.work,
            slope.slope,
            slope.interval.0,
            slope.interval.1,
            slope.r_squared,
            slope.n
        ),
    )
}

/// Stops every worker that lives as an orchestrator would.
pub fn stop_all<'a>(workers: impl Iterator<Item = &'a WorkerHandle>) -> Result<Evidence> {
    let mut stopped = 0;
    for worker in workers {
        if worker.exited()?.is_some() {
            continue;
        }
        let exit = worker.stop_orderly(STOP_LIMIT);
        let exit = exit.map_err(|error| match error.downcast::<TimedOut>() {
            Ok(late) => {
                let expected = format!("an exit within {} s", late.limit.as_secs());
                Mismatch::new("stop of the worker", expected, "it still runs").into()
            }
            Err(error) => error,
        });
        let exit = exit.map_err(|error| of_worker(error, worker))?;
        let orderly = worker.expect_orderly(&exit);
        orderly.map_err(|mismatch| mismatch.of(&worker.launch().worker_id))?;
        let left_behind = worker.end();
        if !left_behind.is_empty() {
            let place = format!("{}: stop of the worker", worker.launch().worker_id);
            let got = left_behind.join("; ");
            return Err(Mismatch::new(place, "nothing left behind", got).into());
        }
        stopped += 1;
    }
    Ok(format!("{stopped} workers, each in good order"))
}

/// Says whose promise was broken.
pub fn of_worker(error: anyhow::Error, worker: &WorkerHandle) -> anyhow::Error {
    match error.downcast::<Mismatch>() {
        Ok(mismatch) => mismatch.of(&worker.launch().worker_id).into(),
        Err(error) => error,
    }
}
