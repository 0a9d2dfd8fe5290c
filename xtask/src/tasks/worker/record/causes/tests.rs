//! Tests of what follows from what.

use super::*;
use crate::tasks::worker::record::event::{Level, PlannedCheck, Suite};
use crate::tasks::worker::record::random::Random;

/// What a check of the name `basic.*` asks is what all others stand on.
fn attributed(records: &[CheckRecord]) -> Vec<CheckSummary> {
    let follows = follows_from(records, |id| id.starts_with("basic."));
    let summaries = records.iter().zip(follows).map(|(record, follows_from)| {
        let planned = PlannedCheck {
            id: record.id.clone(),
            promise: String::new(),
            suite: Suite::Contract,
            level: match record.id.contains("should") {
                true => Level::Should,
                false => Level::Must,
            },
            contract: String::new(),
            known_failure: None,
        };
        CheckSummary {
            follows_from,
            ..CheckSummary::ran(record, Some(&planned))
        }
    });
    summaries.collect()
}

fn record(id: &str, outcome: Outcome) -> CheckRecord {
    CheckRecord {
        id: id.to_owned(),
        outcome,
        duration_ms: 1,
        detail: None,
    }
}

fn failed(id: &str, place: &str, expected: &str, got: &str) -> CheckRecord {
    record(id, Outcome::Failed(Mismatch::new(place, expected, got)))
}

fn shared(mut record: CheckRecord) -> CheckRecord {
    if let Outcome::Failed(mismatch) = &mut record.outcome {
        mismatch.is_shared = true;
    }
    record
}

fn skipped(id: &str, because: Option<Mismatch>) -> CheckRecord {
    let reason = String::from("its need is gone");
    let because = because.map(Box::new);
    record(id, Outcome::Skipped { reason, because })
}

/// Each cause with its consequences, by their names.
fn shape(records: &[CheckRecord]) -> Vec<(String, Vec<String>)> {
    let checks = attributed(records);
    let shape = causes(&checks).into_iter().map(|cause| {
        let consequences = cause.consequences.iter();
        let consequences = consequences.map(|check| check.id.clone()).collect();
        (cause.check.id.clone(), consequences)
    });
    shape.collect()
}

fn named(shape: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let causes = shape.iter();
    causes
        .map(|(id, consequences)| ((*id).to_owned(), owned(consequences)))
        .collect()
}

const HEALTH: &str = "GET /v1/health";
const BROKEN: &str = r#"status 500 with {"error":"x"}"#;

#[test]
fn a_broken_answer_is_one_cause_for_whoever_gets_it() {
    let records = [
        failed("basic.health", HEALTH, "status 200 or 503", BROKEN),
        failed("load.health", HEALTH, "status 200 or 503", BROKEN),
        failed(
            "token.accepted",
            "GET /v1/health with the token",
            "status 200",
            "500",
        ),
        record("ready.answers", Outcome::Passed),
    ];
    let expected = named(&[("basic.health", &["load.health", "token.accepted"])]);
    assert_eq!(shape(&records), expected);
    let checks = attributed(&records);
    let told = counted(&causes(&checks));
    assert_eq!(told.as_deref(), Some("1 cause, 2 consequences"));
}

#[test]
fn what_checks_share_is_one_cause_whichever_is_told_first() {
    let seen = |id| shared(failed(id, "one answer", "status 200", "500"));
    let records = [seen("a.one"), seen("a.two")];
    assert_eq!(shape(&records), named(&[("a.one", &["a.two"])]));
}

#[test]
fn a_second_fault_stays_a_cause_of_its_own() {
    let records = [
        failed("basic.health", HEALTH, "status 200 or 503", BROKEN),
        // Another path, another status, another body, another wish.
        failed("a.path", "GET /v1/healthz", "status 404", BROKEN),
        failed("a.status", HEALTH, "status 200", "status 501 with x"),
        failed(
            "a.body",
            HEALTH,
            "status 200",
            r#"status 500 with {"error":"y"}"#,
        ),
        failed("a.ready", HEALTH, "status 200", "status 503 with loading"),
        failed("basic.beat", "heartbeat #1, `state`", "Ready", "`Idle`"),
        failed("a.beat", "heartbeat #12, `state`", "Ready", "`Idle`"),
        failed("a.other_beat", "heartbeat #12, `port`", "Ready", "`Idle`"),
    ];
    let alone: &[&str] = &[];
    let expected = named(&[
        ("basic.health", alone),
        ("a.path", alone),
        ("a.status", alone),
        ("a.body", alone),
        ("a.ready", alone),
        ("basic.beat", &["a.beat"]),
        ("a.other_beat", alone),
    ]);
    assert_eq!(shape(&records), expected);
}

