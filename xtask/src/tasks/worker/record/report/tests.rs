//! Verdicts and exit codes of runs.

use super::*;
use crate::tasks::worker::record::event::{Level, Mismatch};

fn planned(ids: &[&str]) -> RunReport {
    let mut report = RunReport::default();
    let checks = ids
        .iter()
        .map(|id| PlannedCheck {
            id: (*id).to_owned(),
            promise: String::new(),
            suite: Suite::Isolation,
            level: if id.starts_with("should.") {
                Level::Should
            } else {
                Level::Must
            },
            contract: String::new(),
            known_failure: id.starts_with("known.").then(|| String::from("a bug")),
        })
        .collect();
    learn(&mut report, EventKind::Planned { checks });
    report
}

fn learn(report: &mut RunReport, kind: EventKind) {
    report.apply(&Event {
        elapsed_ms: 0,
        kind,
    });
}

fn finish(report: &mut RunReport, id: &str, outcome: Outcome) {
    let record = CheckRecord {
        id: id.to_owned(),
        outcome,
        duration_ms: 1,
        detail: None,
    };
    learn(report, EventKind::CheckFinished(record));
}

#[test]
fn all_passed_is_green() {
    let mut report = planned(&["a.b"]);
    finish(&mut report, "a.b", Outcome::Passed);
    assert_eq!(report.verdict(), Verdict::Passed);
}

#[test]
fn a_broken_should_does_not_make_the_run_red() {
    let mut report = planned(&["a.b", "should.c"]);
    finish(&mut report, "a.b", Outcome::Passed);
    let mismatch = Mismatch::new("here", "this", "that");
    finish(&mut report, "should.c", Outcome::Failed(mismatch.clone()));
    assert_eq!(report.verdict(), Verdict::Passed);
    finish(&mut report, "nobody.planned_it", Outcome::Failed(mismatch));
    assert_eq!(report.verdict(), Verdict::Failed);
}

#[test]
fn a_known_failure_does_not_make_the_run_red_and_has_to_fail() {
    let mut report = planned(&["a.b", "known.c"]);
    finish(&mut report, "a.b", Outcome::Passed);
    let mut stale = report.clone();
    let mismatch = Mismatch::new("here", "this", "that");
    finish(&mut report, "known.c", Outcome::Failed(mismatch));
    assert_eq!(report.verdict(), Verdict::Passed);
    let known = &report.check_summaries()[1];
    assert_eq!(known.outcome, CheckStatus::Warning);
    let evidence = known.evidence().unwrap();
    assert!(evidence.contains("(known to fail: a bug)"), "{evidence}");
    finish(&mut stale, "known.c", Outcome::Passed);
    assert_eq!(stale.verdict(), Verdict::Failed);
    let evidence = stale.check_summaries()[1].evidence().unwrap();
    assert!(evidence.contains("stale"), "{evidence}");
}

#[test]
fn a_survivor_is_not_green() {
    let mut report = planned(&["a.b"]);
    finish(&mut report, "a.b", Outcome::Passed);
    let survivors = vec![String::from("port 18081")];
    learn(&mut report, EventKind::CleanupFinished { survivors });
    assert_eq!(report.verdict(), Verdict::Failed);
}

#[test]
fn a_check_that_never_ran_is_not_green() {
    let mut report = planned(&["a.b", "a.c"]);
    finish(&mut report, "a.b", Outcome::Passed);
    assert_eq!(report.verdict(), Verdict::Invalid);
}

#[test]
fn an_empty_run_and_a_run_of_skips_are_not_green() {
    assert_eq!(RunReport::default().verdict(), Verdict::Invalid);
    let mut report = planned(&["a.b"]);
    let reason = String::from("no device");
    let because = None;
    finish(&mut report, "a.b", Outcome::Skipped { reason, because });
    assert_eq!(report.verdict(), Verdict::Invalid);
}

#[test]
fn a_broken_promise_outweighs_trouble_and_an_interruption_outweighs_both() {
    let mut report = planned(&["a.b"]);
    let message = String::from("the sink died");
    learn(&mut report, EventKind::Troubled { message });
    assert_eq!(report.verdict().exit_code(), 3);
    let mismatch = Mismatch::new("here", "this", "that");
    finish(&mut report, "a.b", Outcome::Failed(mismatch));
    assert_eq!(report.verdict().exit_code(), 1);
    learn(&mut report, EventKind::Interrupted { signal: 15 });
    assert_eq!(report.verdict().exit_code(), 143);
}
