//! Many runs folded into one matrix: a column a backend (and machine), a row a check, the measures,
//! the verdict over all of them and the exit code. Pure.

pub mod agreement;
pub mod summary;

use serde::Serialize;

use self::agreement::{Agreement, agreements};
use self::summary::{Figure, KIND, RunSummary, SummaryVerdict};
use super::event::{CheckStatus, Level, RunInfo, SCHEMA_VERSION};
use super::report::Verdict;

/// Many runs side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Matrix {
    /// [`KIND`].
    pub kind: &'static str,
    /// Version of this document's shape, which is that of the events.
    pub schema_version: u32,
    /// passed, failed, invalid or interrupted: the worst of the columns.
    pub verdict: SummaryVerdict,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// The run that tested all of them; none where reports were merged.
    pub run: Option<RunInfo>,
    /// That run's whole duration.
    pub duration_ms: Option<u64>,
    /// The signal that ended it early.
    pub interrupted_by: Option<i32>,
    /// Why there is nothing to judge by, although no column says so.
    pub troubles: Vec<String>,
    /// The columns' headings, none of them twice.
    pub names: Vec<String>,
    /// The runs.
    pub columns: Vec<RunSummary>,
    /// Every check of any of them.
    pub rows: Vec<MatrixRow>,
    /// Every measure of any of them.
    pub measures: Vec<MeasureRow>,
    /// Whether the backends continue the same texts in the same way.
    pub agreement: Vec<Agreement>,
}

/// One check in every column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatrixRow {
    /// The check's stable name.
    pub id: String,
    /// What it belongs to.
    pub suite: Option<String>,
    /// How much weight it has.
    pub level: Level,
    /// Completes the sentence "The worker ...".
    pub promise: String,
    /// How it ended in each column; `None` where it wasn't asked for.
    pub outcomes: Vec<Option<CheckStatus>>,
    /// Whether it passed in every column that ran.
    pub all_passed: bool,
}

/// One measure in every column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasureRow {
    /// Its stable name.
    pub name: String,
    /// The unit of its figures.
    pub unit: String,
    /// The median in each column, and how many samples it rests on.
    pub figures: Vec<Option<Figure>>,
}

/// How the run over all columns went, beside what they say themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunMetadata {
    /// The run; none where reports are merged.
    pub run: Option<RunInfo>,
    /// Its whole duration.
    pub duration_ms: Option<u64>,
    /// The signal that ended it early.
    pub interrupted_by: Option<i32>,
    /// Processes and ports that outlived it.
    pub survivors: Vec<String>,
}

impl Matrix {
    /// Puts the runs side by side, in the order given.
    pub fn fold(columns: Vec<RunSummary>, metadata: RunMetadata) -> Self {
        let agreement = agreements(&columns);
        let mut troubles = troubles(&columns);
        let survivors = metadata.survivors.iter();
        troubles.extend(survivors.map(|survivor| format!("left behind: {survivor}")));
        let verdict = verdict(&columns, &agreement, &troubles, metadata.interrupted_by);
        let mut measures = measures(&columns);
        measures.extend(agreement_row(&agreement, columns.len()));
        Self {
            kind: KIND,
            schema_version: SCHEMA_VERSION,
            verdict: match verdict {
                Verdict::Passed => SummaryVerdict::Passed,
                Verdict::Failed => SummaryVerdict::Failed,
                Verdict::Invalid => SummaryVerdict::Invalid,
                Verdict::Interrupted(_) => SummaryVerdict::Interrupted,
            },
            exit_code: verdict.exit_code(),
            run: metadata.run,
            duration_ms: metadata.duration_ms,
            interrupted_by: metadata.interrupted_by,
            troubles,
            names: names(&columns),
            rows: rows(&columns),
            measures,
            agreement,
            columns,
        }
    }

    /// Headings and columns together.
    pub fn named(&self) -> impl Iterator<Item = (&str, &RunSummary)> {
        self.names.iter().map(String::as_str).zip(&self.columns)
    }
}

