//! What failed in a recorded run, once more.

use std::ffi::OsString;
use std::io::{Write, stderr};
use std::path::Path;

use anyhow::{Result, ensure};

use super::environment::here;
use super::evidence::recorded;
use super::record::event::{CheckStatus, CheckSummary, Purpose};
use super::record::runs_compared::machines;
use super::reporter::words::{one_line, shell_word};
use super::workspace::Home;

/// The arguments that run again what failed or could not be judged in a recorded run. Says on standard
/// error what they are, and what is different on this machine.
pub fn arguments(run: &Path) -> Result<Vec<OsString>> {
    let report = recorded(run)?;
    let summaries = report.check_summaries();
    let is_wanted = |check: &&CheckSummary| {
        !matches!(check.outcome, CheckStatus::Passed | CheckStatus::Skipped)
    };
    let ids: Vec<&str> = summaries
        .iter()
        .filter(is_wanted)
        .map(|check| check.id.as_str())
        .collect();
    ensure!(!ids.is_empty(), "nothing failed in {}", run.display());
    ensure!(
        !report.arguments.is_empty(),
        "{} doesn't say how it was started: it is of an older version",
        run.display()
    );
    let mut arguments = report.arguments.clone();
    // Loads aren't selected one by one.
    if report.purpose() == Purpose::Suite {
        let checks = ids.iter();
        arguments.extend(checks.flat_map(|id| [String::from("--check"), (*id).to_owned()]));
    }
    let shown = arguments.iter().map(|word| shell_word(word));
    let mut told = vec![format!(
        "Again: cargo xtask {}",
        shown.collect::<Vec<_>>().join(" ")
    )];
    let here = here(&Home::find().root);
    told.extend(machines(&report, here).iter().map(|changed| {
        let [there, here] = changed
            .values
            .each_ref()
            .map(|value| value.as_deref().unwrap_or("unknown"));
        format!("  {}: {there} then, {here} now", changed.name)
    }));
    for line in told {
        // A terminal that is gone can't be told.
        let _ = writeln!(stderr(), "{}", one_line(&line));
    }
    Ok(arguments.into_iter().map(OsString::from).collect())
}
