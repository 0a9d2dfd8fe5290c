//! The facts of a run, as they happen. Reporters learn about a run from these and nothing else.

#[cfg(test)]
mod described;
mod verdict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::verdict::{
    CheckRecord, CheckStatus, CheckSummary, Level, Mismatch, Outcome, PlannedCheck, Suite, Unmet,
};
use super::bench::{Calibration, ClientRecord, Objectives, RequestRecord, ScenarioPlan, Window};
use super::compare::Comparison;
use super::facts::{AnswerMeta, Environment, Greedy, RequestSent, TimedLine, Vitals};
use super::stress::{PoolChange, StressPlan, StressProgress, WorkerUnderStress};

/// Version of the event stream. It rises when a reader of the old one would misread the new one.
/// Older ones are read: where a name was another one then, it stands there as an alias.
pub const SCHEMA_VERSION: u32 = 2;

/// The check of what outlives the worker. Whatever the run was for, a survivor fails it.
pub const NO_SURVIVORS: &str = "lifecycle.no_survivors";

/// One fact about a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since the run began, on the monotonic clock.
    pub elapsed_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Everything that can happen in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The run began.
    RunStarted(RunInfo),
    /// What the run was asked to do.
    Configured {
        /// Each option by its name on the command line.
        options: BTreeMap<String, Value>,
        /// The task and its arguments as they were given, without those that choose checks.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// What the machine is.
    EnvironmentFound(Environment),
    /// The model's file was read as a whole.
    ModelHashed {
        /// In hexadecimal.
        sha256: String,
    },
    /// These checks are asked for, in this order.
    Planned {
        /// The checks that are going to run.
        checks: Vec<PlannedCheck>,
    },
    /// The model's file is about to be looked at.
    ModelChecking,
    /// The model's file is there and looks like a model.
    ModelFound(ModelInfo),
    /// The mock hive is about to be started.
    HiveStarting {
        /// The port asked for; 0 picks a free one.
        port: u16,
        /// How long that may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
    },
    /// The mock hive listens.
    HiveStarted {
        /// Its process.
        pid: u32,
        /// Its port.
        port: u16,
    },
    /// The worker is being built.
    BuildStarted {
        /// The command line.
        command: String,
        /// How long that may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
    },
    /// The build has come further.
    BuildProgress {
        /// The crates that are being compiled.
        package: String,
        /// How many units are done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done: Option<u32>,
        /// Of how many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u32>,
    },
    /// The worker's binary is there.
    BuildFinished {
        /// Its path.
        binary: String,
        /// How long the build took.
        duration_ms: u64,
    },
    /// The worker is about to be started.
    WorkerStarting(WorkerInfo),
    /// The worker's process exists.
    WorkerStarted {
        /// The process.
        pid: u32,
    },
    /// The worker has to become ready.
    ReadyWaiting {
        /// How long it may take.
        timeout_ms: u64,
    },
    /// The worker said that it is ready.
    WorkerReady {
        /// Since its process was started.
        after_ms: u64,
    },
    /// A check begins.
    CheckStarted {
        /// The check's stable name.
        id: String,
    },
    /// A request is about to be sent.
    Asked(RequestSent),
    /// The worker answered a request of a check.
    Answered(ResponseReceived),
    /// A request had no answer, or not a whole one.
    Unanswered {
        /// Which request.
        number: u64,
        /// "connection refused".
        cause: String,
        /// Whether it was our own client that didn't wait for more, as its check wants.
        #[serde(default)]
        left: bool,
    },
    /// What the worker's process uses, a few times a second.
    Sampled(Vitals),
    /// A token of a streamed answer came in.
    TokenReceived {
        /// The check that asked for it.
        id: String,
        /// Its text, which may be empty.
        text: String,
    },
    /// A check ended.
    CheckFinished(CheckRecord),
    /// The load generator's own error and limits are known.
    #[serde(alias = "tared")]
    Calibrated(Calibration),
    /// A worker like the one under test was started, to see how long that takes.
    StartMeasured {
        /// From its start until it said that it is ready.
        ready_ms: f64,
    },
    /// A crowd of clients left, and the worker said that it generates nothing any more.
    StopMeasured {
        /// From when the last of them left.
        after_ms: f64,
    },
    /// The worker is put under a load.
    ScenarioStarted {
        /// Which.
        plan: ScenarioPlan,
        /// About how long it takes.
        expected_ms: u64,
    },
    /// One request of a scenario is over. They are told after it, so as not to disturb it.
    RequestMeasured(RequestRecord),
    /// A scenario is over.
    ScenarioFinished {
        /// Which.
        plan: ScenarioPlan,
        /// The part that counts.
        window: Window,
        /// What requests have to keep to count as good.
        objectives: Objectives,
        /// How far its figures are the worker's and not the client's.
        #[serde(default)]
        client: ClientRecord,
    },
    /// A figure of this worker beside the same figure of another one.
    Compared(Comparison),
    /// One of several workers came, went or came back.
    #[serde(alias = "crew_changed")]
    PoolChanged(PoolChange),
    /// Several workers are put under load at once.
    StressStarted(StressPlan),
    /// How that goes, every minute.
    StressGoesOn(StressProgress),
    /// What became of one of them.
    StressFinished(Box<WorkerUnderStress>),
    /// A heartbeat reached the hive.
    HeartbeatReceived(Heartbeat),
    /// The evidence for the heartbeat checks is awaited.
    HeartbeatsWaiting {
        /// The longest wait.
        window_ms: u64,
    },
    /// A worker like the one under test was led along some texts, to compare backends.
    GreedyAnswered(Greedy),
    /// The worker's process ended.
    WorkerExited {
        /// "exit status 1", "killed by SIGSEGV".
        status: String,
        /// From its start to its end.
        lived_ms: u64,
    },
    /// What is kept of a log as evidence: more than is shown.
    LogRecorded {
        /// Whose log.
        source: LogSource,
        /// Its last lines, made safe to print.
        lines: Vec<String>,
    },
    /// What workers wrote while a check was tried that didn't pass.
    LogOfCheck {
        /// The check's stable name.
        id: String,
        /// The last of it, in the order in which it came.
        lines: Vec<TimedLine>,
    },
    /// The end of a log.
    LogTail {
        /// Whose log.
        source: LogSource,
        /// Its last lines, made safe to print.
        lines: Vec<String>,
        /// Where the whole log is.
        path: String,
    },
    /// Something that the reader should know and that changes no verdict.
    Noted {
        /// One sentence.
        message: String,
    },
    /// We can't go on or can't judge, for a reason that isn't the worker's.
    Troubled {
        /// The thing, the cause and the next step.
        message: String,
    },
    /// The user or the system ended the run early.
    Interrupted {
        /// The signal's number: 2 for Ctrl-C, 15 for SIGTERM.
        signal: i32,
    },
    /// What we started is being stopped.
    CleanupStarted {
        /// How long that may take at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit_ms: Option<u64>,
    },
    /// Everything that we started was looked for afterwards.
    CleanupFinished {
        /// Processes and ports that are still there: none, if all is well.
        survivors: Vec<String>,
    },
    /// Nothing follows.
    RunFinished {
        /// The run's whole duration.
        duration_ms: u64,
    },
}

