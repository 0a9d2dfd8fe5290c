//! Figures that are kept under a name, and later ones that are held against them.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::measured::planned_as;
use crate::tasks::worker::config::benchmark::BenchmarkConfig;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::mode::tried::tried;
use crate::tasks::worker::record::baseline::{BASELINE_VERSION, Baseline};
use crate::tasks::worker::record::compare::{Change, Comparison};
use crate::tasks::worker::record::event::{CheckRecord, EventKind, Mismatch, PlannedCheck};
use crate::tasks::worker::record::report::{RunReport, Verdict};
use crate::tasks::worker::target::RunContext;

/// The folder of baselines, beside the folders of runs.
const FOLDER: &str = "baselines";

/// The verdict on the comparison with a baseline.
const ID: &str = "bench.baseline";

/// What is planned where a baseline is asked for.
pub fn planned(config: &BenchmarkConfig) -> Option<PlannedCheck> {
    config.baseline.as_ref()?;
    planned_as(ID, "")
}

/// Compares the run with the baseline that is asked for, then keeps it where that is asked for.
///
/// `runs` is the folder of all runs' folders.
pub fn compare_and_save(
    config: &BenchmarkConfig,
    runs: &Path,
    context: RunContext<'_>,
) -> Result<()> {
    let journal = context.journal;
    if let Some(name) = &config.baseline {
        tried(context, ID, || {
            compare(&path_of(runs, name), name, config.floor, journal)
        })?;
    }
    if let Some(name) = &config.save_baseline {
        let path = path_of(runs, name);
        let message = save(&path, &journal.so_far()?)?;
        journal.emit(EventKind::Noted { message });
    }
    Ok(())
}

fn path_of(runs: &Path, name: &str) -> PathBuf {
    runs.join(FOLDER).join(format!("{name}.json"))
}

fn compare(path: &Path, name: &str, floor: f64, journal: &Journal) -> Result<String> {
    let baseline = load(path, name)?;
    let report = journal.so_far()?;
    let differences = baseline.differences(&report);
    ensure!(
        differences.is_empty(),
        "the baseline {name} was taken under other conditions, so a comparison would mean \
         nothing\n  {}\n  try: --save-baseline with another name",
        differences.join("\n  ")
    );
    let comparisons = baseline.compare(&report.scenarios, floor);
    tell(&comparisons, &format!("the baseline {name}"), journal)
}

/// Tells the journal of each comparison. Fails with a [`Mismatch`] where something became worse, and
/// otherwise where nothing could be said.
pub fn tell(comparisons: &[Comparison], other: &str, journal: &Journal) -> Result<String> {
    for comparison in comparisons {
        journal.emit(EventKind::Compared(comparison.clone()));
    }
    let of = |judgement: Change| {
        let those = comparisons.iter().filter(move |c| c.judgement == judgement);
        those.map(|comparison| format!("{} by {:.3}", comparison.name, comparison.ratio))
    };
    let worse: Vec<_> = of(Change::Worse).collect();
    if !worse.is_empty() {
        let floor = comparisons
            .first()
            .map_or(0.0, |comparison| comparison.floor * 100.0);
        let expected = format!("no figure worse by more than {floor} % and its interval");
        return Err(Mismatch::new(format!("beside {other}"), expected, worse.join(", ")).into());
    }
    let unclear: Vec<_> = of(Change::Unclear).collect();
    ensure!(
        !comparisons.is_empty() && unclear.is_empty(),
        "too few requests to compare with {other}: {}\n  try: a longer --duration",
        if unclear.is_empty() {
            String::from("no load in common")
        } else {
            unclear.join(", ")
        }
    );
    let better = of(Change::Better).count();
    Ok(format!(
        "{} figures, {better} of them better",
        comparisons.len()
    ))
}

fn load(path: &Path, name: &str) -> Result<Baseline> {
    let text = std::fs::read_to_string(path).with_context(|| {
        let shown = path.display();
        format!("there is no baseline {name} in {shown}\n  try: --save-baseline {name}")
    })?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("the baseline {} is broken", path.display()))?;
    let version = value["baseline_version"].as_u64().unwrap_or(0);
    if version > u64::from(BASELINE_VERSION) {
        bail!(
            "the baseline {} has version {version}, but this tool reads {BASELINE_VERSION}",
            path.display()
        );
    }
    let read = serde_json::from_value(value);
    read.with_context(|| format!("the baseline {} is broken", path.display()))
}

/// Keeps the figures of a run that is green so far; gives a sentence that says so.
fn save(path: &Path, report: &RunReport) -> Result<String> {
    // What comes after the loads hasn't run yet, and says nothing about the figures.
    let has_passed = |record: &&CheckRecord| record.outcome.has_passed();
    let all_passed = report.checks.iter().all(|record| has_passed(&record));
    if !all_passed || matches!(report.verdict(), Verdict::Failed | Verdict::Interrupted(_)) {
        return Ok(format!(
            "not kept as {}: the run isn't green",
            path.display()
        ));
    }
    let text = serde_json::to_string_pretty(&Baseline::of(report))?;
    let folder = path.parent().unwrap_or(path);
    // A new file of this run's own: no link is followed, and no other run writes to it.
    let beside = path.with_extension(format!("{}.part", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::File::create_new(&beside))
        .and_then(|mut file| file.write_all((text + "\n").as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path))
        .inspect_err(|_| drop(std::fs::remove_file(&beside)))
        .with_context(|| format!("cannot keep the baseline {}", path.display()))?;
    Ok(format!("kept as {}", path.display()))
}
