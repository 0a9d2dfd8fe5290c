//! One column of a matrix: what it takes from a run's `report.json`, and how that is read. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tasks::worker::record::event::{CheckStatus, CheckSummary, SCHEMA_VERSION};
use crate::tasks::worker::record::facts::{Environment, Greedy};
use crate::tasks::worker::record::measure::current_name;

/// What `kind` says in a matrix's `report.json`; the report of a single run has none.
pub const KIND: &str = "matrix";

/// More runs than these nobody puts side by side.
const COLUMNS_KEPT: usize = 100;

/// More checks or measures than these no run has.
const PARTS_KEPT: usize = 1000;

/// One run in a matrix, or why there was none.
///
/// Fields that a report lacks stay empty, and fields that nobody here knows are passed over, so that
/// reports of older versions are read, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// cpu, cuda or metal.
    pub backend: String,
    /// The machine's name.
    #[serde(default)]
    pub machine: Option<String>,
    /// Which part of the checks it ran, such as 1/2; none where it ran all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// What the run came to.
    pub verdict: SummaryVerdict,
    /// The run's exit code; none where it never began.
    #[serde(default)]
    pub exit_code: Option<u8>,
    /// Why it was skipped, or has no report.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether somebody asked for this very backend, so that a skip is no answer.
    #[serde(default)]
    pub required: bool,
    /// Where the run's own reports are, as seen from the machine that it ran on.
    #[serde(default)]
    pub artifacts: Option<String>,
    /// Wall clock at its start, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// Its whole duration.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// The signal that ended it early.
    #[serde(default)]
    pub interrupted_by: Option<i32>,
    /// The machine.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// The model under test.
    #[serde(default)]
    pub model: Option<ModelPart>,
    /// Which device of the backend.
    #[serde(default)]
    pub device: Option<u32>,
    /// Every check that was planned or ran.
    #[serde(default)]
    pub checks: Vec<CheckSummary>,
    /// Every measure.
    #[serde(default)]
    pub measures: Vec<MeasurePart>,
    /// What it answered to the teacher's texts.
    #[serde(default)]
    pub greedy: Option<Greedy>,
    /// Why it could not go on or could not judge.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// Processes and ports that outlived it.
    #[serde(default)]
    pub survivors: Vec<String>,
}

/// What a run, or all of them together, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SummaryVerdict {
    /// Everything that was asked for ran, and passed.
    Passed,
    /// The worker broke a promise.
    Failed,
    /// It could not be judged.
    Invalid,
    /// A signal ended it early.
    Interrupted,
    /// It never began, for the reason given.
    Skipped,
}

/// What a matrix shows of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPart {
    /// What heartbeats call it.
    pub model_ref: String,
    /// The type that most of its weights are stored in.
    #[serde(default)]
    pub quantisation: Option<String>,
    /// Of its file, in hexadecimal.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// A measure of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasurePart {
    /// Its stable name.
    #[serde(deserialize_with = "current_name")]
    pub name: String,
    /// The unit of its figures.
    pub unit: String,
    /// Its median.
    #[serde(flatten)]
    pub figure: Figure,
}

/// The middle of a measure's samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// How many samples.
    pub n: usize,
    /// Their median.
    pub p50: f64,
}

/// Why a file can't become a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnreadableReport {
    /// A later version of this program wrote it.
    Newer {
        /// The version of its schema.
        version: u64,
    },
    /// It isn't a report, or not a whole one.
    NotAReport {
        /// What is wrong with it.
        cause: String,
    },
}

/// The parts of a run's `report.json` that stand elsewhere in a column.
#[derive(Debug, Deserialize)]
struct RunPart {
    #[serde(default)]
    run: Option<StartPart>,
    #[serde(default)]
    environment: Option<Environment>,
    #[serde(default)]
    worker: Option<WorkerPart>,
    #[serde(default)]
    options: Value,
    #[serde(default)]
    scenarios: Vec<ScenarioPart>,
}

/// What a benchmark measured under one load.
#[derive(Debug, Deserialize)]
struct ScenarioPart {
    plan: PlanPart,
    valid: usize,
    output_tokens_per_s: f64,
    #[serde(default)]
    measures: Vec<MeasurePart>,
}

#[derive(Debug, Deserialize)]
struct PlanPart {
    name: String,
}

#[derive(Debug, Deserialize)]
struct StartPart {
    started_at: String,
    artifacts: String,
}

#[derive(Debug, Deserialize)]
struct WorkerPart {
    backend: String,
    device: u32,
}

#[derive(Debug, Deserialize)]
struct MatrixPart {
    columns: Vec<RunSummary>,
}

impl RunSummary {
    /// A backend that was not tested.
    pub fn skipped(backend: &str, reason: String) -> Self {
        Self::without_report(backend, SummaryVerdict::Skipped, None, reason)
    }

    /// A run that left no report.
    pub fn lost(backend: &str, exit_code: Option<u8>, reason: String) -> Self {
        Self::without_report(backend, SummaryVerdict::Invalid, exit_code, reason)
    }

    /// Whether there was a run.
    pub fn ran(&self) -> bool {
        self.verdict != SummaryVerdict::Skipped
    }

