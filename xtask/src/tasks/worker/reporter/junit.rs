//! JUnit XML, for CI systems: failed is `<failure>`, invalid is `<error>`. Pure.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::page::{Alert, AlertKind, Column, ReportPage};
use super::words::harmless;
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary};

/// What a check that nobody planned belongs to.
const FIRST_SUITE: &str = "isolation";

/// The whole file: a suite for each suite of checks, or for each column of a matrix.
pub fn render(page: &ReportPage) -> String {
    let mut junit = Report::new(match page.is_matrix() {
        true => "worker:test matrix",
        false => "worker:test",
    });
    if let Some(duration_ms) = page.duration_ms {
        junit.set_time(Duration::from_millis(duration_ms));
    }
    let started = page.started_at.as_ref();
    let started = started.and_then(|at| chrono::DateTime::parse_from_rfc3339(at).ok());
    if let Some(started) = started {
        junit.set_timestamp(started);
    }
    for (index, column) in page.columns.iter().enumerate() {
        for (name, cases) in suites_of(page, index, column) {
            junit.add_test_suite(suite(&name, cases, Some(column)));
        }
    }
    let of_all: Vec<TestCase> = match page.is_matrix() {
        true => cases_of_alerts(page, None),
        false => Vec::new(),
    };
    if !of_all.is_empty() {
        junit.add_test_suite(suite("matrix", of_all, None));
    }
    junit.to_string().unwrap_or_default()
}

/// The names and cases of a column's suites: one where columns stand side by side.
fn suites_of(page: &ReportPage, index: usize, column: &Column) -> Vec<(String, Vec<TestCase>)> {
    let mut suites: Vec<(String, Vec<TestCase>)> = Vec::new();
    let mut add = |name: &str, case| match suites.iter_mut().find(|(known, _)| known == name) {
        Some((_, cases)) => cases.push(case),
        None => suites.push((name.to_owned(), vec![case])),
    };
    for check in page
        .checks
        .iter()
        .filter_map(|row| row.cells[index].as_ref())
    {
        let suite = check.suite.as_deref().unwrap_or(FIRST_SUITE);
        add(column.name.as_deref().unwrap_or(suite), case(check));
    }
    match &column.name {
        Some(name) => {
            let cases = cases_of_alerts(page, Some(index));
            cases.into_iter().for_each(|case| add(name, case));
        }
        None => {
            let cases = cases_of_alerts(page, None);
            cases.into_iter().for_each(|case| add("run", case));
        }
    }
    suites
}

fn suite(name: &str, cases: Vec<TestCase>, column: Option<&Column>) -> TestSuite {
    let mut suite = TestSuite::new(harmless(name));
    suite.add_test_cases(cases);
    for (name, value) in column.iter().flat_map(|column| &column.properties) {
        suite.add_property(Property::new(*name, harmless(value)));
    }
    let log = column.map_or(String::new(), |column| column.log.join("\n"));
    if !log.is_empty() {
        suite.set_system_err(harmless(&log));
    }
    suite
}

fn case(check: &CheckSummary) -> TestCase {
    let mut why = check.evidence().unwrap_or_default();
    if let Some(cause) = &check.follows_from {
        why = format!("follows from {cause}: {why}");
    }
    let status = match check.outcome {
        // A broken `should` leaves the run green, so it must not be red here.
        CheckStatus::Passed | CheckStatus::Warning => TestCaseStatus::success(),
        CheckStatus::Failed => {
            let kind = match &check.follows_from {
                Some(_) => "consequence",
                None => "broken promise",
            };
            let mut status = failure(kind, &why);
            status.set_description(harmless(&format!(
                "the worker {}\nexpected: {}\ngot:      {}\nseen at:  {}",
                check.promise,
                check.expected.as_deref().unwrap_or_default(),
                check.got.as_deref().unwrap_or_default(),
                check.place.as_deref().unwrap_or_default()
            )));
            status
        }
        CheckStatus::Invalid => error("invalid", &why),
        CheckStatus::NotRun => error("not run", &format!("it did not run: {why}")),
        CheckStatus::Skipped => skipped(&why),
    };
    let mut case = named(&check.id, status);
    if let Some(duration_ms) = check.duration_ms {
        case.set_time(Duration::from_millis(duration_ms));
    }
    if check.outcome == CheckStatus::Warning {
        case.set_system_out(harmless(&format!("warning: {why}")));
    } else if let Some(detail) = &check.detail {
        case.set_system_out(harmless(detail));
    }
    case
}

/// What went wrong besides the checks must not be missing where only this file is read.
fn cases_of_alerts(page: &ReportPage, column: Option<usize>) -> Vec<TestCase> {
    let alerts = page.alerts.iter().filter(|alert| alert.column == column);
    alerts.filter_map(case_of_alert).collect()
}

fn case_of_alert(alert: &Alert) -> Option<TestCase> {
    let text = &alert.text;
    let (id, status) = match alert.kind {
        AlertKind::Note => return None,
        AlertKind::Trouble => ("run.completes", error("trouble", text)),
        AlertKind::LeftBehind => ("run.completes", failure("left behind", text)),
        AlertKind::Interrupted => ("run.completes", error("interrupted", text)),
        AlertKind::NoReport => ("run.completes", error("no run", text)),
        AlertKind::Skipped => ("run.completes", skipped(text)),
        AlertKind::Agreement => ("greedy.agreement", TestCaseStatus::success()),
        AlertKind::Disagreement => ("greedy.agreement", failure("disagreement", text)),
        AlertKind::UnclearAgreement => ("greedy.agreement", skipped(text)),
    };
    let mut case = named(id, status);
    case.set_system_out(harmless(text));
    Some(case)
}

fn named(id: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(id, status);
    let area = id.split('.').next().unwrap_or(id);
    case.set_classname(format!("worker.{area}"));
    case
}

fn failure(kind: &str, message: &str) -> TestCaseStatus {
    unsuccessful(NonSuccessKind::Failure, kind, message)
}

fn error(kind: &str, message: &str) -> TestCaseStatus {
    unsuccessful(NonSuccessKind::Error, kind, message)
}

fn unsuccessful(severity: NonSuccessKind, kind: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(severity);
    status.set_type(kind);
    status.set_message(harmless(message));
    status
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(harmless(reason));
    status
}
