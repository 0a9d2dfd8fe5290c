//! What came of one load: counts, measures, and the first requests one by one. Pure.

use serde::{Deserialize, Serialize};

use super::bench::{
    ClientRecord, Load, LoadSpan, Objectives, RequestOutcome, RequestRecord, ScenarioPlan, Window,
};
use super::measure::{LoadResults, Measure};
use super::stats::Distribution;
use super::steady;

/// How many requests of a scenario are kept one by one, for the waterfall.
const SPANS_KEPT: usize = 400;

/// How many different reasons of failed requests are kept.
const REASONS_KEPT: usize = 5;

/// A load generator with a larger median lateness has not made the load that it was asked for.
const LATE_MS: f64 = 10.0;

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScenarioRecord {
    /// What it was.
    pub plan: ScenarioPlan,
    /// The part that counts.
    pub window: Window,
    /// Requests inside the window that kept every rule.
    pub valid: usize,
    /// Requests inside the window that broke a rule of streams.
    pub invalid: usize,
    /// Requests inside the window without an answer.
    pub failed: usize,
    /// Requests of either kind that were sent before the window or after it.
    #[serde(default)]
    pub broken_outside: usize,
    /// Why requests failed or were invalid, wherever they were sent, each reason once.
    pub reasons: Vec<String>,
    /// Output tokens per second inside the window, of valid requests.
    pub output_tokens_per_s: f64,
    /// A 95 % interval of that; `None` where too few tokens came to say.
    #[serde(default)]
    pub output_interval: Option<(f64, f64)>,
    /// Valid requests per second, sent inside the window.
    pub requests_per_s: f64,
    /// Valid requests per second that kept every objective; `None` without objectives.
    pub goodput_per_s: Option<f64>,
    /// A measure for each row of the table that has samples here.
    pub measures: Vec<Measure>,
    /// How late requests were sent, counted from their intended start; only in an open loop.
    pub late_ms: Option<Distribution>,
    /// The share of the load that was asked for, 0 to 1: of the streams that had a request under way,
    /// on average, or of the arrivals that were sent while they were due.
    #[serde(default)]
    pub reached: Option<f64>,
    /// The share of tokens that shared a read with another, 0 to 1.
    #[serde(default)]
    pub coalesced: Option<f64>,
    /// By which part the rate of tokens changed over the window; `None` where too few came to say.
    #[serde(default)]
    pub drift: Option<f64>,
    /// What is known of the client meanwhile.
    #[serde(default)]
    pub client: ClientRecord,
    /// The first requests one by one.
    pub spans: Vec<LoadSpan>,
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
        let load = LoadResults::new(&plan, window, requests);
        let seconds = window.seconds().max(f64::MIN_POSITIVE);
        let good = load
            .valid
            .iter()
            .filter(|request| objectives.are_kept(request));
        let late: Vec<f64> = load
            .valid
            .iter()
            .map(|request| request.waited_ms())
            .collect();
        ScenarioRecord {
            valid: load.valid.len(),
            invalid: count(requests, window, |outcome| {
                matches!(outcome, RequestOutcome::Invalid { .. })
            }),
            failed: count(requests, window, |outcome| {
                matches!(outcome, RequestOutcome::Failed { .. })
            }),
            broken_outside: requests
                .iter()
                .filter(|request| !request.is_valid() && !window.contains(request.sent_ms))
                .count(),
            reasons: reasons(requests),
            output_tokens_per_s: load.output_tokens_per_s(),
            output_interval: steady::rate_interval(window, requests),
            requests_per_s: load.valid.len() as f64 / seconds,
            goodput_per_s: (!objectives.is_empty()).then(|| good.count() as f64 / seconds),
            measures: load.measures(),
            late_ms: match plan.load.is_open() {
                true => Distribution::of(&late),
                false => None,
            },
            reached: reached(plan.load, window, requests),
            coalesced: coalesced(&load.valid),
            drift: steady::drift(window, requests),
            client: ClientRecord::default(),
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

    /// Why the load wasn't the one that was asked for, or its figures are the client's, if they are.
    pub fn doubt(&self) -> Option<String> {
        let late = self.late_ms.as_ref().filter(|late| late.p50 > LATE_MS);
        let lag = late.map(|late| {
            format!(
                "the load generator fell behind: median lateness {:.1} ms, max lateness {:.1} ms",
                late.p50, late.max
            )
        });
        let times = ["ttft", "itl"]
            .into_iter()
            .filter_map(|name| self.measure(name));
        let shortest_ms = times.map(|measure| measure.summary.p50).reduce(f64::min);
        lag.or_else(|| self.client.doubt(shortest_ms))
    }
}

fn count(
    requests: &[RequestRecord],
    window: Window,
    is_meant: fn(&RequestOutcome) -> bool,
) -> usize {
    let inside = requests
        .iter()
        .filter(|request| window.contains(request.sent_ms));
    inside.filter(|request| is_meant(&request.outcome)).count()
}

fn reached(load: Load, window: Window, requests: &[RequestRecord]) -> Option<f64> {
    let (part, whole) = match load {
        Load::Closed { streams } => {
            let busy = requests.iter().map(|request| {
                let ended_ms = request.sent_ms + request.took_ms;
                (ended_ms.min(window.to_ms) - request.sent_ms.max(window.from_ms)).max(0.0)
            });
            let whole_ms = window.seconds() * 1e3 * f64::from(streams);
            (busy.sum(), whole_ms)
        }
        Load::Open { .. } | Load::Trace { .. } => {
            let due = requests.iter().filter(|request| {
                let scheduled_ms = request.scheduled_ms.unwrap_or(request.sent_ms);
                window.contains(scheduled_ms)
            });
            let sent = due
                .clone()
                .filter(|request| window.contains(request.sent_ms));
            (sent.count() as f64, due.count() as f64)
        }
    };
    (whole > 0.0).then(|| (part / whole).min(1.0))
}

fn coalesced(valid: &[&RequestRecord]) -> Option<f64> {
    let known = valid.iter().filter(|request| request.knows_chunks);
    let chunks =
        known.flat_map(|request| request.chunks.iter().map(|(_, tokens)| u64::from(*tokens)));
    let (mut all, mut together) = (0, 0);
    for tokens in chunks {
        all += tokens;
        together += if tokens > 1 { tokens } else { 0 };
    }
    (all > 0).then(|| together as f64 / all as f64)
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
            knows_chunks: true,
            prompt_tokens: 10,
            queue_ms: None,
            outcome: RequestOutcome::Valid,
        }
    }

    fn record(objectives: &Objectives, requests: &[RequestRecord]) -> ScenarioRecord {
        let plan = ScenarioPlan {
            name: String::from("s"),
            load: Load::Closed { streams: 1 },
            prompt_tokens: Some(10),
            max_tokens: 4,
            context_depth: 0,
            turns: 0,
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
    fn what_failed_outside_the_window_is_counted_apart() {
        let failed = |sent_ms| {
            let mut request = request(sent_ms, &[]);
            let reason = String::from("hung up");
            request.outcome = RequestOutcome::Failed { reason };
            request
        };
        let record = record(&Objectives::default(), &[failed(999.0), failed(1000.0)]);
        assert_eq!((record.failed, record.broken_outside), (1, 1));
        assert_eq!(record.reasons, ["hung up"]);
    }

    #[test]
    fn how_much_of_a_load_was_reached_and_what_was_read_together_is_told() {
        // One stream that is busy for 100 ms before the window, and 300 ms of its second.
        let requests = [
            request(900.0, &[(199.0, 1)]),
            request(1200.0, &[(50.0, 2), (199.0, 6)]),
            request(1900.0, &[(50.0, 1), (98.0, 1), (99.0, 2)]),
        ];
        let record = record(&Objectives::default(), &requests);
        assert!((record.reached.unwrap() - 0.4).abs() < 1e-9, "{record:?}");
        assert!((record.coalesced.unwrap() - 10.0 / 12.0).abs() < 1e-9);
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
    fn an_open_loop_is_judged_from_the_intended_start() {
        let mut request = request(1100.0, &[(50.0, 1)]);
        request.scheduled_ms = Some(1080.0);
        let mut plan = record(&Objectives::default(), &[]).plan;
        plan.load = Load::Open {
            rate_per_s: 1.0,
            burstiness: 1.0,
            seed: 1,
        };
        let record = ScenarioRecord::of(plan, WINDOW, &Objectives::default(), &[request]);
        assert_eq!(record.measure("ttft").unwrap().summary.p50, 50.0);
        assert_eq!(
            record
                .measure("ttft_from_intended_start")
                .unwrap()
                .summary
                .p50,
            70.0
        );
        assert!(record.doubt().unwrap().contains("median lateness 20.0 ms"));
    }
}
