//! Several workers under load as data: what became of each, and how its needs grew. Pure.

use serde::{Deserialize, Serialize};

use super::stats::{Confidence, Slope, slope};

/// The first part of a run fills caches and pools, which is no leak: this part of it is left out.
const WARM_UP: f64 = 0.5;

/// With fewer samples than these after it nothing is said about trends.
const LEAST_SAMPLES: usize = 8;

/// Samples that follow each other closely are not independent of each other, which would make an
/// interval narrower than it is: so many means of neighbours are regressed instead.
const BATCHES: usize = 40;

/// Growth of memory up to this is what allocators do: they take from the system in steps, and keep.
const MEMORY_FLOOR_BYTES: f64 = (8 << 20) as f64;

/// The same as a part of what the worker uses anyway.
const MEMORY_FLOOR_SHARE: f64 = 0.05;

/// Files and threads of so many requests more or less come and go with the load.
const COUNT_FLOOR: f64 = 8.0;

/// The load, as it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StressPlan {
    /// How many workers.
    pub workers: u32,
    /// How many streams ask each.
    pub streams: u32,
    /// How long they ask.
    pub duration_ms: u64,
    /// Whether one is killed in the middle.
    pub kill_one: bool,
}

/// A worker of several came, went or came back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolChange {
    /// Which.
    pub worker_id: String,
    /// Its process.
    pub pid: u32,
    /// Its port.
    pub port: u16,
    /// What happened to it.
    pub what: PoolEvent,
}

/// What happens to a worker of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolEvent {
    /// Its process exists.
    Started,
    /// It says that it is ready.
    Ready,
    /// It was killed on purpose.
    Killed,
    /// It was started again.
    Restarted,
}

/// How a load goes, told every minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StressProgress {
    /// Since the load began.
    pub since_ms: u64,
    /// Requests that were answered so far.
    pub requests: u64,
    /// Requests that failed so far.
    pub failures: u64,
    /// Tokens of all workers, a second, since the pulse before.
    pub tokens_per_s: f64,
    /// What each worker's memory takes, in their order; `None` while one isn't there.
    pub memory_bytes: Vec<Option<u64>>,
    /// Heartbeats that were late so far.
    pub late_beats: u64,
}

/// What became of one worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerUnderStress {
    /// Its name.
    pub worker_id: String,
    /// Its process, the second one where it was killed.
    pub pid: u32,
    /// Its port.
    pub port: u16,
    /// Whether it was killed on purpose.
    pub killed: bool,
    /// Requests that were answered by the rules with the text that was expected.
    pub requests: u64,
    /// Tokens of all answers that kept the rules of streams.
    pub tokens: u64,
    /// Requests that weren't answered so.
    pub failures: u64,
    /// Requests that found the queue full.
    pub refused: u64,
    /// Requests that were under way when it was killed.
    pub cut: u64,
    /// Tokens a second while all workers were there.
    pub tokens_per_s: f64,
    /// Heartbeats with its name.
    pub beats: u64,
    /// Those that were late.
    pub late_beats: u64,
    /// Answers about its health.
    pub health_answers: u64,
    /// The slowest of them, less what the harness lost itself.
    pub health_slowest_ms: f64,
    /// What its memory took first and last.
    pub memory_bytes: Option<(u64, u64)>,
    /// How its needs grew.
    pub trends: Vec<Trend>,
}

/// What a worker uses at a moment, and what it has done by then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsageSample {
    /// Requests that are over.
    pub requests: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Anonymous memory and swap, where the system tells them apart; else resident memory.
    pub memory_bytes: u64,
    /// Open files and sockets.
    pub open_files: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// What a worker could leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Memory, in bytes.
    Memory,
    /// Open files and sockets.
    OpenFiles,
    /// Threads.
    Threads,
}

/// What it could leak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkUnit {
    /// Each request.
    Request,
    /// Each token.
    Token,
}

/// How much more of a resource is used for each piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Which resource.
    pub resource: Resource,
    /// For each of which.
    pub per: WorkUnit,
    /// The line, with a 99 % interval.
    #[serde(flatten)]
    pub slope: Slope,
    /// By how much the resource has grown at least, by the interval, over what was regressed.
    pub grown: f64,
    /// Growth up to this is no leak.
    pub floor: f64,
    /// The work over which it was regressed.
    #[serde(default)]
    pub work: f64,
    /// Whether it grew to a level and stayed there, as what has a bound does.
    #[serde(default)]
    pub levels_off: bool,
}

