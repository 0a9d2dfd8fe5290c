//! What happened when, folded from events, within bounds: a worker that floods must not blow a
//! report up. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{CheckRecord, Event, EventKind, ResponseReceived};
use super::facts::{Phases, RequestSent, Vitals, cut};

/// More checks than these no run has.
pub const CHECKS_KEPT: usize = 2000;

/// More requests than these are counted and not kept.
const REQUESTS_KEPT: usize = 2000;

/// Twice as many samples are thinned to these, again and again.
const SAMPLES_KEPT: usize = 600;

/// How much of a streamed text is kept, and of how many checks.
const TEXT_BYTES: usize = 16 << 10;
const TEXTS_KEPT: usize = 32;

/// How much of a request's body is kept: of the first ones, and of the many after them.
const BODY_BYTES: usize = 4 << 10;
const WHOLE_BODIES: usize = 300;
const LATER_BODY_BYTES: usize = 256;

/// A run on its time axis: milliseconds since its begin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// The last moment of which anything is known.
    pub end_ms: u64,
    /// The build of the worker: begin and end.
    pub build: Option<(u64, u64)>,
    /// When the hive listened.
    pub hive_started_ms: Option<u64>,
    /// When the worker's process existed.
    pub worker_started_ms: Option<u64>,
    /// When it said that it is ready.
    pub worker_ready_ms: Option<u64>,
    /// When its end was seen.
    pub worker_exited_ms: Option<u64>,
    /// Each check's begin and end.
    pub checks: Vec<CheckSpan>,
    /// Each request, in the order in which they were sent.
    pub requests: Vec<RequestSpan>,
    /// Requests beyond those.
    pub requests_left_out: u64,
    /// What the worker's process used.
    pub samples: Vec<Sample>,
    /// Every how many samples one is kept, as a power of two.
    pub samples_thinned: u32,
    /// Samples that were taken in all.
    pub samples_taken: u64,
    /// Streamed text, by the check that asked for it.
    pub texts: BTreeMap<String, String>,
}

/// A check on the time axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckSpan {
    /// Its stable name.
    pub id: String,
    /// Its begin.
    pub began_ms: u64,
    /// Its end.
    pub ended_ms: Option<u64>,
}

/// A request on the time axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestSpan {
    /// Its number in the run.
    pub number: u64,
    /// The check that asked.
    pub id: String,
    /// The name of the worker that was asked, where it isn't the one under test.
    #[serde(alias = "companion", default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<String>,
    /// "GET /v1/health".
    pub request: String,
    /// The whole address.
    pub url: String,
    /// The content type of its body.
    pub content_type: Option<String>,
    /// Its body, cut where it is long.
    pub body: Option<String>,
    /// When it was sent.
    pub sent_ms: f64,
    /// From there to the end of the answer.
    pub duration_ms: Option<f64>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub cause: Option<String>,
    /// Whether our own client didn't wait for more, as its check wants.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
    /// The parts of the time that it took, as the worker tells them.
    pub phases: Option<Phases>,
    /// How many tokens were streamed.
    pub tokens: u64,
    /// From its sending to the first streamed token.
    pub first_token_ms: Option<f64>,
    /// Median time between streamed tokens.
    pub token_gap_ms: Option<f64>,
}

/// What the worker used at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The moment.
    pub at_ms: u64,
    /// What it used.
    #[serde(flatten)]
    pub vitals: Vitals,
}

impl Timeline {
    /// Learns one more fact.
    pub fn apply(&mut self, event: &Event) {
        let now_ms = event.elapsed_ms;
        self.end_ms = self.end_ms.max(now_ms);
        match &event.kind {
            EventKind::BuildStarted { .. } => self.build = Some((now_ms, now_ms)),
            EventKind::BuildFinished { .. } => {
                self.build = self.build.map(|(began_ms, _)| (began_ms, now_ms));
            }
            EventKind::HiveStarted { .. } => self.hive_started_ms = Some(now_ms),
            EventKind::WorkerStarted { .. } => self.worker_started_ms = Some(now_ms),
            EventKind::WorkerReady { .. } => self.worker_ready_ms = Some(now_ms),
            EventKind::WorkerExited { .. } => self.worker_exited_ms = Some(now_ms),
            EventKind::CheckStarted { id } if self.checks.len() < CHECKS_KEPT => {
                self.checks.push(CheckSpan {
                    id: id.clone(),
                    began_ms: now_ms,
                    ended_ms: None,
                });
            }
            EventKind::CheckFinished(record) => self.check_finished(record, now_ms),
            EventKind::Asked(question) => self.asked(question, now_ms),
            EventKind::Answered(answer) => self.answered(answer, now_ms),
            EventKind::Unanswered {
                number,
                cause,
                left,
            } => {
                if let Some(span) = self.request(*number) {
                    span.left = *left;
                    span.duration_ms = Some(now_ms as f64 - span.sent_ms);
                    span.cause = Some(cut(cause, BODY_BYTES));
                }
            }
            EventKind::TokenReceived { id, text } => self.token(id, text),
            EventKind::Sampled(vitals) => self.sampled(*vitals, now_ms),
            // Not drawn. The report around this names every event.
            _ => {}
        }
    }

    fn check_finished(&mut self, record: &CheckRecord, now_ms: u64) {
        let span = self.checks.iter_mut().rev();
        if let Some(span) = span.into_iter().find(|span| span.id == record.id) {
            span.ended_ms = Some(now_ms);
        }
    }

