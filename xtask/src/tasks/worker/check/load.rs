//! Under full load: health, readiness, heartbeats and answers.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::rhythm::{lateness, tolerance_ms};
use super::row::{Check, Need};
use crate::tasks::worker::load::polling::{LoadObservation, Question};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect;
use crate::tasks::worker::target::dialect::Readiness;

/// How long health may take.
const HEALTH_LIMIT: Duration = Duration::from_millis(250);

/// A single answer that takes longer than this is no accident.
const FAR_BEYOND: Duration = Duration::from_secs(1);

/// The part of slow answers that a busy machine may be to blame for.
const ACCIDENTS: f64 = 0.1;

/// Under full load.
pub const CHECKS: &[Check] = &[
    Check::contract("load.answers", answers)
        .promise("answers eight clients at a time, or tells them that its queue is full")
        .quote("queue full: 429, with `Retry-After` `queue_full`.")
        .explanation("Eight clients ask again and again; any answer but a good one or an orderly 429 fails it.")
        .by_hand(r#"curl -s --parallel --parallel-immediate "http://127.0.0.1:18081/v1/inference?n=[1-8]" -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":64}'"#)
        .needs(&[Need::Ready]),
    Check::contract("load.health", health)
        .promise("says within 250 ms that it is healthy while it generates at full load")
        .quote("In under 250 ms while generation runs at full load.")
        .explanation("Health is asked for 25 times a second under load; answers that are wrong, or slow more than now and then, fail it.")
        .by_hand("curl -i -m 1 http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
    Check::contract("load.ready", ready)
        .promise("says that it is ready while it generates and would take more")
        .quote("A full queue doesn't turn `ready` off: it empties within moments, and the request that meets it is answered with 429.")
        .explanation("Not ready although every request was taken, or no answer in time, fails it.")
        .by_hand("curl -i -m 1 http://127.0.0.1:18081/v1/ready")
        .needs(&[Need::Ready]),
    Check::contract("load.heartbeats", heartbeats)
        .promise("beats on time while it generates at full load")
        .quote("Under full generation load a beat is late by less than a tenth of the interval, or 100 ms where that is more.")
        .explanation("A beat under load that is later than that, and that no lateness of our own excuses, fails it.")
        .by_hand("llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cpu --device 0 --port 18081 --hive-url http://127.0.0.1:19200 --heartbeat-interval 1")
        .needs(&[Need::Ready]),
];

fn observed<'s>(subject: &'s Subject) -> Result<&'s LoadObservation> {
    subject.seen.load.get(|| LoadObservation::make(subject))
}

fn answers(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    if let Some(trouble) = &load.trouble {
        let expected = "a good answer, or 429 `queue_full`";
        return Err(Mismatch::new("one of eight clients", expected, trouble).into());
    }
    let got = "none";
    ensure_kept(load.answered > 0, "eight clients", "answers", got)?;
    let full = match load.queue_full {
        0 => String::new(),
        count => format!(", {count} times a full queue"),
    };
    Ok(format!("{} answers{full}", load.answered))
}

fn health(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    let worker_id = &subject.worker.launch().worker_id;
    for question in &load.health {
        if let Ok(response) = &question.response {
            let health = dialect::read_health(response)?;
            let is_well = health.status == "healthy" && health.model_loaded;
            let got = format!("{}, model_loaded {}", health.status, health.model_loaded);
            ensure_kept(
                is_well,
                "health under load",
                "healthy, model_loaded true",
                got,
            )?;
            ensure_kept(
                &health.worker_id == worker_id,
                "health under load, `worker_id`",
                worker_id,
                &health.worker_id,
            )?;
        }
    }
    let slowest = ensure_quick(subject, &load.health, "health under load")?;
    let count = load.health.len();
    Ok(format!(
        "{count} answers, the slowest after {} ms",
        slowest.as_millis()
    ))
}

