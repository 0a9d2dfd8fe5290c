//! A hive in trouble: inference goes on, the worker lives, beats come back without a burst.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::apart::{INTERVAL, LATENESS, answers_as_ever, ready_auxiliary};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::{HeartbeatPayload, InferenceRequest, Promise};
use crate::tasks::worker::target::hive::MockHiveServer;
use crate::tasks::worker::target::reference::References;

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
    row("hive.absent_at_start", absent_at_start)
        .promise("becomes ready and serves without a hive, and sends heartbeats once there is one")
        .holds(&["B12"])
        .explanation("Starts the worker while its hive refuses connections; fails if it isn't ready, an answer differs, or no heartbeat arrives within an interval of the hive's start.")
        .by_hand(|by| by.ready("-i")),
    row("hive.answers_errors", answers_500)
        .promise("keeps serving and sending heartbeats while its hive answers 500")
        .holds(&["B7", "B14"])
        .explanation("Answers 500 to at least two heartbeats; fails if the process ends, an answer differs, the heartbeats stop or a lost one is sent again."),
    row("hive.hangs", hangs)
        .promise("answers as quickly as before while its hive accepts heartbeats and never answers")
        .holds(&["B12", "B13"])
        .explanation("Never answers a heartbeat; fails if an inference waits for the hive, or if the next heartbeat takes more than 5 s longer.")
        .by_hand(|by| by.infer("-i", &InferenceRequest::new("Hello", 5))),
    row("hive.hangs_up", hangs_up)
        .promise("keeps serving and sending heartbeats while its hive hangs up on it")
        .holds(&["B14"])
        .explanation("Closes the connection without an answer to at least two heartbeats; fails if the process ends, an answer differs or the heartbeats stop."),
    row("hive.redirects", redirects)
        .promise("doesn't follow redirects from its hive")
        .holds(&["B17"])
        .explanation("Answers 307 with another path; fails if a request reaches that path, or the heartbeats stop."),
    row("hive.returns", returns)
        .promise("resumes heartbeats within an interval of its hive's return, without a burst")
        .holds(&["B15", "B16"])
        .explanation("Refuses connections for five intervals; fails if no heartbeat arrives within an interval of the return, more than two arrive at once, or the sequence doesn't rise."),
];

/// What a hive is called.
pub const NAMES: &[Check] = &[Check::contract_apart("hive.path", path)
    .promise("sends heartbeats below the path of its --hive-url")
    .holds(&["C8"])
    .explanation(
        "Starts a worker whose hive has a path; fails if its first heartbeat goes elsewhere.",
    )
    .by_hand(|by| by.worker(&[("--hive-url", "http://127.0.0.1:19200/some/hive")]))
    .needs(&[
        Need::Ready,
        Need::Promised(Promise::CommandLine),
        Need::Promised(Promise::Heartbeats),
    ])];

/// Where a hive may be, and where its heartbeats go then.
const PATH: &str = "/some/hive";
const BELOW_IT: &str = "/some/hive/heartbeat/workers";

/// A row whose promise is that hives hold nobody up.
const fn row(id: &'static str, run: fn(&Auxiliaries) -> Result<Evidence>) -> Check {
    Check::resilience(id, run)
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Ready, Need::Promised(Promise::Heartbeats)])
}

fn path(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let auxiliary = auxiliaries.start("hive-path", |launch| launch.hive_url += PATH)?;
    let beat = auxiliary.beat_after(0, BEAT_LIMIT)?;
    let got = beat.map_or_else(|| String::from("none"), |beat| beat.path);
    let place = "the first heartbeat to a hive with a path";
    ensure_kept(got == BELOW_IT, place, BELOW_IT, got)?;
    Ok(String::from(BELOW_IT))
}