#[test]
fn two_bad_requests_that_hang_are_two_faults_and_one_observation_is_one() {
    let hang = |id| {
        let got = "no whole answer within 5 s";
        failed(id, "POST /v1/inference", "an answer", got)
    };
    let two = [hang("refusals.json"), hang("refusals.type")];
    let alone: &[&str] = &[];
    let both = named(&[("refusals.json", alone), ("refusals.type", alone)]);
    assert_eq!(shape(&two), both);
    let one = [hang("token.required"), shared(hang("token.accepted"))];
    let one_cause = named(&[("token.required", &["token.accepted"])]);
    assert_eq!(shape(&one), one_cause);
    // What hangs with a good request hangs with every other.
    let mut basic = [hang("basic.inference"), hang("refusals.json")];
    if let Outcome::Failed(mismatch) = &mut basic[1].outcome {
        mismatch.got = String::from("no whole answer within 15.25 s");
    }
    let one_cause = named(&[("basic.inference", &["refusals.json"])]);
    assert_eq!(shape(&basic), one_cause);
}

#[test]
fn a_need_that_is_gone_follows_from_what_took_it() {
    let lost = Mismatch::new("event: end", "an object", "no such field");
    let records = [
        skipped("refusals.json", Some(lost.clone())),
        record("answers.again", Outcome::Failed(lost.clone())),
        skipped("answers.stop", Some(lost)),
        skipped("chat.answers", None),
        // The same answer, which was seen once more.
        failed("load.answers", "event: end", "an object", "no such field"),
    ];
    let consequences: &[&str] = &["refusals.json", "answers.stop", "load.answers"];
    assert_eq!(shape(&records), named(&[("answers.again", consequences)]));
}

#[test]
fn warnings_are_no_causes_unless_something_broke_by_them() {
    let warning = failed("basic.should", HEALTH, "status 200", BROKEN);
    assert_eq!(shape(std::slice::from_ref(&warning)), named(&[]));
    let both = [warning, failed("a.health", HEALTH, "status 200", BROKEN)];
    assert_eq!(shape(&both), named(&[("basic.should", &["a.health"])]));
}

/// Whatever fails is told once: as a cause, or below one that comes before it in the list of causes.
#[test]
fn nothing_that_failed_is_left_out() {
    let mut random = Random::new(7);
    let mut pick = |from: &[&str]| from[random.index(from.len())].to_owned();
    for _ in 0..2000 {
        let mut records = Vec::new();
        for number in 0..12 {
            let id = format!("{}{number}", pick(&["basic.a", "b.c", "b.should"]));
            let place = pick(&[HEALTH, "POST /v1/inference", "event: end, `timings`"]);
            let got = pick(&[BROKEN, "500", "no such field", "no answer within 3 s"]);
            let mismatch = Mismatch::new(place, pick(&["an answer", "status 200"]), got);
            records.push(
                match pick(&["failed", "again", "skipped", "passed"]).as_str() {
                    "failed" => record(&id, Outcome::Failed(mismatch)),
                    "again" => shared(record(&id, Outcome::Failed(mismatch))),
                    "skipped" => skipped(&id, Some(mismatch)),
                    _ => record(&id, Outcome::Passed),
                },
            );
        }
        let checks = attributed(&records);
        let causes = causes(&checks);
        for check in &checks {
            let heads = causes.iter().filter(|cause| cause.check.id == check.id);
            let below = causes.iter().flat_map(|cause| &cause.consequences);
            let times = heads.count() + below.filter(|other| other.id == check.id).count();
            match check.outcome {
                CheckStatus::Failed => assert_eq!(times, 1, "{check:?} of {records:?}"),
                CheckStatus::Passed => assert_eq!(times, 0, "{check:?}"),
                _ => assert!(times <= 1, "{check:?}"),
            }
        }
        let heads = causes.iter().map(|cause| &cause.check.follows_from);
        assert!(heads.into_iter().all(Option::is_none));
    }
}
