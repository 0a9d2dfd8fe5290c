//! What came of one load: counts, measures, and the first requests one by one. Pure.

use serde::{Deserialize, Serialize};

use super::bench::{
    Load, LoadSpan, Objectives, RequestOutcome, RequestRecord, ScenarioPlan, Window,
};
use super::measure::{LoadResults, Measure};
use super::stats::Distribution;

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
    /// Requests that broke a rule of streams, inside the window or not.
    pub invalid: usize,
    /// Requests without an answer, inside the window or not.
    pub failed: usize,
    /// Why requests failed or were invalid, each reason once.
    pub reasons: Vec<String>,
    /// Output tokens per second inside the window, of valid requests.
    pub output_tokens_per_s: f64,
    /// Valid requests per second, sent inside the window.
    pub requests_per_s: f64,
    /// Valid requests per second that kept every objective; `None` without objectives.
    pub goodput_per_s: Option<f64>,
    /// A measure for each row of the table that has samples here.
    pub measures: Vec<Measure>,
    /// How late requests were sent, counted from their intended start; only in an open loop.
    pub late_ms: Option<Distribution>,
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
            invalid: count(requests, |outcome| {
                matches!(outcome, RequestOutcome::Invalid { .. })
            }),
            failed: count(requests, |outcome| {
                matches!(outcome, RequestOutcome::Failed { .. })
            }),
            reasons: reasons(requests),
            output_tokens_per_s: load.output_tokens_per_s(),
            requests_per_s: load.valid.len() as f64 / seconds,
            goodput_per_s: (!objectives.is_empty()).then(|| good.count() as f64 / seconds),
            measures: load.measures(),
            late_ms: match plan.load {
                Load::Open { .. } => Distribution::of(&late),
                Load::Closed { .. } => None,
            },
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
    pub fn why_late(&self) -> Option<String> {
        let late = self.late_ms.as_ref().filter(|late| late.p50 > LATE_MS)?;
        Some(format!(
            "the load generator fell behind: median lateness {:.1} ms, max lateness {:.1} ms",
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
    fn an_open_loop_is_judged_from_the_intended_start() {
        let mut request = request(1100.0, &[(50.0, 1)]);
        request.scheduled_ms = Some(1080.0);
        let mut plan = record(&Objectives::default(), &[]).plan;
        plan.load = Load::Open {
            rate_per_s: 1.0,
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
        assert!(
            record
                .why_late()
                .unwrap()
                .contains("median lateness 20.0 ms")
        );
    }
}
