//! A matrix of runs as JUnit XML: a suite a column. Pure.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::{error, named};
use crate::tasks::worker::record::matrix::Matrix;
use crate::tasks::worker::record::matrix::summary::{CheckPart, RunSummary, SummaryVerdict, Word};
use crate::tasks::worker::reporter::{matrix as shared, words};

/// The whole file.
pub fn render(matrix: &Matrix) -> String {
    let mut junit = Report::new("worker:test matrix");
    if let Some(duration_ms) = matrix.duration_ms {
        junit.set_time(Duration::from_millis(duration_ms));
    }
    for (index, (name, column)) in matrix.named().enumerate() {
        let mut suite = TestSuite::new(words::harmless(name));
        suite.add_test_cases(column.checks.iter().map(case));
        suite.add_test_cases(cases_of_the_run(column));
        suite.add_test_cases(agreement(matrix, index));
        for (fact, value) in shared::facts(column) {
            suite.add_property(Property::new(fact, words::harmless(&value)));
        }
        junit.add_test_suite(suite);
    }
    let troubles = matrix.troubles.iter();
    let cases: Vec<_> = troubles
        .map(|trouble| named("matrix.completes", error("trouble", trouble)))
        .collect();
    if !cases.is_empty() {
        let mut suite = TestSuite::new("matrix");
        suite.add_test_cases(cases);
        junit.add_test_suite(suite);
    }
    junit.to_string().unwrap_or_default()
}

fn case(check: &CheckPart) -> TestCase {
    let why = shared::evidence(check).unwrap_or_default();
    let status = match check.outcome {
        // A broken `should` leaves the run green, so it must not be red here.
        Word::Passed | Word::Warning => TestCaseStatus::success(),
        Word::Failed => failure("broken promise", &why),
        Word::Invalid => error("invalid", &why),
        Word::NotRun => error("not run", "the run ended before"),
        Word::Skipped => skip(&why),
    };
    let mut case = named(&check.id, status);
    if let Some(duration_ms) = check.duration_ms {
        case.set_time(Duration::from_millis(duration_ms));
    }
    if check.outcome == Word::Warning {
        case.set_system_out(words::harmless(&format!("warning: {why}")));
    } else if let Some(detail) = &check.detail {
        case.set_system_out(words::harmless(detail));
    }
    case
}

/// What went wrong beside the checks, and a backend that was left out.
fn cases_of_the_run(column: &RunSummary) -> Vec<TestCase> {
    let mut cases = Vec::new();
    let mut add = |status| cases.push(named("run.completes", status));
    if let Some(reason) = &column.reason {
        match column.verdict {
            SummaryVerdict::Skipped if !column.required => add(skip(reason)),
            _ => add(error("no run", reason)),
        }
    }
    for trouble in &column.troubles {
        add(error("trouble", trouble));
    }
    for survivor in &column.survivors {
        add(failure("left behind", survivor));
    }
    if let Some(signal) = column.interrupted_by {
        add(error("interrupted", &format!("by signal {signal}")));
    }
    cases
}

fn agreement(matrix: &Matrix, column: usize) -> Option<TestCase> {
    let found = matrix
        .agreement
        .iter()
        .find(|found| found.column == column)?;
    let told = shared::agreement(matrix, found);
    let status = match (found.is_broken(), found.is_judged()) {
        (true, _) => failure("disagreement", &told),
        (false, true) => TestCaseStatus::success(),
        (false, false) => skip(&told),
    };
    let mut case = named("greedy.agreement", status);
    case.set_system_out(words::harmless(&told));
    Some(case)
}

fn failure(kind: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(kind);
    status.set_message(words::harmless(message));
    status
}

fn skip(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(words::harmless(reason));
    status
}
