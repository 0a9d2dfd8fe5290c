//! Events folded into one value: the report, its verdict and the exit code.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bench::{Calibration, RequestRecord};
use super::causes;
use super::compare::Comparison;
use super::event::{
    CheckRecord, CheckStatus, CheckSummary, Event, EventKind, Heartbeat, LogSource, ModelInfo,
    Outcome, PlannedCheck, Purpose, RunInfo, Suite, WorkerInfo,
};
use super::facts::{Environment, Greedy, TimedLine, cut};
use super::heartbeats::lateness;
use super::measure::{Measure, RunFacts};
use super::scenario::ScenarioRecord;
use super::stress::WorkerUnderStress;
use super::timeline::{CHECKS_KEPT, Timeline};

/// More heartbeats than these are counted and not kept.
const HEARTBEATS_KEPT: usize = 2000;

/// What is said of a recording with more checks than any run has.
const TOO_MANY_CHECKS: &str = "there are more checks than any run has";

/// How much is kept of a heartbeat's body and of each sentence about a check.
const TEXT_BYTES: usize = 8 << 10;

/// A run, as far as its events tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// What was asked for, and when.
    pub run: Option<RunInfo>,
    /// Each option by its name on the command line.
    #[serde(default)]
    pub options: BTreeMap<String, Value>,
    /// The task and its arguments, without those that choose checks.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What the machine is.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// The model under test.
    pub model: Option<ModelInfo>,
    /// Of the model's file, in hexadecimal.
    #[serde(default)]
    pub model_sha256: Option<String>,
    /// The worker as it was started.
    pub worker: Option<WorkerInfo>,
    /// From the worker's start until it said that it is ready.
    pub ready_ms: Option<u64>,
    /// The same of workers like it, where several were started for that.
    #[serde(default)]
    pub starts_ms: Vec<f64>,
    /// From when the last client of a crowd left until the worker said that it generates nothing.
    #[serde(default)]
    pub stops_ms: Vec<f64>,
    /// What was going to run.
    pub planned: Vec<PlannedCheck>,
    /// What ran, in order.
    pub checks: Vec<CheckRecord>,
    /// What reached the hive, in order.
    pub heartbeats: Vec<Heartbeat>,
    /// Heartbeats beyond those.
    #[serde(default)]
    pub heartbeats_left_out: u64,
    /// What happened when.
    #[serde(default)]
    pub timeline: Timeline,
    /// What a worker like it goes on with along some texts.
    #[serde(default)]
    pub greedy: Option<Greedy>,
    /// What was measured under load.
    #[serde(default)]
    pub scenarios: Vec<ScenarioRecord>,
    /// The requests of the scenario that is under way.
    #[serde(skip)]
    pub requests: Vec<RequestRecord>,
    /// How exact the load generator is.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// Figures beside those of another worker.
    #[serde(default)]
    pub comparisons: Vec<Comparison>,
    /// What became of each of several workers.
    #[serde(default)]
    pub stress: Vec<WorkerUnderStress>,
    /// How the worker ended.
    pub worker_exit: Option<String>,
    /// The last lines of the worker's log.
    pub worker_log: Vec<String>,
    /// More of it, as evidence.
    #[serde(default)]
    pub worker_evidence: Vec<String>,
    /// What workers wrote while a check was tried that didn't pass, by its name.
    #[serde(default)]
    pub logs_of_checks: BTreeMap<String, Vec<TimedLine>>,
    /// Worth knowing, without weight on the verdict.
    pub notes: Vec<String>,
    /// Why we could not go on or could not judge.
    pub troubles: Vec<String>,
    /// The signal that ended the run early.
    pub interrupted_by: Option<i32>,
    /// Processes and ports that outlived the run.
    pub survivors: Vec<String>,
    /// The run's whole duration, once it is over.
    pub duration_ms: Option<u64>,
}

/// What a whole run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was asked for ran, and passed.
    Passed,
    /// The worker broke a promise.
    Failed,
    /// We could not judge.
    Invalid,
    /// The run was ended early by this signal.
    Interrupted(i32),
}

impl Verdict {
    /// As reports spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Invalid => "invalid",
            Verdict::Interrupted(_) => "interrupted",
        }
    }

    /// The process's exit code, as documented in the README.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Invalid => 3,
            // The shell's convention: 128 and the signal's number.
            Verdict::Interrupted(signal) => 128u8.saturating_add(signal.clamp(0, 127) as u8),
        }
    }
}