impl Resource {
    /// As tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::OpenFiles => "open files",
            Resource::Threads => "threads",
        }
    }

    /// "12.3 MB", "12 open files".
    pub fn amount(self, amount: f64) -> String {
        match self {
            Resource::Memory => format!("{:.1} MB", amount / 1e6),
            Resource::OpenFiles | Resource::Threads => format!("{amount:.0} {}", self.as_str()),
        }
    }
}

impl WorkUnit {
    /// As tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkUnit::Request => "request",
            WorkUnit::Token => "token",
        }
    }
}

impl Trend {
    /// Whether the slope's interval stays above zero by more than the floor, and goes on to the end.
    pub fn is_leak(&self) -> bool {
        self.slope.interval.0 > 0.0 && self.grown > self.floor && !self.levels_off
    }
}

/// How the needs of a worker that is asked by so many streams grew with its work; nothing where
/// there are too few samples to say.
pub fn trends(samples: &[UsageSample], streams: u32) -> Vec<Trend> {
    let rest = &samples[(samples.len() as f64 * WARM_UP).ceil() as usize..];
    if rest.len() < LEAST_SAMPLES {
        return Vec::new();
    }
    let come_and_go = COUNT_FLOOR + 2.0 * f64::from(streams);
    let level = rest[0].memory_bytes as f64 * MEMORY_FLOOR_SHARE;
    let resources = [
        (Resource::Memory, MEMORY_FLOOR_BYTES.max(level)),
        (Resource::OpenFiles, come_and_go),
        (Resource::Threads, come_and_go),
    ];
    let mut trends = Vec::new();
    for (resource, floor) in resources {
        for per in [WorkUnit::Request, WorkUnit::Token] {
            let point = |sample: &UsageSample| {
                let work = match per {
                    WorkUnit::Request => sample.requests,
                    WorkUnit::Token => sample.tokens,
                };
                let used = match resource {
                    Resource::Memory => Some(sample.memory_bytes),
                    Resource::OpenFiles => sample.open_files,
                    Resource::Threads => sample.threads,
                };
                Some((work as f64, used? as f64))
            };
            let points: Option<Vec<_>> = rest.iter().map(point).collect();
            trends.extend(points.and_then(|points| trend(resource, per, &points, floor)));
        }
    }
    trends
}

fn trend(resource: Resource, per: WorkUnit, points: &[(f64, f64)], floor: f64) -> Option<Trend> {
    let points = batches(points);
    let slope = slope(&points, Confidence::P99)?;
    let work = points.last()?.0 - points.first()?.0;
    Some(Trend {
        resource,
        per,
        slope,
        grown: slope.interval.0 * work,
        floor,
        work,
        levels_off: levels_off(&points),
    })
}

/// A bend explains the points so much better than a line, by the errors' variance, that it is none of
/// chance: the 99.9 % quantile of F with one degree of freedom and as many others as there are batches.
const BEND: f64 = 13.0;

/// What stays level for less than this part of the work may be a pause.
const LEVEL_PART: f64 = 0.1;

/// How far the part behind the bend may still rise, against the part before it.
const LEVEL_RISE: f64 = 0.2;

/// Whether the points rise to a bend and stay level behind it: a line up to there and a level from
/// there on, which explain them much better than one line does.
fn levels_off(points: &[(f64, f64)]) -> bool {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return false;
    };
    let line_error = error_of_line(points);
    let latest_bend = last.0 - (last.0 - first.0) * LEVEL_PART;
    let bends = points.iter().map(|point| point.0).skip(2);
    let bends = bends.take_while(|bend| *bend <= latest_bend);
    let bent = |bend: f64| {
        let folded: Vec<_> = points.iter().map(|(x, y)| (x.min(bend), *y)).collect();
        (bend, error_of_line(&folded))
    };
    let best = bends.map(bent).min_by(|a, b| a.1.total_cmp(&b.1));
    let Some((bend, bent_error)) = best else {
        return false;
    };
    let degrees = points.len().saturating_sub(3) as f64;
    let is_bent = line_error - bent_error > BEND * bent_error / degrees.max(1.0);
    let (rising, level): (Vec<_>, Vec<_>) = points.iter().partition(|(x, _)| *x < bend);
    let rise = |part: &[(f64, f64)]| slope(part, Confidence::P99).map(|line| line.slope);
    // With too few points behind it for a slope of their own, the whole is all there is to go by.
    let goes_on = match (rise(&rising), rise(&level)) {
        (Some(before), Some(behind)) => behind > before * LEVEL_RISE,
        _ => false,
    };
    is_bent && !goes_on
}

/// The sum of the squares by which points miss their line.
fn error_of_line(points: &[(f64, f64)]) -> f64 {
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
    let all: f64 = points.iter().map(|(_, y)| (y - mean_y).powi(2)).sum();
    slope(points, Confidence::P99).map_or(all, |line| all * (1.0 - line.r_squared))
}

