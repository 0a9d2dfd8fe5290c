//! A hive in trouble: inference goes on, the worker lives, beats come back without a burst.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::apart::{INTERVAL, LATENESS, answers_as_ever, ready_companion};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::AuxiliaryWorker;
use crate::tasks::worker::target::hive::MockHiveServer;
use crate::tasks::worker::target::pace::Pace;

const NEVER_HELD_UP: &str = "A hive that is absent, slow (each beat has 5 s), answers 5xx or hangs up never holds inference up, never delays the next beat, and never ends the worker. Beats resume within one interval of its return, without a burst: what was due meanwhile is not made up for.";

/// After this time the worker gives a beat up that the hive doesn't answer.
const BEAT_LIMIT: Duration = Duration::from_secs(5);

/// How many intervals an outage lasts: enough that making up for all of them would show.
const OUTAGE: u32 = 5;

/// So many beats may come at the same time: a periodic one and one for a change of state.
const AT_ONCE: usize = 2;

/// Where a redirect points to.
const ELSEWHERE: &str = "/elsewhere";

/// What a hive may do to its workers.
pub const CHECKS: &[Check] = &[
    Check::resilience("hive.absent_at_start", absent_at_start)
        .promise("becomes ready and works without a hive, and beats once there is one")
        .quote(NEVER_HELD_UP)
        .explanation("The worker starts while its hive refuses connections; not being ready, another answer or no beat within an interval of the hive's coming fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/ready")
        .needs(&[Need::Ready]),
    Check::resilience("hive.answers_errors", answers_500)
        .promise("works and goes on beating when its hive answers 500")
        .quote(NEVER_HELD_UP)
        .explanation("The hive answers 500 to at least two beats; an end of the process, another answer or an end of the beats fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
    Check::resilience("hive.hangs", hangs)
        .promise("answers as quickly as ever while its hive takes beats and doesn't answer")
        .quote(NEVER_HELD_UP)
        .explanation("The hive never answers; an inference that waits for it, or a worker that waits for longer than 5 s before it beats again, fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'content-type: application/json' -d '{"prompt":"Hello","max_tokens":5}'"#)
        .needs(&[Need::Ready]),
    Check::resilience("hive.hangs_up", hangs_up)
        .promise("works and goes on beating when its hive hangs up on it")
        .quote(NEVER_HELD_UP)
        .explanation("The hive closes the connection without an answer to at least two beats; an end of the process, another answer or an end of the beats fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
    Check::resilience("hive.redirects", redirects)
        .promise("follows no redirect of its hive")
        .quote("Redirects are not followed.")
        .explanation("The hive answers 307 with another place; a request to that place, or an end of the beats, fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
    Check::resilience("hive.returns", returns)
        .promise("resumes its beats within an interval of its hive's return, without a burst")
        .quote(NEVER_HELD_UP)
        .explanation("The hive refuses connections for five intervals and comes back; no beat within one interval, more than two at once or a sequence that doesn't rise fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
];

fn absent_at_start(subject: &Subject) -> Result<Evidence> {
    let mut auxiliary = subject.auxiliary_after("hive-absent", |launch, hive| {
        launch.heartbeat_interval_secs = Some(INTERVAL.as_secs());
        hive.go_away()
    })?;
    auxiliary.wait_until_ready()?;
    let pace = subject.pace(&auxiliary)?;
    answers_as_ever(&auxiliary, pace, "without a hive")?;
    resumes(&auxiliary, INTERVAL)
}

fn answers_500(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "hive-500", &[])?;
    goes_on(&auxiliary, pace, "while the hive answers 500", |hive| {
        hive.answer_with(500)
    })
}

fn hangs_up(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "hive-hangs-up", &[])?;
    goes_on(
        &auxiliary,
        pace,
        "while the hive hangs up",
        MockHiveServer::hang_up,
    )
}

fn redirects(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "hive-redirects", &[])?;
    let evidence = goes_on(&auxiliary, pace, "while the hive redirects", |hive| {
        hive.redirect_to(ELSEWHERE)
    });
    // Said first: a request to elsewhere is no heartbeat either.
    let requests = auxiliary.hive.heartbeats();
    if let Some(strayed) = requests.iter().find(|request| request.path == ELSEWHERE) {
        let place = format!("request #{} to the hive", strayed.number);
        let got = format!("{} {}", strayed.method, strayed.path);
        return Err(Mismatch::new(place, "a redirect that is not followed", got).into());
    }
    evidence
}

fn hangs(subject: &Subject) -> Result<Evidence> {
    let interval = 2 * INTERVAL;
    let mut auxiliary = subject.auxiliary("hive-hangs", |launch| {
        launch.heartbeat_interval_secs = Some(interval.as_secs());
    })?;
    auxiliary.wait_until_ready()?;
    let pace = subject.pace(&auxiliary)?;
    super::apart::wait_until_idle(&auxiliary)?;
    auxiliary.hive.hang()?;
    let limit = pace.golden.took * 3 + LATENESS;
    let mut quickest = Duration::MAX;
    // The best of three: what waits for the hive does so each time, what is merely busy doesn't.
    for _ in 0..3 {
        let seen = auxiliary.hive.heartbeats().len();
        await_beat(
            &auxiliary,
            seen,
            BEAT_LIMIT + interval,
            "while the hive hangs",
        )?;
        let took = answers_as_ever(&auxiliary, pace, "while the hive hangs")?;
        quickest = quickest.min(took);
        if quickest <= limit {
            break;
        }
    }
    let took_ms = quickest.as_secs_f64() * 1e3;
    ensure_kept(
        quickest <= limit,
        "inference while the hive hangs",
        format!("an answer within {:.0} ms", limit.as_secs_f64() * 1e3),
        format!("{took_ms:.0} ms"),
    )?;
    let seen = auxiliary.hive.heartbeats().len();
    await_beat(
        &auxiliary,
        seen,
        BEAT_LIMIT + interval,
        "while the hive hangs",
    )?;
    resumes(&auxiliary, interval)?;
    Ok(format!("an answer in {took_ms:.0} ms"))
}

fn returns(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "hive-returns", &[])?;
    auxiliary.hive.go_away()?;
    auxiliary.let_pass(INTERVAL * OUTAGE / 2)?;
    answers_as_ever(&auxiliary, pace, "while the hive is gone")?;
    auxiliary.let_pass(INTERVAL * OUTAGE / 2)?;
    resumes(&auxiliary, INTERVAL)
}

/// Under this trouble beats are still tried, inference works, and afterwards all is well again.
fn goes_on(
    auxiliary: &AuxiliaryWorker,
    pace: &Pace,
    when: &str,
    trouble: impl FnOnce(&MockHiveServer) -> Result<()>,
) -> Result<Evidence> {
    trouble(&auxiliary.hive)?;
    for _ in 0..2 {
        let seen = auxiliary.hive.heartbeats().len();
        await_beat(auxiliary, seen, INTERVAL, when)?;
    }
    answers_as_ever(auxiliary, pace, when)?;
    let seen = auxiliary.hive.heartbeats().len();
    await_beat(auxiliary, seen, INTERVAL, when)?;
    resumes(auxiliary, INTERVAL)
}

/// The hive is well again: a beat comes within an interval, and not several at once.
fn resumes(auxiliary: &AuxiliaryWorker, interval: Duration) -> Result<Evidence> {
    let seen = auxiliary.hive.heartbeats().len();
    auxiliary.hive.behave()?;
    let back = Instant::now();
    await_beat(auxiliary, seen, interval, "after the hive came back")?;
    let after_s = back.elapsed().as_secs_f64();
    auxiliary.let_pass(interval / 2)?;
    let beats = auxiliary.beats()?;
    let came = beats.len() - seen;
    ensure_kept(
        came <= AT_ONCE,
        "heartbeats after the hive came back",
        format!("{AT_ONCE} within half an interval at most"),
        came.to_string(),
    )?;
    let (earlier, later) = beats.split_at(seen);
    if let (Some((_, before)), Some((arrival, after))) = (earlier.last(), later.first()) {
        ensure_kept(
            after.sequence > before.sequence,
            &format!("heartbeat #{}, `sequence`", arrival.number),
            format!("more than {}", before.sequence),
            after.sequence.to_string(),
        )?;
    }
    auxiliary.worker.ensure_alive()?;
    Ok(format!("a beat {after_s:.1} s after the hive came back"))
}

fn await_beat(auxiliary: &AuxiliaryWorker, seen: usize, limit: Duration, when: &str) -> Result<()> {
    let beat = auxiliary.beat_after(seen, limit + 2 * LATENESS)?;
    ensure_kept(
        beat.is_some(),
        &format!("heartbeats {when}"),
        format!("another one within {} s", limit.as_secs()),
        "none",
    )?;
    Ok(())
}