impl RunReport {
    /// Learns one more fact.
    pub fn apply(&mut self, event: &Event) {
        self.timeline.apply(event);
        match &event.kind {
            EventKind::RunStarted(info) => self.run = Some(info.clone()),
            EventKind::Configured { options, arguments } => {
                self.options = options.clone();
                self.arguments = arguments.clone();
            }
            EventKind::EnvironmentFound(found) => self.environment = Some(found.clone()),
            EventKind::ModelHashed { sha256 } => self.model_sha256 = Some(sha256.clone()),
            EventKind::Planned { checks } => {
                self.planned = checks.iter().take(CHECKS_KEPT).cloned().collect();
            }
            EventKind::ModelFound(info) => self.model = Some(info.clone()),
            EventKind::WorkerStarting(info) => self.worker = Some(info.clone()),
            EventKind::WorkerReady { after_ms } => self.ready_ms = Some(*after_ms),
            EventKind::CheckFinished(record) => self.check_finished(record),
            EventKind::HeartbeatReceived(heartbeat) => self.heartbeat(heartbeat),
            EventKind::GreedyAnswered(greedy) => self.greedy = Some(greedy.clone()),
            EventKind::Calibrated(found) => self.calibration = Some(found.clone()),
            EventKind::StartMeasured { ready_ms } => self.starts_ms.push(*ready_ms),
            EventKind::StopMeasured { after_ms } => self.stops_ms.push(*after_ms),
            EventKind::ScenarioStarted { .. } => self.requests.clear(),
            EventKind::RequestMeasured(request) => self.requests.push(request.clone()),
            EventKind::ScenarioFinished {
                plan,
                window,
                objectives,
                client,
            } => {
                let requests = std::mem::take(&mut self.requests);
                let (plan, window) = (plan.clone(), *window);
                let record = ScenarioRecord::of(plan, window, objectives, &requests);
                let client = client.clone();
                self.scenarios.push(ScenarioRecord { client, ..record });
            }
            EventKind::Compared(comparison) => self.comparisons.push(comparison.clone()),
            EventKind::StressFinished(worker) => self.stress.push((**worker).clone()),
            EventKind::WorkerExited { status, .. } => self.worker_exit = Some(status.clone()),
            EventKind::LogTail {
                source: LogSource::Worker,
                lines,
                ..
            } => self.worker_log = lines.clone(),
            EventKind::LogRecorded {
                source: LogSource::Worker,
                lines,
            } => self.worker_evidence = lines.clone(),
            EventKind::LogOfCheck { id, lines } => self.log_of_check(id, lines),
            EventKind::Noted { message } => self.notes.push(message.clone()),
            EventKind::Troubled { message } => self.troubles.push(message.clone()),
            EventKind::Interrupted { signal } => self.interrupted_by = Some(*signal),
            EventKind::CleanupFinished { survivors } => self.survivors = survivors.clone(),
            EventKind::RunFinished { duration_ms } => self.duration_ms = Some(*duration_ms),
            EventKind::ModelChecking
            | EventKind::HiveStarting { .. }
            | EventKind::HiveStarted { .. }
            | EventKind::BuildStarted { .. }
            | EventKind::BuildProgress { .. }
            | EventKind::BuildFinished { .. }
            | EventKind::WorkerStarted { .. }
            | EventKind::ReadyWaiting { .. }
            | EventKind::CheckStarted { .. }
            | EventKind::Asked(_)
            | EventKind::Answered(_)
            | EventKind::Unanswered { .. }
            | EventKind::Sampled(_)
            | EventKind::PoolChanged(_)
            | EventKind::StressStarted(_)
            | EventKind::StressGoesOn(_)
            | EventKind::LogRecorded { .. }
            | EventKind::TokenReceived { .. }
            | EventKind::HeartbeatsWaiting { .. }
            | EventKind::LogTail { .. }
            | EventKind::CleanupStarted { .. } => {}
        }
    }

    /// A run with more checks than any has isn't judged by the first of them.
    fn check_finished(&mut self, record: &CheckRecord) {
        if self.checks.len() < CHECKS_KEPT {
            self.checks.push(bounded(record));
        } else if self
            .troubles
            .last()
            .is_none_or(|last| last != TOO_MANY_CHECKS)
        {
            self.troubles.push(TOO_MANY_CHECKS.to_owned());
        }
    }

    fn log_of_check(&mut self, id: &str, lines: &[TimedLine]) {
        if self.logs_of_checks.len() >= CHECKS_KEPT {
            return;
        }
        let mut room = TEXT_BYTES;
        let fits = |line: &&TimedLine| {
            room = room.saturating_sub(line.text.len() + 1);
            room > 0
        };
        // The end tells more than the beginning.
        let kept: Vec<_> = lines.iter().rev().take_while(fits).cloned().collect();
        let kept = kept.into_iter().rev().collect();
        self.logs_of_checks.insert(id.to_owned(), kept);
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat) {
        if self.heartbeats.len() >= HEARTBEATS_KEPT {
            self.heartbeats_left_out += 1;
            return;
        }
        let mut heartbeat = heartbeat.clone();
        let body = heartbeat.body.to_string();
        if body.len() > TEXT_BYTES {
            heartbeat.body = Value::String(cut(&body, TEXT_BYTES));
        }
        self.heartbeats.push(heartbeat);
    }

