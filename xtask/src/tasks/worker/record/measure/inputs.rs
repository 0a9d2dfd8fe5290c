//! What measures are computed from: the requests of a load, and the facts of a whole run. Pure.

use crate::tasks::worker::record::bench::{RequestRecord, ScenarioPlan, Window};
use crate::tasks::worker::record::facts::Vitals;
use crate::tasks::worker::record::timeline::{RequestSpan, Timeline};

/// One load and its requests, before they are folded.
#[derive(Debug)]
pub struct LoadResults<'a> {
    /// The load.
    pub plan: &'a ScenarioPlan,
    window: Window,
    all: &'a [RequestRecord],
    /// Valid requests that were sent inside the window.
    ///
    /// They count wherever they ended: leaving out those that ended after it would leave out the long
    /// ones. Tokens count where they came inside the window, whenever their request was sent.
    pub valid: Vec<&'a RequestRecord>,
}

/// What the measures of a whole run are computed from.
#[derive(Debug)]
pub struct RunFacts<'a> {
    /// Requests and samples of the worker's process.
    pub timeline: &'a Timeline,
    /// From the worker's start until it said that it is ready.
    pub ready_ms: Option<u64>,
    /// The same of others like it.
    pub starts_ms: &'a [f64],
    /// From when the last client of a crowd left until the worker said that it generates nothing.
    pub stops_ms: &'a [f64],
    /// By how much each heartbeat was late.
    pub lateness_ms: &'a [f64],
}

impl<'a> LoadResults<'a> {
    /// These requests under this load.
    pub fn new(plan: &'a ScenarioPlan, window: Window, all: &'a [RequestRecord]) -> Self {
        let counts =
            |request: &&RequestRecord| window.contains(request.sent_ms) && request.is_valid();
        Self {
            plan,
            window,
            all,
            valid: all.iter().filter(counts).collect(),
        }
    }

    /// Output tokens of valid requests inside the window, per second.
    pub fn output_tokens_per_s(&self) -> f64 {
        let valid = self.all.iter().filter(|request| request.is_valid());
        let chunks = valid.flat_map(|request| {
            let chunks = request.chunks.iter();
            chunks.map(|(at, tokens)| (request.sent_ms + at, u64::from(*tokens)))
        });
        let inside = chunks.filter(|(at_ms, _)| self.window.contains(*at_ms));
        let tokens: u64 = inside.map(|(_, tokens)| tokens).sum();
        tokens as f64 / self.window.seconds().max(f64::MIN_POSITIVE)
    }
}

impl RunFacts<'_> {
    /// What there is to say of each sample of the worker's process.
    pub fn vitals(&self, value: impl Fn(&Vitals) -> Option<f64>) -> Vec<f64> {
        let samples = self.timeline.samples.iter();
        samples.filter_map(|sample| value(&sample.vitals)).collect()
    }

    fn answered(&self) -> impl Iterator<Item = &RequestSpan> {
        let requests = self.timeline.requests.iter();
        requests.filter(|span| span.status == Some(200))
    }

    /// Streams that were answered with tokens.
    pub fn streams(&self) -> impl Iterator<Item = &RequestSpan> {
        self.answered().filter(|span| span.tokens > 0)
    }

    /// How long each answer to requests of this method took.
    pub fn durations(&self, method: &str) -> Vec<f64> {
        self.durations_within("", method)
    }

    /// The same, of requests of this area's checks.
    pub fn durations_within(&self, area: &str, method: &str) -> Vec<f64> {
        let asked = self
            .answered()
            .filter(|span| span.id.starts_with(area) && span.request.starts_with(method));
        asked.filter_map(|span| span.duration_ms).collect()
    }
}
