//! A benchmark as data: what was measured of each request, and the figures that follow. Pure.
//!
//! The names and definitions are those of ARCHITECTURE.md, "Measures".

mod request;

use serde::{Deserialize, Serialize};

pub use self::request::{RequestOutcome, RequestRecord, RequestSpan};
use super::measure::Measure;
use super::stats::Summary;

/// How many requests of a scenario are kept one by one, for the waterfall.
const SPANS_KEPT: usize = 400;

/// How many different reasons of failed requests are told.
const REASONS_KEPT: usize = 5;

/// A load generator that is later than this in the median has not made the load that it was asked for.
const LATE_MS: f64 = 10.0;

/// One load that a worker is put under, in all its details.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioPlan {
    /// Stable name: "prefill_128", "sweep_4".
    pub name: String,
    /// How requests follow each other.
    pub load: Load,
    /// The exact length of each prompt; `None` where prompts come from a file.
    pub prompt_tokens: Option<u64>,
    /// The largest number of tokens that each request asks for.
    pub max_tokens: u32,
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
pub enum Load {
    /// Each of so many streams asks again as soon as it has its answer.
    Closed {
        /// How many ask at once.
        streams: u32,
    },
    /// Requests come by chance, whatever the worker does: a Poisson process.
    Open {
        /// So many a second, on average.
        rate_per_s: f64,
        /// Fixes what chance brings.
        seed: u64,
    },
}

/// The part of a scenario that counts, on the run's axis. Ramp and drain lie outside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// From here on every stream is busy and warm.
    pub from_ms: f64,
    /// Here the first stream had nothing more to ask.
    pub to_ms: f64,
}

/// What a request must keep to count as good, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Objectives {
    /// Time to the first token.
    pub ttft_ms: Option<f64>,
    /// Time for each further token.
    pub tpot_ms: Option<f64>,
    /// Time to the terminal event.
    pub e2e_ms: Option<f64>,
}

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioRecord {
    /// What it was.
    pub plan: ScenarioPlan,
    /// The part that counts.
    pub window: Window,
    /// Requests inside the window that kept every rule.
    pub valid: usize,
    /// Requests that broke a rule of streams, inside the window or not.
    pub invalid: usize,
    /// Requests without an answer, inside the window or not.
    pub failed: usize,
    /// Why requests failed or were invalid, each reason once.
    pub reasons: Vec<String>,
    /// Tokens of valid requests that came inside the window, a second.
    pub output_tokens_per_s: f64,
    /// Valid requests that were sent inside the window, a second.
    pub requests_per_s: f64,
    /// Valid requests that kept every objective, a second; `None` without objectives.
    pub goodput_per_s: Option<f64>,
    /// TTFT, ITL, TPOT, E2E and the rate of prefill.
    pub measures: Vec<Measure>,
    /// By how much requests were sent later than they were due; only in an open loop.
    pub late_ms: Option<Summary>,
    /// The first requests one by one.
    pub spans: Vec<RequestSpan>,
}

/// How exact the load generator is, measured against a worker whose timing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// By how much a token's time stamp is later than the token was sent, in milliseconds.
    pub error_ms: Summary,
    /// The same with as many streams at once as `streams` says.
    pub crowded_error_ms: Option<Summary>,
    /// How many streams were read at once, each of them whole.
    pub streams: u32,
    /// Events that one stream's reader takes in a second, by one core.
    pub events_per_s: f64,
}

impl Window {
    /// Its length.
    pub fn seconds(self) -> f64 {
        ((self.to_ms - self.from_ms) / 1e3).max(0.0)
    }

    fn contains(self, at_ms: f64) -> bool {
        (self.from_ms..self.to_ms).contains(&at_ms)
    }
}

impl Objectives {
    /// Whether anything is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Objectives::default()
    }

    fn are_kept(&self, request: &RequestRecord) -> bool {
        let keeps = |limit: Option<f64>, value: Option<f64>| match (limit, value) {
            (Some(limit), Some(value)) => value <= limit,
            // A single token has no time for further ones: nothing is broken.
            _ => true,
        };
        let waited = request.waited_ms();
        keeps(self.ttft_ms, request.ttft_ms().map(|ttft| ttft + waited))
            && keeps(self.tpot_ms, request.tpot_ms())
            && keeps(self.e2e_ms, Some(request.took_ms + waited))
    }
}