    /// How a check ended here; `None` where nobody asked for it.
    pub fn outcome_of(&self, id: &str) -> Option<CheckStatus> {
        self.check(id).map(|check| check.outcome)
    }

    /// A check of this run.
    pub fn check(&self, id: &str) -> Option<&CheckSummary> {
        self.checks.iter().find(|check| check.id == id)
    }

    fn without_report(
        backend: &str,
        verdict: SummaryVerdict,
        exit_code: Option<u8>,
        reason: String,
    ) -> Self {
        Self {
            backend: backend.to_owned(),
            machine: None,
            shard: None,
            verdict,
            exit_code,
            reason: Some(reason),
            required: false,
            artifacts: None,
            started_at: None,
            duration_ms: None,
            interrupted_by: None,
            environment: None,
            model: None,
            device: None,
            checks: Vec::new(),
            measures: Vec::new(),
            greedy: None,
            troubles: Vec::new(),
            survivors: Vec::new(),
        }
    }
}

/// The columns of a `report.json`: one of a run's, all of them of a matrix's.
pub fn read(text: &str) -> Result<Vec<RunSummary>, UnreadableReport> {
    let document: Value = serde_json::from_str(text).map_err(|error| not_a_report(&error))?;
    let Some(version) = document["schema_version"].as_u64() else {
        let cause = String::from("it has no `schema_version`");
        return Err(UnreadableReport::NotAReport { cause });
    };
    if version > u64::from(SCHEMA_VERSION) {
        return Err(UnreadableReport::Newer { version });
    }
    match document["kind"].as_str() {
        Some(KIND) => {
            let matrix: MatrixPart =
                serde_json::from_value(document).map_err(|error| not_a_report(&error))?;
            if matrix.columns.len() > COLUMNS_KEPT {
                let cause = format!("it has more than {COLUMNS_KEPT} columns");
                return Err(UnreadableReport::NotAReport { cause });
            }
            matrix.columns.into_iter().map(bounded).collect()
        }
        Some(kind) => Err(UnreadableReport::NotAReport {
            cause: format!("it is of the kind `{kind}`"),
        }),
        None => Ok(vec![bounded(read_run(document)?)?]),
    }
}

/// Refuses what no run has so many of.
fn bounded(run: RunSummary) -> Result<RunSummary, UnreadableReport> {
    if run.checks.len().max(run.measures.len()) > PARTS_KEPT {
        let cause = format!("it has more than {PARTS_KEPT} checks or measures");
        return Err(UnreadableReport::NotAReport { cause });
    }
    Ok(run)
}

fn read_run(mut document: Value) -> Result<RunSummary, UnreadableReport> {
    let part: RunPart =
        serde_json::from_value(document.clone()).map_err(|error| not_a_report(&error))?;
    // A run that never came to a worker still knows what it was asked for.
    let asked_for = part.options["backend"].as_str().map(str::to_owned);
    let backend = part.worker.as_ref().map(|worker| worker.backend.clone());
    if let Some(fields) = document.as_object_mut() {
        let backend = backend.or(asked_for);
        fields.insert(String::from("backend"), backend.unwrap_or_default().into());
        fields.remove("reason");
    }
    let mut column: RunSummary =
        serde_json::from_value(document).map_err(|error| not_a_report(&error))?;
    column.shard = part.options["shard"].as_str().map(str::to_owned);
    column.machine = part.environment.and_then(|machine| machine.host);
    let scenarios = part.scenarios.into_iter();
    column
        .measures
        .extend(scenarios.flat_map(ScenarioPart::measures));
    column.device = part.worker.map(|worker| worker.device);
    if let Some(run) = part.run {
        column.started_at = Some(run.started_at);
        column.artifacts = Some(run.artifacts);
    }
    Ok(column)
}

impl ScenarioPart {
    /// Its figures, named after the load that they were taken under.
    fn measures(self) -> impl Iterator<Item = MeasurePart> {
        let throughput = MeasurePart {
            name: String::from("output_throughput"),
            unit: String::from("tokens/s"),
            figure: Figure {
                n: self.valid,
                p50: self.output_tokens_per_s,
            },
        };
        let load = self.plan.name;
        let measures = self.measures.into_iter().chain([throughput]);
        measures.map(move |measure| MeasurePart {
            name: format!("{load}.{}", measure.name),
            ..measure
        })
    }
}

fn not_a_report(error: &serde_json::Error) -> UnreadableReport {
    UnreadableReport::NotAReport {
        cause: error.to_string(),
    }
}

impl SummaryVerdict {
    /// As reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            SummaryVerdict::Passed => "passed",
            SummaryVerdict::Failed => "failed",
            SummaryVerdict::Invalid => "invalid",
            SummaryVerdict::Interrupted => "interrupted",
            SummaryVerdict::Skipped => "skipped",
        }
    }
}

impl std::fmt::Display for UnreadableReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnreadableReport::Newer { version } => write!(
                f,
                "it has schema version {version}, but this xtask reads up to {SCHEMA_VERSION}\n  try: the xtask that wrote it, or a newer one"
            ),
            UnreadableReport::NotAReport { cause } => write!(
                f,
                "it is not a report of a run: {cause}\n  try: the report.json of a run's artifact folder"
            ),
        }
    }
}

impl std::error::Error for UnreadableReport {}
