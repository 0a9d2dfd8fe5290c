//! The summary: one line an area, and every broken promise in full. Pure.

use super::{bench, stress};
use crate::tasks::worker::record::event::{CheckRecord, Level, Outcome};
use crate::tasks::worker::record::report::{RunReport, Verdict};

/// The area of a check: what stands before the dot.
pub fn area_of(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

/// The summary's lines.
pub fn lines(report: &RunReport) -> Vec<String> {
    let mut lines = bench::lines(report);
    lines.extend(stress::lines(report));
    lines.push(String::from("\n📊 Test Summary"));
    lines.push(String::from("=================================="));
    let mut areas: Vec<&str> = Vec::new();
    for area in report.checks.iter().map(|check| area_of(&check.id)) {
        if !areas.contains(&area) {
            areas.push(area);
        }
    }
    for area in areas {
        let checks: Vec<_> = report
            .checks
            .iter()
            .filter(|c| area_of(&c.id) == area)
            .collect();
        lines.push(area_line(area, &checks, report));
        lines.extend(
            checks
                .iter()
                .filter_map(|check| trouble_lines(check, report)),
        );
    }
    if report.checks.is_empty() && !report.planned.is_empty() {
        let count = report.planned.len();
        lines.push(format!("➖ none of the {count} checks ran"));
    } else {
        let never_ran = report.never_ran();
        lines.extend(never_ran.map(|planned| format!("➖ {} did not run", planned.id)));
    }
    lines
}

/// The signals that end a run, as people know them.
pub fn signal_name(signal: i32) -> String {
    match signal {
        1 => String::from("SIGHUP"),
        2 => String::from("Ctrl-C"),
        15 => String::from("SIGTERM"),
        other => format!("signal {other}"),
    }
}

/// The last word of a run.
pub fn last_line(report: &RunReport) -> String {
    let purpose = report.purpose().as_str();
    let broken = |level| {
        let checks = report.checks.iter();
        checks
            .filter(|check| is_broken(check, level, report))
            .count()
    };
    match report.verdict() {
        Verdict::Passed => {
            let warnings = match broken(Level::Should) {
                0 => String::new(),
                1 => String::from(" (1 warning)"),
                many => format!(" ({many} warnings)"),
            };
            format!("\n✅ {purpose} complete - ALL TESTS PASSED!{warnings}")
        }
        Verdict::Failed => {
            let failed = broken(Level::Must);
            format!(
                "\n❌ {purpose} complete - {failed} of {} CHECKS FAILED",
                report.checks.len()
            )
        }
        Verdict::Invalid => format!("\n⚠️ {purpose} could not judge the worker"),
        Verdict::Interrupted(signal) => {
            let name = signal_name(signal);
            format!("\n⚠️ {purpose} interrupted by {name}")
        }
    }
}

fn is_broken(check: &CheckRecord, level: Level, report: &RunReport) -> bool {
    matches!(check.outcome, Outcome::Failed(_)) && report.level_of(&check.id) == level
}

fn area_line(area: &str, checks: &[&CheckRecord], report: &RunReport) -> String {
    let mut name = area.replace('_', " ");
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let duration_s = checks.iter().map(|check| check.duration_ms).sum::<u64>() as f64 / 1e3;
    let any = |wanted: fn(&Outcome) -> bool| checks.iter().any(|c| wanted(&c.outcome));
    let broken = |level| checks.iter().any(|check| is_broken(check, level, report));
    let (symbol, word) = if broken(Level::Must) {
        ("❌", "failed")
    } else if any(|outcome| matches!(outcome, Outcome::Invalid { .. })) {
        ("⚠️", "could not be judged")
    } else if broken(Level::Should) {
        ("⚠️", "passed with a warning")
    } else if any(|outcome| *outcome == Outcome::Passed) {
        ("✅", "passed")
    } else {
        ("➖", "skipped")
    };
    let count = match checks.len() {
        1 => String::new(),
        count => format!("{count} checks, "),
    };
    format!("{symbol} {name} test {word} ({count}{duration_s:.2}s)")
}

fn trouble_lines(check: &CheckRecord, report: &RunReport) -> Option<String> {
    let planned = report.planned.iter().find(|planned| planned.id == check.id);
    let promise = planned.map_or("", |planned| planned.promise.as_str());
    let should = match report.level_of(&check.id) {
        Level::Must => "",
        Level::Should => "should be one that ",
    };
    match &check.outcome {
        Outcome::Passed => None,
        Outcome::Failed(mismatch) => Some(format!(
            "   {}: the worker {should}{promise}\n      expected: {}\n      got:      {}\n      seen at:  {}",
            check.id, mismatch.expected, mismatch.got, mismatch.place
        )),
        Outcome::Invalid { reason } => {
            Some(format!("   {} could not be judged: {reason}", check.id))
        }
        Outcome::Skipped { reason } => Some(format!("   {} was skipped: {reason}", check.id)),
    }
}