fn ready(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    for question in &load.ready {
        let Ok(response) = &question.response else {
            continue;
        };
        if let Readiness::NotReady(reason) = dialect::read_ready(response)?
            && load.queue_full == 0
        {
            let expected = "ready, as every request was taken";
            return Err(Mismatch::new(
                "ready under load",
                expected,
                format!("not ready, {reason}"),
            )
            .into());
        }
    }
    let unanswered = load
        .ready
        .iter()
        .find_map(|question| question.response.as_ref().err());
    if let Some(cause) = unanswered {
        return Err(Mismatch::new("ready under load", "an answer", cause).into());
    }
    let slow = load.ready.iter();
    let slow = slow.filter(|question| excess(subject, question) > FAR_BEYOND);
    let (slow_count, count) = (slow.count(), load.ready.len());
    ensure_kept(
        count > 0 && slow_count as f64 <= count as f64 * ACCIDENTS,
        "ready under load",
        "answers that don't wait for the load to end",
        format!("{slow_count} of {count} that took more than a second"),
    )?;
    Ok(format!("{count} answers"))
}

/// How long an answer took, less what we lost ourselves.
fn excess(subject: &Subject, question: &Question) -> Duration {
    let jitter = subject.jitter.between(question.asked, question.answered);
    (question.answered - question.asked).saturating_sub(jitter)
}

/// Fails where answers are slow more often than a busy machine explains; gives the slowest.
fn ensure_quick(subject: &Subject, questions: &[Question], place: &str) -> Result<Duration> {
    let excess = |question: &Question| excess(subject, question);
    let unanswered = questions
        .iter()
        .find_map(|question| question.response.as_ref().err());
    if let Some(cause) = unanswered {
        return Err(Mismatch::new(place, "an answer within 250 ms", cause).into());
    }
    let slow = questions
        .iter()
        .filter(|question| excess(question) > HEALTH_LIMIT);
    let slow_count = slow.count();
    let slowest = questions.iter().map(excess).max().unwrap_or_default();
    let allowed = (questions.len() as f64 * ACCIDENTS).max(1.0) as usize;
    ensure_kept(
        !questions.is_empty() && slow_count <= allowed && slowest < FAR_BEYOND,
        place,
        "answers within 250 ms",
        format!(
            "{slow_count} of {} that took longer, up to {} ms",
            questions.len(),
            slowest.as_millis()
        ),
    )?;
    Ok(slowest)
}

fn heartbeats(subject: &Subject) -> Result<Evidence> {
    let load = observed(subject)?;
    let Some(mismatch) = late_beat(subject, load)? else {
        return Ok(Evidence::new());
    };
    // A machine that was busy elsewhere gets a second chance; a worker that is late is late again.
    let again = LoadObservation::make(subject)?;
    match late_beat(subject, &again)? {
        Some(_) => Err(mismatch.into()),
        None => Ok(String::from("on time at the second look")),
    }
}

/// The first beat under this load that was too late.
fn late_beat(subject: &Subject, load: &LoadObservation) -> Result<Option<Mismatch>> {
    let journal = subject.context.journal;
    let (began_ms, ended_ms) = (
        journal.elapsed_ms(load.began),
        journal.elapsed_ms(load.ended),
    );
    let interval_ms = subject.context.config.heartbeat_interval_secs as f64 * 1e3;
    let beats = lateness(subject)?;
    // What comes after the load is over says nothing about the silence under it.
    let before_end = beats
        .iter()
        .rfind(|(arrived_ms, ..)| *arrived_ms <= ended_ms);
    let last_ms = before_end.map_or(0.0, |(arrived_ms, ..)| *arrived_ms);
    let is_silent = ended_ms - last_ms > interval_ms + tolerance_ms(interval_ms) + 50.0;
    let during = beats
        .iter()
        .filter(|(arrived_ms, ..)| (began_ms..=ended_ms).contains(arrived_ms));
    let late = during
        .filter(|(_, _, late_ms)| *late_ms > tolerance_ms(interval_ms))
        .map(|(_, number, late_ms)| (format!("heartbeat #{number}, under load"), *late_ms))
        .next();
    let silent = is_silent.then(|| {
        (
            String::from("heartbeats under load"),
            ended_ms - last_ms - interval_ms,
        )
    });
    Ok(late.or(silent).map(|(place, late_ms)| {
        let expected = format!("late by {:.0} ms at most", tolerance_ms(interval_ms));
        Mismatch::new(place, expected, format!("late by {late_ms:.0} ms"))
    }))
}
