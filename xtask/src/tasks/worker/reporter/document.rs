//! `report.json`: the whole run for machines. `docs/report.schema.json` describes it. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tasks::worker::record::bench::Calibration;
use crate::tasks::worker::record::compare::Comparison;
use crate::tasks::worker::record::event::{
    CheckSummary, ModelInfo, RunInfo, SCHEMA_VERSION, WorkerInfo,
};
use crate::tasks::worker::record::facts::{Environment, Greedy};
use crate::tasks::worker::record::measure::Measure;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::record::stress::WorkerUnderStress;
use crate::tasks::worker::record::timeline::Timeline;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Version of this document's shape.
    pub schema_version: u32,
    /// passed, failed, invalid or interrupted.
    pub verdict: String,
    /// The exit code of the run.
    pub exit_code: u8,
    /// What was asked for, and when.
    pub run: Option<RunInfo>,
    /// The run's whole duration.
    pub duration_ms: Option<u64>,
    /// Each option by its name on the command line.
    pub options: BTreeMap<String, Value>,
    /// What the machine is.
    pub environment: Option<Environment>,
    /// The model under test.
    pub model: Option<HashedModel>,
    /// The worker as it was started.
    pub worker: Option<WorkerInfo>,
    /// How the worker ended.
    pub worker_exit: Option<String>,
    /// Every check that was planned or ran.
    pub checks: Vec<CheckSummary>,
    /// Every measure, with its unit and the number of its samples.
    pub measures: Vec<Measure>,
    /// What was measured under load.
    pub scenarios: Vec<ScenarioRecord>,
    /// How exact the load generator is.
    pub calibration: Option<Calibration>,
    /// Figures beside those of another worker.
    pub comparisons: Vec<Comparison>,
    /// What became of each of several workers under load.
    pub stress: Vec<WorkerUnderStress>,
    /// What reached the hive.
    pub heartbeats: Vec<Beat>,
    /// Heartbeats beyond those.
    pub heartbeats_left_out: u64,
    /// What a worker like it goes on with along some texts, where backends are compared.
    pub greedy: Option<Greedy>,
    /// What happened when.
    pub timeline: Timeline,
    /// Worth knowing, without weight on the verdict.
    pub notes: Vec<String>,
    /// Why the run could not go on or could not judge.
    pub troubles: Vec<String>,
    /// The signal that ended the run early.
    pub interrupted_by: Option<i32>,
    /// Processes and ports that outlived the run.
    pub survivors: Vec<String>,
    /// The last lines of the worker's log.
    pub worker_log: Vec<String>,
}

/// A model and the hash of its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HashedModel {
    /// Its file and what that says about itself.
    #[serde(flatten)]
    pub info: ModelInfo,
    /// Of the file, in hexadecimal.
    pub sha256: Option<String>,
}

/// A heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// 1 for the first that reached the hive.
    pub number: u32,
    /// Arrival on the run's axis.
    pub arrived_ms: f64,
    /// By how much it was later than due, where it was due.
    pub late_ms: Option<f64>,
    /// The body.
    pub body: Value,
    /// What the hive answered.
    pub answered: Option<u16>,
}

/// The document as text.
pub fn render(report: &RunReport) -> String {
    pretty(&document(report))
}

/// A value as indented JSON with a line end.
pub fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// The document as a value.
pub fn document(report: &RunReport) -> Document {
    Document {
        schema_version: SCHEMA_VERSION,
        verdict: report.verdict().as_str().to_owned(),
        exit_code: report.verdict().exit_code(),
        run: report.run.clone(),
        duration_ms: report.duration_ms,
        options: report.options.clone(),
        environment: report.environment.clone(),
        model: report.model.clone().map(|info| HashedModel {
            info,
            sha256: report.model_sha256.clone(),
        }),
        worker: report.worker.clone(),
        worker_exit: report.worker_exit.clone(),
        checks: report.check_summaries(),
        measures: report.measures(),
        scenarios: report.scenarios.clone(),
        calibration: report.calibration.clone(),
        comparisons: report.comparisons.clone(),
        stress: report.stress.clone(),
        heartbeats: beats(report),
        heartbeats_left_out: report.heartbeats_left_out,
        greedy: report.greedy.clone(),
        timeline: report.timeline.clone(),
        notes: report.notes.clone(),
        troubles: report.troubles.clone(),
        interrupted_by: report.interrupted_by,
        survivors: report.survivors.clone(),
        worker_log: report.worker_log.clone(),
    }
}

fn beats(report: &RunReport) -> Vec<Beat> {
    let beats = report.heartbeat_lateness().into_iter();
    let beat = beats.map(|(beat, late_ms)| Beat {
        number: beat.number,
        arrived_ms: beat.arrived_ms,
        late_ms,
        body: beat.body.clone(),
        answered: beat.answered,
    });
    beat.collect()
}