impl ScenarioRecord {
    /// The figures that follow from these requests.
    ///
    /// Latencies are those of requests that were sent inside the window, also where they ended
    /// after it: else long ones would be left out. Tokens count where they came inside the window,
    /// whenever their request was sent.
    pub fn of(
        plan: ScenarioPlan,
        window: Window,
        objectives: &Objectives,
        requests: &[RequestRecord],
    ) -> ScenarioRecord {
        let measured: Vec<&RequestRecord> = requests
            .iter()
            .filter(|request| window.contains(request.sent_ms) && request.is_valid())
            .collect();
        let is_open = matches!(plan.load, Load::Open { .. });
        let seconds = window.seconds().max(f64::MIN_POSITIVE);
        let good = measured
            .iter()
            .filter(|request| objectives.are_kept(request));
        let late = measured.iter().map(|request| request.waited_ms());
        ScenarioRecord {
            valid: measured.len(),
            invalid: count(requests, |outcome| {
                matches!(outcome, RequestOutcome::Invalid { .. })
            }),
            failed: count(requests, |outcome| {
                matches!(outcome, RequestOutcome::Failed { .. })
            }),
            reasons: reasons(requests),
            output_tokens_per_s: tokens_inside(window, requests) as f64 / seconds,
            requests_per_s: measured.len() as f64 / seconds,
            goodput_per_s: (!objectives.is_empty()).then(|| good.count() as f64 / seconds),
            measures: measures(&measured),
            late_ms: is_open
                .then(|| Summary::of(&late.collect::<Vec<_>>()))
                .flatten(),
            spans: requests
                .iter()
                .take(SPANS_KEPT)
                .map(RequestRecord::span)
                .collect(),
            plan,
            window,
        }
    }

    /// A measure by its name.
    pub fn measure(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.name == name)
    }

    /// Why the load wasn't the one that was asked for, if it wasn't.
    pub fn lag(&self) -> Option<String> {
        let late = self.late_ms.as_ref().filter(|late| late.p50 > LATE_MS)?;
        Some(format!(
            "the load generator lagged: requests were sent {:.1} ms late in the median, {:.1} ms at \
             most",
            late.p50, late.max
        ))
    }
}

fn count(requests: &[RequestRecord], is_meant: fn(&RequestOutcome) -> bool) -> usize {
    let meant = requests.iter().filter(|request| is_meant(&request.outcome));
    meant.count()
}

fn reasons(requests: &[RequestRecord]) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for request in requests {
        if let RequestOutcome::Invalid { reason } | RequestOutcome::Failed { reason } =
            &request.outcome
            && !reasons.contains(reason)
            && reasons.len() < REASONS_KEPT
        {
            reasons.push(reason.clone());
        }
    }
    reasons
}

fn tokens_inside(window: Window, requests: &[RequestRecord]) -> u64 {
    let valid = requests.iter().filter(|request| request.is_valid());
    let chunks = valid.flat_map(|request| {
        let chunks = request.chunks.iter();
        chunks.map(|(at, tokens)| (request.sent_ms + at, u64::from(*tokens)))
    });
    let inside = chunks.filter(|(at_ms, _)| window.contains(*at_ms));
    inside.map(|(_, tokens)| tokens).sum()
}