/// The worst of the columns: an interruption outweighs a broken promise, which outweighs what could
/// not be judged. A skip weighs nothing, unless somebody required that backend.
fn verdict(
    columns: &[RunSummary],
    agreement: &[Agreement],
    troubles: &[String],
    interrupted_by: Option<i32>,
) -> Verdict {
    let any = |wanted| columns.iter().any(|column| column.verdict == wanted);
    let signal = || columns.iter().find_map(|column| column.interrupted_by);
    if let Some(signal) = interrupted_by.or_else(signal) {
        Verdict::Interrupted(signal)
    } else if any(SummaryVerdict::Failed) || agreement.iter().any(Agreement::is_broken) {
        Verdict::Failed
    } else if any(SummaryVerdict::Invalid) || !troubles.is_empty() {
        Verdict::Invalid
    } else {
        Verdict::Passed
    }
}

fn troubles(columns: &[RunSummary]) -> Vec<String> {
    let missing = columns.iter().filter(|column| column.required).filter_map(|column| {
        let reason = column.reason.as_deref().unwrap_or("it was not tested");
        let skipped = column.verdict == SummaryVerdict::Skipped;
        skipped.then(|| {
            format!(
                "{backend} is required, and could not be tested: {reason}\n  try: a machine that has it, or no `--require {backend}`",
                backend = column.backend
            )
        })
    });
    let mut troubles: Vec<String> = missing.collect();
    if columns.iter().all(|column| !column.ran()) {
        troubles.push(String::from("no backend was tested"));
    }
    troubles
}

/// The backend, with the machine where there are several and the shard where there is one, with a number
/// where that isn't enough.
fn names(columns: &[RunSummary]) -> Vec<String> {
    let mut machines = columns.iter().filter_map(|column| column.machine.as_ref());
    let first = machines.next();
    let one_machine = machines.all(|machine| Some(machine) == first);
    let mut names: Vec<String> = Vec::new();
    for column in columns {
        let name = match &column.machine {
            Some(machine) if !one_machine => format!("{machine} {}", column.backend),
            _ => column.backend.clone(),
        };
        let name = match &column.shard {
            Some(shard) => format!("{name} {shard}"),
            None => name,
        };
        let mut unique = name.clone();
        let mut number = 1;
        while names.contains(&unique) {
            number += 1;
            unique = format!("{name} #{number}");
        }
        names.push(unique);
    }
    names
}

/// Rows in the order of the first column that has them; what others add comes where they have it, or
/// last where they have nothing else, as shards do.
fn rows(columns: &[RunSummary]) -> Vec<MatrixRow> {
    let mut rows: Vec<MatrixRow> = Vec::new();
    for column in columns {
        let known = |row: &MatrixRow| column.check(&row.id).is_some();
        let mut at = match rows.iter().any(known) {
            true => 0,
            false => rows.len(),
        };
        for check in &column.checks {
            if let Some(known) = rows.iter().position(|row| row.id == check.id) {
                at = known + 1;
                continue;
            }
            let row = MatrixRow {
                id: check.id.clone(),
                suite: check.suite.clone(),
                level: check.level,
                promise: check.promise.clone(),
                outcomes: columns.iter().map(|c| c.outcome_of(&check.id)).collect(),
                all_passed: columns
                    .iter()
                    .filter(|column| column.ran())
                    .all(|column| column.outcome_of(&check.id) == Some(CheckStatus::Passed)),
            };
            rows.insert(at, row);
            at += 1;
        }
    }
    rows
}

fn measures(columns: &[RunSummary]) -> Vec<MeasureRow> {
    let mut rows: Vec<MeasureRow> = Vec::new();
    for measure in columns.iter().flat_map(|column| &column.measures) {
        let same = |row: &MeasureRow| row.name == measure.name && row.unit == measure.unit;
        if rows.iter().any(same) {
            continue;
        }
        let figure = |column: &RunSummary| {
            let mut of_column = column.measures.iter();
            let found = of_column.find(|m| m.name == measure.name && m.unit == measure.unit)?;
            Some(found.figure)
        };
        rows.push(MeasureRow {
            name: measure.name.clone(),
            unit: measure.unit.clone(),
            figures: columns.iter().map(figure).collect(),
        });
    }
    rows
}

/// The agreement as a measure like others: a share of positions.
fn agreement_row(agreement: &[Agreement], columns: usize) -> Option<MeasureRow> {
    let mut figures = vec![None; columns];
    for found in agreement {
        figures[found.column] = Some(Figure {
            n: found.positions,
            p50: found.percent(),
        });
    }
    (!agreement.is_empty()).then(|| MeasureRow {
        name: String::from("greedy_agreement"),
        unit: String::from("%"),
        figures,
    })
}

#[cfg(test)]
mod tests;
