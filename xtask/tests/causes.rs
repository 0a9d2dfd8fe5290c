//! A run that is red, as a whole command: how many causes it names, and what it doesn't wait for.
#![cfg(unix)]

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use scratch::Scratch;
use serde_json::Value;
use xtask::{FAULTY_WORKER, said, worker_test, xtask};

/// A red run and its folder.
struct Red {
    output: Output,
    scratch: Scratch,
}

impl Red {
    fn of(name: &str, faults: &str, options: &[&str]) -> Self {
        let scratch = Scratch::new(name);
        let output = worker_test()
            .args(["--model", "tiny", "--worker-bin", FAULTY_WORKER])
            .args(["--worker-env", "WORKER_FAULT"])
            .args(options)
            .arg("--artifacts")
            .arg(&scratch.0)
            .env("WORKER_FAULT", faults)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        Self { output, scratch }
    }

    fn run(&self) -> PathBuf {
        self.scratch.file("latest")
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.run().join(name)).unwrap()
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.file("report.json")).unwrap()
    }
}

/// The checks that a cause explains; those that failed by themselves where there is none.
fn checks<'r>(report: &'r Value, outcome: &str, cause: Option<&str>) -> Vec<&'r str> {
    let checks = report["checks"].as_array().unwrap().iter();
    let checks = checks.filter(|check| check["outcome"] == outcome);
    let those = checks.filter(|check| check["follows_from"].as_str() == cause);
    those.map(|check| check["id"].as_str().unwrap()).collect()
}

#[test]
fn two_faults_at_once_are_two_causes_in_every_report() {
    let ids = [
        "start.ready",
        "health.answers",
        "inference.answers",
        "refusals.invalid_field",
    ];
    let options = ids.map(|id| ["--check", id]).concat();
    let red = Red::of("two", "start.health_500,accept.top_p_zero", &options);
    let report = red.report();
    let causes = ["start.ready", "refusals.invalid_field"];
    assert_eq!(checks(&report, "failed", None), causes);
    let consequences = ["health.answers"];
    assert_eq!(checks(&report, "failed", Some("start.ready")), consequences);
    let told = "2 causes, 1 consequence";
    let shown = String::from_utf8_lossy(&red.output.stdout);
    assert!(
        shown.contains(&format!("3 of 4 CHECKS FAILED ({told})")),
        "{shown}"
    );
    let last = shown.trim_end().lines().last().unwrap_or_default();
    assert!(
        last.contains("next: see it alone: cargo xtask worker:test "),
        "{last}"
    );
    assert!(last.ends_with("--check start.ready"), "{last}");
    for report in ["summary.md", "report.html", "junit.xml"] {
        let report = red.file(report);
        assert!(report.contains(told), "{report}");
    }
    let junit = red.file("junit.xml");
    assert_eq!(
        junit.matches("type=\"broken promise\"").count(),
        2,
        "{junit}"
    );
    assert_eq!(junit.matches("type=\"consequence\"").count(), 1, "{junit}");
}

#[test]
fn a_run_ends_early_where_enough_has_failed_and_leaves_a_trace() {
    let ids = [
        "health.answers",
        "inference.answers",
        "refusals.invalid_field",
    ];
    let checks_of_it = ids.map(|id| ["--check", id]).concat();
    let options = [&checks_of_it[..], &["--max-fail", "1", "--trace"]].concat();
    let red = Red::of(
        "early",
        "start.health_never_loaded,accept.top_p_zero",
        &options,
    );
    let report = red.report();
    assert_eq!(checks(&report, "failed", None), ["health.answers"]);
    let skipped = checks(&report, "skipped", None);
    assert_eq!(skipped, ["inference.answers", "refusals.invalid_field"]);
    let trace: Value = serde_json::from_str(&red.file("trace.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().any(|event| event["name"] == "health.answers"));

    let run = red.run();
    let mut command = xtask();
    let compared = command
        .args(["worker:report", "compare"])
        .args([&run, &run]);
    let shown = said(&compared.output().unwrap());
    assert!(
        shown.contains("ALIKE: 0 checks changed and 3 didn't"),
        "{shown}"
    );
}

#[test]
fn a_worker_that_hangs_in_inference_is_asked_twice_and_not_by_every_check() {
    let began = Instant::now();
    let red = Red::of("silent", "infer.hangs", &["--suite", "all"]);
    let took = began.elapsed();
    let report = red.report();
    let cause = "inference.answers";
    // That its engine is dead, and health says nothing of it, is a broken promise of its own.
    let causes = [cause, "lifecycle.engine_failure"];
    assert_eq!(checks(&report, "failed", None), causes);
    let skipped = checks(&report, "skipped", Some(cause));
    assert!(skipped.len() > 60, "{skipped:?}");
    for needs_no_answer in ["health.answers", "token.required", "loading.inference"] {
        let passed = checks(&report, "passed", None);
        assert!(passed.contains(&needs_no_answer), "{passed:?}");
    }
    // One deadline is 120 s, and more than sixty checks have one.
    assert!(took < Duration::from_secs(150), "{took:?}");
}

#[test]
fn what_failed_is_run_again_and_nothing_else() {
    let ids = ["start.ready", "health.answers", "inference.answers"];
    let options = ids.map(|id| ["--check", id]).concat();
    let red = Red::of("again", "start.health_wrong_status", &options);
    let again = |fault: &str, run: &Path| {
        let mut command = xtask();
        let command = command.args(["worker:test", "--rerun"]).arg(run);
        command.env("WORKER_FAULT", fault).output().unwrap()
    };
    let output = again("", &red.run());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = told.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("Again: cargo xtask worker:test "),
        "{told}"
    );
    assert_eq!(told.matches("Again: ").count(), 1, "{told}");
    let report = red.report();
    let passed = checks(&report, "passed", None);
    assert_eq!(checks(&report, "failed", None), [""; 0]);
    assert!(!passed.contains(&"inference.answers"), "{passed:?}");
    assert!(passed.contains(&"health.answers"), "{passed:?}");
    // What was run again can itself be run again, if anything failed in it.
    let output = again("", &red.run());
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("nothing failed in "), "{told}");
}