    /// Every measure that the run's facts allow.
    pub fn measures(&self) -> Vec<Measure> {
        let beats = self.heartbeat_lateness().into_iter();
        let lateness_ms: Vec<f64> = beats.filter_map(|(_, late_ms)| late_ms).collect();
        let facts = RunFacts {
            timeline: &self.timeline,
            ready_ms: self.ready_ms,
            starts_ms: &self.starts_ms,
            stops_ms: &self.stops_ms,
            lateness_ms: &lateness_ms,
        };
        facts.measures()
    }

    /// Each heartbeat, and by how much it was late; see [`lateness`].
    pub fn heartbeat_lateness(&self) -> Vec<(&Heartbeat, Option<f64>)> {
        let worker = self.worker.as_ref();
        let interval_s = worker.and_then(|worker| worker.heartbeat_interval_s);
        lateness(&self.heartbeats, interval_s)
    }

    /// What the run is for.
    pub fn purpose(&self) -> Purpose {
        self.run.as_ref().map_or(Purpose::Suite, |run| run.purpose)
    }

    /// What the run comes to.
    ///
    /// Nothing is green by absence: a check that was planned and never ran, or a run without any
    /// check, is invalid. A broken `should` is a warning and changes nothing here.
    pub fn verdict(&self) -> Verdict {
        let failed = |record: &CheckRecord| self.summary_of(record).outcome == CheckStatus::Failed;
        let invalid = |record: &CheckRecord| matches!(record.outcome, Outcome::Invalid { .. });
        if let Some(signal) = self.interrupted_by {
            Verdict::Interrupted(signal)
        } else if self.checks.iter().any(failed) || !self.survivors.is_empty() {
            Verdict::Failed
        } else if self.checks.iter().any(invalid)
            || !self.troubles.is_empty()
            || !self.checks.iter().any(|c| c.outcome == Outcome::Passed)
            || self.never_ran().next().is_some()
        {
            Verdict::Invalid
        } else {
            Verdict::Passed
        }
    }

    /// A check that ran, as reports have it.
    pub fn summary_of(&self, record: &CheckRecord) -> CheckSummary {
        let planned = self.planned.iter().find(|planned| planned.id == record.id);
        CheckSummary::ran(record, planned)
    }

    /// Every check that ran or was planned, as reports have it.
    pub fn check_summaries(&self) -> Vec<CheckSummary> {
        let ran = self.checks.iter().zip(self.follows_from());
        let ran = ran.map(|(record, follows_from)| CheckSummary {
            follows_from,
            ..self.summary_of(record)
        });
        let never_ran = self.never_ran();
        let reason = self.why_checks_did_not_run();
        ran.chain(never_ran.map(|planned| CheckSummary::not_run(planned, reason.clone())))
            .collect()
    }

    /// What every worker does every day, everything else stands on.
    fn follows_from(&self) -> Vec<Option<String>> {
        let planned = self.planned.iter();
        let basic = planned.filter(|planned| planned.suite == Suite::Isolation);
        let basic: HashSet<&str> = basic.map(|planned| planned.id.as_str()).collect();
        causes::follows_from(&self.checks, |id| basic.contains(id))
    }

    fn why_checks_did_not_run(&self) -> String {
        match (self.interrupted_by, self.troubles.first()) {
            (Some(signal), _) => format!("the run was interrupted by signal {signal}"),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => String::from("the run ended before it"),
        }
    }

    /// Planned checks without an outcome.
    pub fn never_ran(&self) -> impl Iterator<Item = &PlannedCheck> {
        self.planned
            .iter()
            .filter(|planned| !self.checks.iter().any(|ran| ran.id == planned.id))
    }
}

/// The record without what is too long to be read.
fn bounded(record: &CheckRecord) -> CheckRecord {
    let mut record = record.clone();
    let cut = |text: &mut String| {
        if text.len() > TEXT_BYTES {
            *text = cut(text, TEXT_BYTES);
        }
    };
    match &mut record.outcome {
        Outcome::Passed => {}
        Outcome::Failed(mismatch) => {
            cut(&mut mismatch.expected);
            cut(&mut mismatch.got);
            cut(&mut mismatch.place);
        }
        Outcome::Invalid { reason } | Outcome::Skipped { reason, .. } => cut(reason),
    }
    record
}