/// Means of neighbours, so many at most.
fn batches(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(BATCHES).max(1);
    let mean = |batch: &[(f64, f64)]| {
        let n = batch.len() as f64;
        let sum = |of: fn(&(f64, f64)) -> f64| batch.iter().map(of).sum::<f64>() / n;
        (sum(|point| point.0), sum(|point| point.1))
    };
    points.chunks(size).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::random::Random;

    /// A sample for each request; `memory` and `files` by its number.
    fn samples(n: u64, memory: fn(u64) -> u64, files: fn(u64) -> u64) -> Vec<UsageSample> {
        let sample = |i| UsageSample {
            requests: i,
            tokens: 20 * i,
            memory_bytes: memory(i),
            open_files: Some(files(i)),
            threads: None,
        };
        (0..n).map(sample).collect()
    }

    fn leaks(samples: &[UsageSample]) -> Vec<(Resource, WorkUnit)> {
        let trends = trends(samples, 2);
        let leaks = trends.iter().filter(|trend| trend.is_leak());
        leaks.map(|trend| (trend.resource, trend.per)).collect()
    }

    #[test]
    fn what_grows_with_each_request_is_a_leak_of_requests_and_tokens() {
        let grown = samples(300, |i| (50 << 20) + i * (100 << 10), |_| 20);
        let both = [
            (Resource::Memory, WorkUnit::Request),
            (Resource::Memory, WorkUnit::Token),
        ];
        assert_eq!(leaks(&grown), both);
        let per_request = &trends(&grown, 2)[0].slope;
        assert!((per_request.slope - f64::from(100 << 10)).abs() < 1.0);
        let files = samples(300, |_| 50 << 20, |i| 20 + i / 3);
        assert_eq!(leaks(&files)[0].0, Resource::OpenFiles);
    }

    #[test]
    fn warming_up_and_coming_and_going_are_no_leaks() {
        let warm = samples(300, |i| (50 << 20) + i.min(90) * (1 << 20), |_| 20);
        assert_eq!(leaks(&warm), []);
        let waves = samples(300, |i| (50 << 20) + i % 7 * (4 << 20), |i| 20 + i % 5);
        assert_eq!(leaks(&waves), []);
        let cache = 60 << 20;
        let bounded = |reached: f64| {
            let mut all = samples(400, |_| 0, |_| 20);
            for (i, sample) in all.iter_mut().enumerate() {
                let part = (i as f64 / 400.0 / reached).min(1.0);
                sample.memory_bytes = (50 << 20) + (part * f64::from(cache)) as u64;
            }
            all
        };
        for reached in [0.4, 0.6, 0.7, 0.8, 0.9] {
            assert_eq!(leaks(&bounded(reached)), [], "a plateau at {reached}");
        }
        assert!(!leaks(&bounded(1.0)).is_empty(), "and none at all");
        // Below the floor, however straight the line is.
        let little = samples(300, |i| (50 << 20) + i * 1024, |i| 20 + i / 60);
        assert_eq!(leaks(&little), []);
    }

    #[test]
    fn noise_neither_hides_a_leak_nor_makes_one_of_a_plateau() {
        let mut random = Random::new(11);
        for turn in 0..300 {
            // From 40 to 440 samples, a leak of 20 to 120 MB, steps of up to 2 MB, noise of up to 3.
            let n = 40 + random.index(400);
            let whole = 20e6 + random.fraction() * 100e6;
            let step = 1.0 + random.fraction() * 2e6;
            let noise = random.fraction() * 3e6;
            let reached = 0.3 + random.fraction() * 0.5;
            let mut grown = |part: f64| {
                let stepped = (part * whole / step).floor() * step;
                (50e6 + stepped + random.fraction() * noise) as u64
            };
            let mut leak = samples(n as u64, |_| 0, |_| 20);
            let mut plateau = leak.clone();
            for i in 0..n {
                let part = i as f64 / n as f64;
                leak[i].memory_bytes = grown(part);
                plateau[i].memory_bytes = grown((part / reached).min(1.0));
            }
            assert!(!leaks(&leak).is_empty() || whole < 30e6, "turn {turn}");
            assert_eq!(leaks(&plateau), [], "turn {turn}");
        }
    }

    #[test]
    fn few_samples_and_no_work_say_nothing() {
        assert_eq!(trends(&samples(11, |_| 1, |_| 1), 2), []);
        let mut idle = samples(100, |_| 1, |_| 1);
        for sample in &mut idle {
            (sample.requests, sample.tokens) = (0, 0);
        }
        assert_eq!(trends(&idle, 2), []);
        assert_eq!(trends(&[], 2), []);
    }
}