    fn asked(&mut self, question: &RequestSent, now_ms: u64) {
        if self.requests.len() >= REQUESTS_KEPT {
            self.requests_left_out += 1;
            return;
        }
        let headers = question.headers.iter();
        let body_bytes = match self.requests.len() {
            0..WHOLE_BODIES => BODY_BYTES,
            _ => LATER_BODY_BYTES,
        };
        self.requests.push(RequestSpan {
            number: question.number,
            id: question.id.clone(),
            auxiliary: question.auxiliary.clone(),
            request: question.request.clone(),
            url: question.url.clone(),
            content_type: headers
                .clone()
                .find(|(name, _)| name == "content-type")
                .map(|(_, value)| value.clone()),
            body: question.body.as_deref().map(|body| cut(body, body_bytes)),
            sent_ms: now_ms as f64,
            duration_ms: None,
            status: None,
            cause: None,
            left: false,
            phases: None,
            tokens: 0,
            first_token_ms: None,
            token_gap_ms: None,
        });
    }

    fn answered(&mut self, answer: &ResponseReceived, now_ms: u64) {
        let meta = answer.meta.clone().unwrap_or_default();
        if meta.number == 0 {
            // A recording of an older version: the request is known by its answer alone.
            let number = u64::MAX - self.requests.len() as u64;
            self.asked(&unseen_question(answer, number), now_ms);
            if let Some(span) = self.request(number) {
                span.sent_ms = (now_ms as f64 - answer.duration_ms).max(0.0);
                span.duration_ms = Some(answer.duration_ms);
                span.status = Some(answer.status);
            }
            return;
        }
        let Some(span) = self.request(meta.number) else {
            return;
        };
        span.sent_ms = meta.sent_ms;
        span.duration_ms = Some(answer.duration_ms);
        span.status = Some(answer.status);
        span.phases = meta.phases;
        span.tokens = meta.tokens_ms.len() as u64;
        span.first_token_ms = meta.tokens_ms.first().copied();
        let mut gaps: Vec<f64> = meta.tokens_ms.windows(2).map(|w| w[1] - w[0]).collect();
        gaps.sort_by(f64::total_cmp);
        span.token_gap_ms = gaps.get(gaps.len().saturating_sub(1) / 2).copied();
    }

    fn request(&mut self, number: u64) -> Option<&mut RequestSpan> {
        let mut spans = self.requests.iter_mut().rev();
        spans.find(|span| span.number == number)
    }

    fn token(&mut self, id: &str, text: &str) {
        if !self.texts.contains_key(id) && self.texts.len() >= TEXTS_KEPT {
            return;
        }
        let kept = self.texts.entry(id.to_owned()).or_default();
        if kept.len() >= TEXT_BYTES {
            return;
        }
        kept.push_str(text);
        if kept.len() >= TEXT_BYTES {
            *kept = cut(kept, TEXT_BYTES);
            kept.push_str(" and more came");
        }
    }

    fn sampled(&mut self, vitals: Vitals, at_ms: u64) {
        let is_kept = self.samples_taken.is_multiple_of(1 << self.samples_thinned);
        self.samples_taken += 1;
        if is_kept {
            self.samples.push(Sample { at_ms, vitals });
        }
        if self.samples.len() >= 2 * SAMPLES_KEPT {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.samples_thinned += 1;
        }
    }
}

fn unseen_question(answer: &ResponseReceived, number: u64) -> RequestSent {
    RequestSent {
        number,
        id: answer.id.clone(),
        auxiliary: None,
        request: answer.request.clone(),
        url: String::new(),
        headers: Vec::new(),
        body: None,
        body_bytes: 0,
        limit_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(timeline: &mut Timeline, elapsed_ms: u64, kind: EventKind) {
        timeline.apply(&Event { elapsed_ms, kind });
    }

    #[test]
    fn a_flood_of_samples_is_thinned_evenly() {
        let mut timeline = Timeline::default();
        for at_ms in 0..100_000 {
            let vitals = Vitals {
                cpu_percent: 1.0,
                rss_bytes: at_ms,
                threads: 1,
                open_files: None,
            };
            learn(&mut timeline, at_ms, EventKind::Sampled(vitals));
        }
        let samples = &timeline.samples;
        assert!(samples.len() >= SAMPLES_KEPT && samples.len() < 2 * SAMPLES_KEPT);
        let step_ms = samples[1].at_ms - samples[0].at_ms;
        assert!(
            samples
                .windows(2)
                .all(|w| w[1].at_ms - w[0].at_ms == step_ms)
        );
        assert_eq!(timeline.samples_taken, 100_000);
    }

    #[test]
    fn floods_of_text_and_requests_are_bounded_and_say_so() {
        let mut timeline = Timeline::default();
        for number in 0..3000 {
            let question = RequestSent {
                number: number + 1,
                id: String::from("a.b"),
                auxiliary: None,
                request: String::from("GET /"),
                url: String::new(),
                headers: Vec::new(),
                body: Some("x".repeat(1 << 20)),
                body_bytes: 1 << 20,
                limit_ms: 1,
            };
            learn(&mut timeline, number, EventKind::Asked(question));
            let (id, text) = (String::from("a.b"), "y".repeat(1000));
            learn(&mut timeline, number, EventKind::TokenReceived { id, text });
        }
        assert_eq!(timeline.requests.len(), REQUESTS_KEPT);
        assert_eq!(timeline.requests_left_out, 3000 - REQUESTS_KEPT as u64);
        assert!(
            timeline.requests[0]
                .body
                .as_ref()
                .unwrap()
                .contains("bytes cut")
        );
        assert!(timeline.texts["a.b"].len() < TEXT_BYTES + 100);
        assert!(timeline.texts["a.b"].ends_with("and more came"));
    }
}
