//! Which checks run, which are skipped and why. Pure.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::tasks::worker::record::check::CheckInfo;
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
    /// Only this part of what is left.
    pub shard: Option<Shard>,
}

/// The `index`th part of `count`, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            Some(Self {
                index: index.parse().ok()?,
                count: count.parse().ok()?,
            })
        });
        parts
            .filter(|shard| (1..=shard.count).contains(&shard.index))
            .ok_or_else(|| String::from("I/N is wanted, with I from 1 to N, such as 2/3"))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
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
    /// What is known of it.
    pub info: &'static CheckInfo,
    /// Why it doesn't run, if it doesn't.
    pub skipped: Option<&'static str>,
}

/// The checks among `rows` that a selection asks for, in their order. A pattern that matches nothing
/// is an error, and so is one that matches only what another kind of run tries.
pub fn plan(rows: &[&'static CheckInfo], selection: &Selection) -> Result<Vec<Planned>> {
    for (option, patterns) in [("--check", &selection.checks), ("--skip", &selection.skips)] {
        for pattern in patterns {
            ensure_matches(rows, option, pattern)?;
        }
    }
    let is_wanted = |row: &&&'static CheckInfo| {
        row.option().is_none()
            && selected_suite(selection, row.suite)
            && (selection.checks.is_empty() || any_matches(&selection.checks, row.id))
    };
    let planned: Vec<Planned> = rows
        .iter()
        .filter(is_wanted)
        .enumerate()
        // Those of one area take about as long as each other.
        .filter(|(at, _)| {
            selection
                .shard
                .is_none_or(|shard| at % shard.count == shard.index - 1)
        })
        .map(|(_, row)| Planned {
            info: row,
            skipped: any_matches(&selection.skips, row.id).then_some("left out by --skip"),
        })
        .collect();
    if planned.iter().all(|planned| planned.skipped.is_some()) {
        bail!("--suite, --check and --skip together select no check\n  try: --list-checks");
    }
    Ok(planned)
}

/// The check of that name, or what was probably meant.
pub fn find(rows: &[&'static CheckInfo], id: &str) -> Result<&'static CheckInfo> {
    match rows.iter().find(|row| row.covers(id)) {
        Some(row) => Ok(row),
        None => bail!("there is no check {id}{}", near(rows, id)),
    }
}

fn ensure_matches(rows: &[&'static CheckInfo], option: &str, pattern: &str) -> Result<()> {
    let matching = || {
        rows.iter()
            .filter(|row| matches(pattern, row.id) || row.covers(pattern))
    };
    if matching().any(|row| row.option().is_none()) {
        return Ok(());
    }
    match matching().find_map(|row| row.option()) {
        Some(mode) => bail!("{option} {pattern}: the checks of {mode} are not selected one by one"),
        None => bail!("{option} {pattern} matches no check{}", near(rows, pattern)),
    }
}

fn any_matches(patterns: &[String], id: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, id))
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
fn near(rows: &[&'static CheckInfo], pattern: &str) -> String {
    let word = pattern.replace(['*', '?'], "");
    let distance = |id: &str| {
        let parts = id.split('.').chain([id]);
        parts
            .map(|part| strsim::levenshtein(&word, part))
            .min()
            .unwrap_or(usize::MAX)
    };
    let mut candidates: Vec<_> = rows
        .iter()
        .map(|row| (distance(row.id), row.id))
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
        format!("\n  similar: {}\n  try: --list-checks", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::check::Phase;

    const ROWS: &[&CheckInfo] = &[
        &CheckInfo::row("health.answers", Suite::Isolation, Phase::Serving),
        &CheckInfo::row("heartbeat.first", Suite::Isolation, Phase::Serving),
        &CheckInfo::row("heartbeat.payload", Suite::Contract, Phase::Serving),
        &CheckInfo::row("hive.hangs", Suite::Resilience, Phase::Serving),
        &CheckInfo::row("bench.sweep_*", Suite::Benchmark, Phase::Benchmark),
    ];

    fn ids(selection: &Selection) -> Vec<&'static str> {
        let planned = plan(ROWS, selection).unwrap();
        planned.iter().map(|planned| planned.info.id).collect()
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
        let expected = ["health.answers", "heartbeat.first", "heartbeat.payload"];
        assert_eq!(ids(&Selection::default()), expected);
        let planned = plan(ROWS, &Selection::default()).unwrap();
        assert!(planned.iter().all(|planned| planned.skipped.is_none()));
        let all = Selection {
            suite: Some(SuiteChoice::All),
            ..Selection::default()
        };
        assert_eq!(ids(&all).len(), 4);
    }

    #[test]
    fn a_check_is_found_in_any_suite_and_skips_are_shown() {
        let selection = Selection {
            checks: globs(&["heartbeat.*", "health.answers"]),
            skips: globs(&["*.first"]),
            ..Selection::default()
        };
        let planned = plan(ROWS, &selection).unwrap();
        assert_eq!(planned[0].info.id, "health.answers");
        assert_eq!(planned[1].info.id, "heartbeat.first");
        assert!(planned[1].skipped.is_some());
        assert!(planned[2].skipped.is_none());
    }

    #[test]
    fn every_check_is_in_one_shard() {
        for count in 1..=6 {
            let shard = |index: usize| {
                let shard = Some(format!("{index}/{count}").parse().unwrap());
                let suite = Some(SuiteChoice::All);
                let selection = Selection {
                    suite,
                    shard,
                    ..Selection::default()
                };
                plan(ROWS, &selection).map_or_else(
                    |_| Vec::new(),
                    |planned| planned.iter().map(|planned| planned.info.id).collect(),
                )
            };
            let mut all: Vec<_> = (1..=count).flat_map(shard).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 4, "{count}");
            assert_eq!(
                (1..=count).map(|index| shard(index).len()).sum::<usize>(),
                4
            );
        }
        for wrong in ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_without_a_match_is_refused_with_near_ones() {
        let refused = |checks: &[&str], skips: &[&str]| {
            let selection = Selection {
                checks: globs(checks),
                skips: globs(skips),
                ..Selection::default()
            };
            plan(ROWS, &selection).unwrap_err().to_string()
        };
        let message = refused(&["hartbeat.*"], &[]);
        assert!(message.contains("--check hartbeat.*"), "{message}");
        assert!(message.contains("similar: heartbeat."), "{message}");
        assert!(refused(&[], &["zzz"]).contains("--list-checks"));
        assert!(refused(&["heartbeat.first"], &["*"]).contains("select no check"));
        for benchmark in ["bench.*", "bench.sweep_4"] {
            assert!(refused(&[benchmark], &[]).contains("--benchmark"));
        }
    }

    #[test]
    fn a_check_is_explained_by_its_name() {
        assert_eq!(find(ROWS, "bench.sweep_8").unwrap().id, "bench.sweep_*");
        assert_eq!(find(ROWS, "health.answers").unwrap().id, "health.answers");
        let message = find(ROWS, "health.answer").unwrap_err().to_string();
        assert!(message.contains("similar: health.answers"), "{message}");
    }
}