fn measures(requests: &[&RequestRecord]) -> Vec<Measure> {
    let each = |of: fn(&RequestRecord) -> Option<f64>| -> Vec<f64> {
        requests.iter().filter_map(|request| of(request)).collect()
    };
    let prefill_rate = |request: &RequestRecord| {
        let ttft_ms = request.ttft_ms().filter(|ttft| *ttft > 0.0)?;
        (request.prompt_tokens > 0).then(|| request.prompt_tokens as f64 * 1e3 / ttft_ms)
    };
    let from_due = |of: f64, request: &RequestRecord| of + request.waited_ms();
    let is_open = requests
        .iter()
        .any(|request| request.scheduled_ms.is_some());
    let mut table = vec![
        ("ttft", "ms", each(RequestRecord::ttft_ms)),
        (
            "itl",
            "ms",
            requests
                .iter()
                .flat_map(|request| request.itl_ms())
                .collect(),
        ),
        ("tpot", "ms", each(RequestRecord::tpot_ms)),
        ("e2e", "ms", each(|request| Some(request.took_ms))),
        (
            "tokens",
            "tokens",
            each(|request| Some(request.tokens() as f64)),
        ),
        ("prefill_rate", "tokens/s", each(prefill_rate)),
    ];
    if is_open {
        let ttft = |request: &&RequestRecord| Some(from_due(request.ttft_ms()?, request));
        let e2e = |request: &&RequestRecord| from_due(request.took_ms, request);
        table.push((
            "ttft_from_due",
            "ms",
            requests.iter().filter_map(ttft).collect(),
        ));
        table.push(("e2e_from_due", "ms", requests.iter().map(e2e).collect()));
    }
    let measure = |(name, unit, samples): (&str, &str, Vec<f64>)| {
        Some(Measure {
            name: name.to_owned(),
            unit: unit.to_owned(),
            summary: Summary::of(&samples)?,
        })
    };
    table.into_iter().filter_map(measure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        from_ms: 1000.0,
        to_ms: 2000.0,
    };

    fn request(sent_ms: f64, chunks: &[(f64, u32)]) -> RequestRecord {
        RequestRecord {
            scenario: String::from("s"),
            stream: 0,
            scheduled_ms: None,
            sent_ms,
            took_ms: chunks.last().map_or(1.0, |(at, _)| at + 1.0),
            chunks: chunks.to_vec(),
            prompt_tokens: 10,
            outcome: RequestOutcome::Valid,
        }
    }

    fn record(objectives: &Objectives, requests: &[RequestRecord]) -> ScenarioRecord {
        let plan = ScenarioPlan {
            name: String::from("s"),
            load: Load::Closed { streams: 1 },
            prompt_tokens: Some(10),
            max_tokens: 4,
        };
        ScenarioRecord::of(plan, WINDOW, objectives, requests)
    }

    #[test]
    fn the_measures_are_those_of_the_definitions() {
        let request = request(1000.0, &[(50.0, 2), (60.0, 1), (90.0, 3)]);
        assert_eq!(request.tokens(), 6);
        assert_eq!(request.ttft_ms(), Some(50.0));
        assert_eq!(request.tpot_ms(), Some(10.0));
        let gaps: Vec<f64> = request.itl_ms().collect();
        assert_eq!(gaps, [10.0, 10.0, 10.0, 10.0]);
        let record = record(&Objectives::default(), &[request]);
        assert_eq!(record.measure("prefill_rate").unwrap().summary.p50, 200.0);
        assert_eq!(record.measure("e2e").unwrap().summary.p50, 91.0);
    }

    #[test]
    fn what_comes_in_one_chunk_has_no_time_between_tokens() {
        let request = request(1000.0, &[(50.0, 20)]);
        assert_eq!(request.tpot_ms(), None);
        let record = record(&Objectives::default(), &[request]);
        assert_eq!(record.measure("itl"), None);
        assert_eq!(record.measure("tpot"), None);
    }

    #[test]
    fn tokens_count_where_they_came_and_requests_where_they_were_sent() {
        let requests = [
            // Sent while warming up: its second token counts, its latency doesn't.
            request(900.0, &[(50.0, 1), (150.0, 1)]),
            // Sent inside, ended after it: its latency counts, its second token doesn't.
            request(1900.0, &[(50.0, 1), (150.0, 1)]),
        ];
        let record = record(&Objectives::default(), &requests);
        assert_eq!(record.output_tokens_per_s, 2.0);
        assert_eq!((record.valid, record.requests_per_s), (1, 1.0));
        assert_eq!(record.measure("ttft").unwrap().summary.n, 1);
    }

    #[test]
    fn what_failed_is_counted_and_measured_nowhere() {
        let mut failed = request(1500.0, &[(1.0, 5)]);
        let reason = String::from("429 queue_full");
        failed.outcome = RequestOutcome::Failed {
            reason: reason.clone(),
        };
        let mut invalid = request(1500.0, &[(1.0, 5)]);
        invalid.outcome = RequestOutcome::Invalid {
            reason: reason.clone(),
        };
        let record = record(&Objectives::default(), &[failed, invalid]);
        assert_eq!((record.valid, record.invalid, record.failed), (0, 1, 1));
        assert_eq!(record.reasons, [reason]);
        assert_eq!(record.output_tokens_per_s, 0.0);
        assert!(record.measures.is_empty());
    }

    #[test]
    fn a_request_is_good_when_it_keeps_every_objective() {
        let objectives = Objectives {
            ttft_ms: Some(50.0),
            tpot_ms: Some(10.0),
            e2e_ms: None,
        };
        let mut late = request(1300.0, &[(50.0, 1)]);
        late.scheduled_ms = Some(1299.0);
        let requests = [
            request(1000.0, &[(50.0, 1), (60.0, 1)]),
            request(1100.0, &[(51.0, 1), (60.0, 1)]),
            request(1200.0, &[(50.0, 1), (61.0, 1)]),
            late,
        ];
        let record = record(&objectives, &requests);
        assert_eq!((record.valid, record.goodput_per_s), (4, Some(1.0)));
    }

    #[test]
    fn an_open_loop_is_judged_from_the_time_that_was_due() {
        let mut request = request(1100.0, &[(50.0, 1)]);
        request.scheduled_ms = Some(1080.0);
        let mut plan = record(&Objectives::default(), &[]).plan;
        plan.load = Load::Open {
            rate_per_s: 1.0,
            seed: 1,
        };
        let record = ScenarioRecord::of(plan, WINDOW, &Objectives::default(), &[request]);
        assert_eq!(record.measure("ttft").unwrap().summary.p50, 50.0);
        assert_eq!(record.measure("ttft_from_due").unwrap().summary.p50, 70.0);
        assert!(record.lag().unwrap().contains("20.0 ms late"));
    }
}
