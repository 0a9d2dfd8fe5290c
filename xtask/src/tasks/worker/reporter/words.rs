//! Words that several reports share. Pure.

use crate::tasks::worker::record::event::{CheckRecord, Level, Outcome};
use crate::tasks::worker::record::report::{RunReport, Verdict};

/// "PASSED", and a sentence that says why.
pub fn verdict(report: &RunReport) -> (&'static str, String) {
    let count = |wanted: fn(&Outcome) -> bool| {
        let checks = report.checks.iter();
        checks.filter(|check| wanted(&check.outcome)).count()
    };
    let failed = report
        .checks
        .iter()
        .filter(|check| is_broken(check, report, Level::Must));
    let all = report.checks.len();
    match report.verdict() {
        Verdict::Passed => {
            let passed = count(|outcome| *outcome == Outcome::Passed);
            let left = match all - passed {
                0 => String::new(),
                left => format!(", {left} were skipped or warned of"),
            };
            (
                "PASSED",
                format!("The worker kept {passed} of {all} promises{left}."),
            )
        }
        Verdict::Failed => {
            let failed = failed.count();
            (
                "FAILED",
                format!("The worker broke {failed} of {all} promises."),
            )
        }
        Verdict::Invalid => ("INVALID", String::from("The worker could not be judged.")),
        Verdict::Interrupted(signal) => (
            "INTERRUPTED",
            format!("Signal {signal} ended the run early."),
        ),
    }
}

/// Whether the worker broke a promise of this weight.
pub fn is_broken(check: &CheckRecord, report: &RunReport, level: Level) -> bool {
    matches!(check.outcome, Outcome::Failed(_)) && report.level_of(&check.id) == level
}

/// "passed", "failed", "warned of", "invalid", "skipped".
pub fn outcome(check: &CheckRecord, report: &RunReport) -> &'static str {
    match &check.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) if is_broken(check, report, Level::Must) => "failed",
        Outcome::Failed(_) => "warning",
        Outcome::Invalid { .. } => "invalid",
        Outcome::Skipped { .. } => "skipped",
    }
}

/// What a check promises, as the plan says.
pub fn promise<'r>(id: &str, report: &'r RunReport) -> &'r str {
    let planned = report.planned.iter().find(|planned| planned.id == id);
    planned.map_or("", |planned| planned.promise.as_str())
}

/// "0.42 s" or "12 ms".
pub fn duration(duration_ms: f64) -> String {
    match duration_ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.2} s", ms / 1e3),
        ms => format!(
            "{:.0} min {:02.0} s",
            (ms / 60e3).floor(),
            (ms / 1e3) % 60.0
        ),
    }
}

/// A figure with as many digits as it bears.
pub fn figure(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The text without what a terminal, a page or a parser would obey.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => skip_escape(&mut characters),
            '\n' | '\t' => shown.push(c),
            // Marks that turn the direction of text around can make it say something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                shown.push('\u{fffd}');
            }
            '\u{fffe}' | '\u{ffff}' => shown.push('\u{fffd}'),
            c if c.is_control() => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

/// The rest of an ANSI sequence: parameters up to the letter that ends it.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if characters.next_if_eq(&'[').is_none() {
        return;
    }
    while characters
        .next_if(|c| matches!(c, '\x20'..='\x3f'))
        .is_some()
    {}
    characters.next_if(|c| matches!(c, '\x40'..='\x7e'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_taken_out() {
        assert_eq!(
            harmless("\x1b[31;1mred\x1b[0m\0\u{202e}x"),
            "red\u{fffd}\u{fffd}x"
        );
        assert_eq!(harmless("a\x1b"), "a");
        assert_eq!(harmless("a\tb\nc"), "a\tb\nc");
    }

    #[test]
    fn durations_are_told_as_people_tell_them() {
        let told = [1.26, 42.4, 1234.0, 125_000.0].map(duration);
        assert_eq!(told, ["1.3 ms", "42 ms", "1.23 s", "2 min 05 s"]);
    }
}