/// How far a run is. Reports that are written as a whole wait for a stage, not for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// More is to come.
    UnderWay,
    /// The worker's command line is known from now on.
    WorkerKnown,
    /// Nothing follows.
    Over,
}

impl EventKind {
    /// How far a run is with this event.
    pub fn stage(&self) -> Stage {
        match self {
            EventKind::WorkerStarting(_) => Stage::WorkerKnown,
            EventKind::RunFinished { .. } => Stage::Over,
            _ => Stage::UnderWay,
        }
    }
}

/// What was asked for, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// [`SCHEMA_VERSION`] of the writer.
    pub schema_version: u32,
    /// Names the run.
    pub run_id: String,
    /// Wall clock at the start, RFC 3339.
    pub started_at: String,
    /// The folder that holds the run's files.
    pub artifacts: String,
    /// What it is for.
    #[serde(default)]
    pub purpose: Purpose,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To try a worker's promises.
    #[default]
    Suite,
    /// To measure it.
    Benchmark,
    /// To put several of them under load at once.
    Stress,
}

impl Purpose {
    /// How a run of this kind introduces itself.
    pub fn title(self) -> &'static str {
        match self {
            Purpose::Suite => "Worker Isolation Test",
            Purpose::Benchmark => "Worker Benchmark",
            Purpose::Stress => "Worker Stress Test",
        }
    }

    /// What its reports are headed with.
    pub fn heading(self) -> &'static str {
        match self {
            Purpose::Suite => "Worker test",
            Purpose::Benchmark => "Worker benchmark",
            Purpose::Stress => "Worker stress test",
        }
    }

    /// How sentences call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Suite => "Isolation test",
            Purpose::Benchmark => "Benchmark",
            Purpose::Stress => "Stress test",
        }
    }
}

/// The model that the worker is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The file.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// What heartbeats call it.
    pub model_ref: String,
    /// Its architecture, as the GGUF has it.
    pub architecture: String,
    /// How many weights it has.
    pub parameters: u64,
    /// The type that most of its weights are stored in.
    pub quantisation: String,
    /// Why this model, where that isn't obvious.
    pub note: Option<String>,
}

/// The worker as it is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name.
    pub worker_id: String,
    /// The model's file.
    pub model: String,
    /// cpu, cuda or metal.
    pub backend: String,
    /// Which device of that backend.
    pub device: u32,
    /// The port that it has to listen on.
    pub port: u16,
    /// Where its heartbeats have to go.
    pub hive_url: String,
    /// The whole command line.
    pub command: Vec<String>,
    /// The heartbeat interval that it was asked for.
    #[serde(default)]
    pub heartbeat_interval_s: Option<u64>,
}

/// An answer to one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseReceived {
    /// The check that asked.
    pub id: String,
    /// "GET /v1/health".
    pub request: String,
    /// The HTTP status.
    pub status: u16,
    /// From the first byte of the request to the last of the answer.
    pub duration_ms: f64,
    /// The JSON that came, or the text where it wasn't JSON.
    pub body: Value,
    /// When it was sent, its headers, its parts.
    #[serde(default)]
    pub meta: Option<AnswerMeta>,
}

/// One request that reached the hive, whatever it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// 1 for the first that reached the hive.
    pub number: u32,
    /// Arrival on the run's axis, from the sink's own monotonic clock.
    pub arrived_ms: f64,
    /// Arrival on the sink's wall clock, `HH:MM:SS`.
    pub clock: String,
    /// The HTTP method.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The content type, where there was one.
    pub content_type: Option<String>,
    /// The body: JSON, or a string where it wasn't JSON.
    pub body: Value,
    /// What the hive answered; none where it hung up.
    pub answered: Option<u16>,
}

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The mock hive's own output.
    Hive,
    /// The worker's standard output and error.
    Worker,
}
