//! JUnit XML, for CI systems: failed is `<failure>`, invalid is `<error>`. Pure.

pub mod matrix;

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::words;
use crate::tasks::worker::record::event::{CheckRecord, Level, Outcome, Suite};
use crate::tasks::worker::record::report::RunReport;

/// The whole file.
pub fn render(report: &RunReport) -> String {
    let mut junit = Report::new("worker:test");
    if let Some(duration_ms) = report.duration_ms {
        junit.set_time(Duration::from_millis(duration_ms));
    }
    let started = report.run.as_ref().map(|run| run.started_at.as_str());
    let started = started.and_then(|at| chrono::DateTime::parse_from_rfc3339(at).ok());
    if let Some(started) = started {
        junit.set_timestamp(started);
    }
    let suites = [
        Suite::Isolation,
        Suite::Contract,
        Suite::Resilience,
        Suite::Benchmark,
        Suite::Stress,
        Suite::Matrix,
    ];
    for suite in suites {
        let cases = cases_of(suite, report);
        if !cases.is_empty() {
            let mut part = TestSuite::new(suite.as_str());
            part.add_test_cases(cases);
            junit.add_test_suite(with_context(part, report));
        }
    }
    let run = cases_of_the_run(report);
    if !run.is_empty() {
        let mut part = TestSuite::new("run");
        part.add_test_cases(run);
        junit.add_test_suite(with_context(part, report));
    }
    junit.to_string().unwrap_or_default()
}

/// What is true of every check: model, backend, machine, and the worker's last words.
fn with_context(mut suite: TestSuite, report: &RunReport) -> TestSuite {
    let mut property = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            suite.add_property(Property::new(name, words::harmless(&value)));
        }
    };
    let (model, worker) = (report.model.as_ref(), report.worker.as_ref());
    property("model", model.map(|model| model.path.clone()));
    property("model_ref", model.map(|model| model.model_ref.clone()));
    property(
        "quantisation",
        model.map(|model| model.quantisation.clone()),
    );
    property("model_sha256", report.model_sha256.clone());
    property("backend", worker.map(|worker| worker.backend.clone()));
    property("device", worker.map(|worker| worker.device.to_string()));
    property("worker_id", worker.map(|worker| worker.worker_id.clone()));
    property("run_id", report.run.as_ref().map(|run| run.run_id.clone()));
    property("exit_code", Some(report.verdict().exit_code().to_string()));
    if !report.worker_log.is_empty() {
        suite.set_system_err(words::harmless(&report.worker_log.join("\n")));
    }
    suite
}

/// A check belongs to the suite of its plan; what nobody planned belongs to the first.
fn cases_of(suite: Suite, report: &RunReport) -> Vec<TestCase> {
    let suite_of = |id: &str| {
        let planned = report.planned.iter().find(|planned| planned.id == id);
        planned.map_or(Suite::Isolation, |planned| planned.suite)
    };
    let ran = report.checks.iter();
    let mut cases: Vec<_> = ran
        .filter(|check| suite_of(&check.id) == suite)
        .map(|check| case(check, report))
        .collect();
    let never_ran = report.never_ran().filter(|planned| planned.suite == suite);
    cases.extend(never_ran.map(|planned| {
        let why = why_not_run(report);
        named(
            &planned.id,
            error("not run", &format!("it did not run: {why}")),
        )
    }));
    cases
}

/// What went wrong beside the checks must not be missing where only this file is read.
fn cases_of_the_run(report: &RunReport) -> Vec<TestCase> {
    let troubles = report.troubles.iter();
    let mut cases: Vec<_> = troubles
        .map(|trouble| named("run.completes", error("trouble", trouble)))
        .collect();
    if let Some(signal) = report.interrupted_by {
        let message = format!("interrupted by signal {signal}");
        cases.push(named("run.completes", error("interrupted", &message)));
    }
    if report.checks.is_empty() && report.planned.is_empty() && cases.is_empty() {
        cases.push(named("run.completes", error("empty", "no check ran")));
    }
    cases
}

fn case(check: &CheckRecord, report: &RunReport) -> TestCase {
    let status = match &check.outcome {
        Outcome::Failed(mismatch) if report.level_of(&check.id) == Level::Must => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let promise = words::promise(&check.id, report);
            status.set_type("broken promise");
            status.set_message(words::harmless(&mismatch.to_string()));
            status.set_description(words::harmless(&format!(
                "the worker {promise}\nexpected: {}\ngot:      {}\nseen at:  {}",
                mismatch.expected, mismatch.got, mismatch.place
            )));
            status
        }
        Outcome::Passed | Outcome::Failed(_) => TestCaseStatus::success(),
        Outcome::Invalid { reason } => error("invalid", reason),
        Outcome::Skipped { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(words::harmless(reason));
            status
        }
    };
    let mut case = named(&check.id, status);
    case.set_time(Duration::from_millis(check.duration_ms));
    match &check.outcome {
        // A broken `should` leaves the run green, so it must not be red here.
        Outcome::Failed(mismatch) if report.level_of(&check.id) == Level::Should => {
            case.set_system_out(words::harmless(&format!("warning: {mismatch}")));
        }
        _ => {
            if let Some(detail) = &check.detail {
                case.set_system_out(words::harmless(detail));
            }
        }
    }
    case
}

fn named(id: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(id, status);
    let area = id.split('.').next().unwrap_or(id);
    case.set_classname(format!("worker.{area}"));
    case
}

fn error(kind: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type(kind);
    status.set_message(words::harmless(message));
    status
}

fn why_not_run(report: &RunReport) -> String {
    match (report.interrupted_by, report.troubles.first()) {
        (Some(signal), _) => format!("the run was interrupted by signal {signal}"),
        (None, Some(trouble)) => trouble.clone(),
        (None, None) => String::from("the run ended before"),
    }
}
