//! Several workers under load as data: what became of each, and how its needs grew. Pure.

use serde::{Deserialize, Serialize};

use super::stats::{Confidence, Slope, slope};

/// The first part of a run fills caches and pools, which is no leak: this part of it is left out.
const WARM_UP: f64 = 1.0 / 3.0;

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
    /// Whether the slope's interval stays above zero by more than the floor.
    pub fn is_leak(&self) -> bool {
        self.slope.interval.0 > 0.0 && self.grown > self.floor
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
    })
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
        // Below the floor, however straight the line is.
        let little = samples(300, |i| (50 << 20) + i * 1024, |i| 20 + i / 60);
        assert_eq!(leaks(&little), []);
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