fn absent_at_start(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    auxiliaries.ensure_heard()?;
    let mut auxiliary = auxiliaries.start_after("hive-absent", |launch, hive| {
        launch.heartbeat_interval_secs = Some(INTERVAL.as_secs());
        hive.go_away()
    })?;
    auxiliary.wait_until_ready()?;
    let known = auxiliaries.references_alone(&auxiliary.worker)?;
    answers_as_ever(&auxiliary, known, "without a hive")?;
    resumes(&auxiliary, INTERVAL)
}

fn answers_500(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "hive-500", &[])?;
    goes_on(&auxiliary, known, "while the hive answers 500", |hive| {
        hive.answer_with(500)
    })
}

fn hangs_up(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "hive-hangs-up", &[])?;
    goes_on(
        &auxiliary,
        known,
        "while the hive hangs up",
        MockHiveServer::hang_up,
    )
}

fn redirects(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "hive-redirects", &[])?;
    let evidence = goes_on(&auxiliary, known, "while the hive redirects", |hive| {
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

fn hangs(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let interval = 2 * INTERVAL;
    auxiliaries.ensure_heard()?;
    let mut auxiliary = auxiliaries.start("hive-hangs", |launch| {
        launch.heartbeat_interval_secs = Some(interval.as_secs());
    })?;
    auxiliary.wait_until_ready()?;
    let known = auxiliaries.references_alone(&auxiliary.worker)?;
    super::apart::wait_until_idle(&auxiliary)?;
    auxiliary.hive.hang()?;
    let limit = known.short.took * 3 + LATENESS;
    let patience = BEAT_LIMIT + interval;
    let mut quickest = Duration::MAX;
    // The best of three: what waits for the hive does so each time, what is merely busy doesn't.
    for _ in 0..3 {
        next_beat(&auxiliary, patience, "while the hive hangs")?;
        let took = answers_as_ever(&auxiliary, known, "while the hive hangs")?;
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
    next_beat(&auxiliary, patience, "while the hive hangs")?;
    resumes(&auxiliary, interval)?;
    Ok(format!("an answer in {took_ms:.0} ms"))
}

fn returns(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "hive-returns", &[])?;
    auxiliary.hive.go_away()?;
    auxiliary.let_pass(INTERVAL * OUTAGE / 2)?;
    answers_as_ever(&auxiliary, known, "while the hive is gone")?;
    auxiliary.let_pass(INTERVAL * OUTAGE / 2)?;
    resumes(&auxiliary, INTERVAL)
}

/// Under this trouble beats are still tried, inference works, and afterwards all is well again.
fn goes_on(
    auxiliary: &AuxiliaryWorker,
    known: &References,
    when: &str,
    trouble: impl FnOnce(&MockHiveServer) -> Result<()>,
) -> Result<Evidence> {
    trouble(&auxiliary.hive)?;
    for _ in 0..2 {
        next_beat(auxiliary, INTERVAL, when)?;
    }
    answers_as_ever(auxiliary, known, when)?;
    next_beat(auxiliary, INTERVAL, when)?;
    let evidence = resumes(auxiliary, INTERVAL)?;
    sent_once(&auxiliary.beats()?)?;
    Ok(evidence)
}

/// No beat came again, lost or not.
fn sent_once(beats: &[(Heartbeat, HeartbeatPayload)]) -> Result<(), Mismatch> {
    let mut seen = BTreeSet::new();
    for (arrival, beat) in beats {
        let place = format!("heartbeat #{}, `sequence`", arrival.number);
        let expected = "one that no heartbeat before had";
        ensure_kept(
            seen.insert(beat.sequence),
            &place,
            expected,
            beat.sequence.to_string(),
        )?;
    }
    Ok(())
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
        format!("at most {AT_ONCE} within half an interval"),
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

fn next_beat(auxiliary: &AuxiliaryWorker, limit: Duration, when: &str) -> Result<()> {
    let seen = auxiliary.hive.heartbeats().len();
    await_beat(auxiliary, seen, limit, when)
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
