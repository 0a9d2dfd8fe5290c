//! While the model loads: what health, readiness, inference and heartbeats say.
//!
//! A model that loads too fast to be seen loading breaks no promise.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::rhythm::beats;
use super::row::{Check, Need};
use crate::tasks::worker::load::polling::Question;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect;
use crate::tasks::worker::target::dialect::{BeatState, Readiness};
use crate::tasks::worker::target::loading::LoadingObservation;

/// An inference that is held while readiness was denied so often for so long wasn't merely late.
const HELD_ANSWERS: usize = 3;
const HELD: Duration = Duration::from_millis(25);

/// A beat that was under way for longer than this wasn't on a loopback connection.
const UNDER_WAY_MS: f64 = 10.0;

/// While the model loads.
pub const CHECKS: &[Check] = &[
    Check::contract("loading.health", health)
        .promise("tells in health whether its model is loaded")
        .quote("`status` is `loading`, `healthy` or `draining`.")
        .explanation("A second worker is asked from its first millisecond; loading with a loaded model, healthy without one, or loading after it was ready fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
    Check::contract("loading.ready", ready)
        .promise("says why it isn't ready and when to come back, and is ready when it says so")
        .quote(r#"200 `{"ready":true}` while inference is taken; else 503 `{"ready":false,"reason":"loading"}` (or `draining`) with `Retry-After`."#)
        .explanation("A second worker is asked from its first millisecond; a malformed 503, or an inference that is refused right after ready said yes, fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/ready")
        .needs(&[Need::Ready]),
    Check::contract("loading.inference", inference)
        .promise("refuses an inference while it loads instead of holding it")
        .quote("loading or draining: 503, with `Retry-After` `not_ready`.")
        .explanation("An inference is sent as soon as the port answers; holding it, or another refusal than 503 not_ready with Retry-After, fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":1}'"#)
        .needs(&[Need::Ready]),
    Check::contract("loading.heartbeat", heartbeat)
        .promise("tells the hive that it is loading while it is")
        .quote("`state` is `Loading`, `Ready`, `Busy` (at least one request is being generated) or `Draining`.")
        .explanation("A heartbeat that says Ready before the worker itself did fails it, and so does one that says Loading after.")
        .by_hand("llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cpu --device 0 --port 18081 --hive-url http://127.0.0.1:19200")
        .needs(&[Need::Ready]),
];

fn observed<'s>(subject: &'s Subject) -> Result<&'s LoadingObservation> {
    subject
        .seen
        .loading
        .get(|| LoadingObservation::make(subject))
}

fn health(subject: &Subject) -> Result<Evidence> {
    let loading = observed(subject)?;
    let mut seen_loading = 0;
    for (number, question) in loading.health.iter().enumerate() {
        let Ok(response) = &question.response else {
            continue;
        };
        let health = dialect::read_health(response)?;
        let is_loading = health.status == "loading";
        seen_loading += usize::from(is_loading);
        ensure_kept(
            health.model_loaded != is_loading,
            "health of a worker that starts",
            "model_loaded true exactly when it is no longer loading",
            format!(
                "status {}, model_loaded {}",
                health.status, health.model_loaded
            ),
        )?;
        let is_last = number + 1 == loading.health.len();
        let place = "health of a worker that said it is ready";
        ensure_kept(!is_last || !is_loading, place, "healthy", &health.status)?;
    }
    let last = loading.health.last();
    if let Some(Err(cause)) = last.map(|question| &question.response) {
        let place = "health of a worker that said it is ready";
        return Err(Mismatch::new(place, "an answer", cause).into());
    }
    Ok(seen(seen_loading))
}

fn ready(subject: &Subject) -> Result<Evidence> {
    let loading = observed(subject)?;
    let mut denied = 0;
    for question in &loading.ready {
        let Ok(response) = &question.response else {
            continue;
        };
        if let Readiness::NotReady(reason) = dialect::read_ready(response)? {
            denied += 1;
            let place = "ready of a worker that starts, `reason`";
            ensure_kept(reason == "loading", place, "loading", &reason)?;
        }
    }
    let place = "an inference right after ready said yes";
    match &loading.first.response {
        Ok(response) => dialect::read_completion(response).map_err(|mismatch| Mismatch {
            place: place.to_owned(),
            ..mismatch
        })?,
        Err(cause) => return Err(Mismatch::new(place, "an answer", cause).into()),
    };
    Ok(seen(denied))
}

fn inference(subject: &Subject) -> Result<Evidence> {
    let loading = observed(subject)?;
    let place = "an inference while the model loads";
    let response = match &loading.early.response {
        Ok(response) => response,
        Err(cause) => return Err(Mismatch::new(place, "503 `not_ready`", cause).into()),
    };
    if response.status == 200 {
        dialect::read_completion(response)?;
        let denied = denied_meanwhile(loading);
        let (first, last) = (denied.first(), denied.last());
        let held = first.zip(last).map_or(Duration::ZERO, |(first, last)| {
            last.asked.saturating_duration_since(first.answered)
        });
        let is_held = denied.len() >= HELD_ANSWERS && held >= HELD;
        let got = format!(
            "an answer that was held while ready said no {} times",
            denied.len()
        );
        ensure_kept(!is_held, place, "503 `not_ready` at once", got)?;
        return Ok(seen(0));
    }
    let refused = dialect::read_refusal(response, 503, "not_ready");
    refused.map_err(|mismatch| Mismatch {
        place: place.to_owned(),
        ..mismatch
    })?;
    Ok(String::from("503 not_ready"))
}

/// Answers that denied readiness while the early inference was under way.
fn denied_meanwhile(loading: &LoadingObservation) -> Vec<&Question> {
    let is_denied = |question: &&Question| {
        let response = question.response.as_ref().ok();
        let said = response.and_then(|response| dialect::read_ready(response).ok());
        matches!(said, Some(Readiness::NotReady(_)))
            && question.asked > loading.early.asked
            && question.answered < loading.early.answered
    };
    loading.ready.iter().filter(is_denied).collect()
}

fn heartbeat(subject: &Subject) -> Result<Evidence> {
    let journal = subject.context.journal;
    let beats = beats(subject)?;
    if let Some(denied) = subject.start_up.last_not_ready {
        let denied_ms = journal.elapsed_ms(denied) - UNDER_WAY_MS;
        let early = beats.iter().find(|(arrival, beat)| {
            arrival.arrived_ms < denied_ms
                && matches!(beat.state, BeatState::Ready | BeatState::Busy)
        });
        if let Some((arrival, beat)) = early {
            let place = format!("heartbeat #{}, while ready said no", arrival.number);
            return Err(Mismatch::new(place, "Loading", format!("{:?}", beat.state)).into());
        }
    }
    let ready = subject.start_up.ready.unwrap_or_default();
    let ready_ms = journal.elapsed_ms(subject.worker.started() + ready);
    let late = beats.iter().find(|(arrival, beat)| {
        arrival.arrived_ms > ready_ms + 1000.0 && beat.state == BeatState::Loading
    });
    if let Some((arrival, _)) = late {
        let place = format!("heartbeat #{}, a second after it was ready", arrival.number);
        return Err(Mismatch::new(place, "Ready or Busy", "Loading").into());
    }
    let loading = beats
        .iter()
        .filter(|(_, beat)| beat.state == BeatState::Loading);
    Ok(seen(loading.count()))
}

fn seen(count: usize) -> Evidence {
    match count {
        0 => String::from("it loads too fast to be seen loading"),
        count => format!("{count} times seen loading"),
    }
}
