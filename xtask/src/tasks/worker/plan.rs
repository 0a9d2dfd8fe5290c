//! Which checks run, which are skipped and why. Pure.

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::tasks::worker::check::{Check, checks};
use crate::tasks::worker::record::event::Suite;

/// How far a name may be from what was typed to be offered as what was meant.
const NEAR_EDITS: usize = 4;

/// How many near matches are offered.
const OFFERED: usize = 3;

/// What was asked for on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These suites; `None` means isolation and contract, or all of them beside `checks`.
    pub suite: Option<SuiteChoice>,
    /// Globs over ids: only these.
    pub checks: Vec<String>,
    /// Globs over ids: all but these.
    pub skips: Vec<String>,
}

/// The values of `--suite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SuiteChoice {
    /// A whole life of one worker.
    Isolation,
    /// Every other sentence of the contract, with good and bad input.
    Contract,
    /// What a worker has to survive.
    Resilience,
    /// Everything.
    All,
}

/// A check that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// Its row.
    pub check: &'static Check,
    /// Why it doesn't run, if it doesn't.
    pub skipped: Option<&'static str>,
}

/// The checks that a selection asks for, in order. A pattern that matches nothing is an error.
pub fn plan(selection: &Selection) -> Result<Vec<Planned>> {
    for (option, patterns) in [("--check", &selection.checks), ("--skip", &selection.skips)] {
        for pattern in patterns {
            if !checks().any(|check| matches(pattern, check.id)) {
                bail!("{option} {pattern} matches no check{}", near(pattern));
            }
        }
    }
    let wanted = |check: &&Check| {
        selected_suite(selection, check.suite)
            && (selection.checks.is_empty()
                || selection
                    .checks
                    .iter()
                    .any(|pattern| matches(pattern, check.id)))
    };
    let planned: Vec<Planned> = checks()
        .filter(wanted)
        .map(|check| Planned {
            check,
            skipped: selection
                .skips
                .iter()
                .any(|pattern| matches(pattern, check.id))
                .then_some("left out by --skip"),
        })
        .collect();
    if planned.iter().all(|planned| planned.skipped.is_some()) {
        bail!("--suite, --check and --skip together leave no check\n  try: --list-checks");
    }
    Ok(planned)
}

/// The check of that name, or what was probably meant.
pub fn find(id: &str) -> Result<&'static Check> {
    match checks().find(|check| check.id == id) {
        Some(check) => Ok(check),
        None => bail!("there is no check {id}{}", near(id)),
    }
}

fn selected_suite(selection: &Selection, suite: Suite) -> bool {
    match selection.suite {
        Some(SuiteChoice::All) => true,
        Some(SuiteChoice::Isolation) => suite == Suite::Isolation,
        Some(SuiteChoice::Contract) => suite == Suite::Contract,
        Some(SuiteChoice::Resilience) => suite == Suite::Resilience,
        // Who names a check means it, whatever suite it is in.
        None => !selection.checks.is_empty() || suite != Suite::Resilience,
    }
}

/// Whether a glob with `*` (anything) and `?` (one character) matches the whole of `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // After a `*`: where to go on in the pattern, and how much the star has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p + 1, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, swallowed)) = star {
            star = Some((after, swallowed + 1));
            (p, t) = (after, swallowed + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// What was probably meant, as the rest of a message.
fn near(pattern: &str) -> String {
    let word = pattern.replace(['*', '?'], "");
    let distance = |id: &str| {
        let parts = id.split('.').chain([id]);
        parts
            .map(|part| edits(&word, part))
            .min()
            .unwrap_or(usize::MAX)
    };
    let mut candidates: Vec<_> = checks()
        .map(|check| (distance(check.id), check.id))
        .filter(|(edits, id)| *edits <= NEAR_EDITS.min(word.len() / 2) || id.contains(&word))
        .collect();
    candidates.sort_by_key(|(edits, _)| *edits);
    let names: Vec<_> = candidates
        .into_iter()
        .take(OFFERED)
        .map(|(_, id)| id)
        .collect();
    if names.is_empty() {
        String::from("\n  try: --list-checks")
    } else {
        format!("\n  near: {}\n  try: --list-checks", names.join(", "))
    }
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(selection: &Selection) -> Vec<&'static str> {
        let planned = plan(selection).unwrap();
        planned.iter().map(|planned| planned.check.id).collect()
    }

    fn globs(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|&pattern| pattern.to_owned()).collect()
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("heartbeat.*", "heartbeat.first", true),
            ("*", "", true),
            ("*first", "heartbeat.first", true),
            ("*.f?rst", "heartbeat.first", true),
            ("heart", "heartbeat.first", false),
            ("h*t*t", "heartbeat.first", true),
            ("h*t*x", "heartbeat.first", false),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_default_is_isolation_and_contract() {
        let planned = plan(&Selection::default()).unwrap();
        let expected: Vec<_> = checks()
            .filter(|check| check.suite != Suite::Resilience)
            .map(|check| check.id)
            .collect();
        assert_eq!(ids(&Selection::default()), expected);
        assert!(planned.iter().all(|planned| planned.skipped.is_none()));
    }

    #[test]
    fn a_check_is_found_in_any_suite_and_skips_are_shown() {
        let selection = Selection {
            checks: globs(&["heartbeat.*", "health.answers"]),
            skips: globs(&["*.first"]),
            suite: None,
        };
        let planned = plan(&selection).unwrap();
        assert_eq!(planned[0].check.id, "health.answers");
        assert_eq!(planned[1].check.id, "heartbeat.first");
        assert!(planned[1].skipped.is_some());
        assert!(planned[2].skipped.is_none());
    }

    #[test]
    fn a_pattern_without_a_match_is_refused_with_near_ones() {
        let refused = |checks: &[&str], skips: &[&str]| {
            let selection = Selection {
                checks: globs(checks),
                skips: globs(skips),
                suite: None,
            };
            plan(&selection).unwrap_err().to_string()
        };
        let message = refused(&["hartbeat.*"], &[]);
        assert!(message.contains("--check hartbeat.*"), "{message}");
        assert!(message.contains("near: heartbeat."), "{message}");
        assert!(refused(&[], &["zzz"]).contains("--list-checks"));
        assert!(refused(&["heartbeat.first"], &["*"]).contains("leave no check"));
    }

    #[test]
    fn a_check_is_explained_by_its_name() {
        assert_eq!(find("health.answers").unwrap().id, "health.answers");
        let message = find("health.answer").unwrap_err().to_string();
        assert!(message.contains("near: health.answers"), "{message}");
    }
}
