//! What every dialect offers, and what it tells of requests, answers and heartbeats. Pure.

use chrono::{DateTime, FixedOffset};
use serde_json::Value;

use super::fields::shorten;
use super::generation::InferenceRequest;
use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::stream::{Completion, StreamSpelling};
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::record::facts::Phases;

/// A protocol, as a client of a worker and as its hive see it.
pub trait Dialect: std::fmt::Debug + StreamSpelling {
    /// Whether workers that speak it promise this.
    fn promises(&self, promise: Promise) -> bool;
    /// Where this kind of worker differs from its protocol by its own documentation, a sentence each.
    fn differences(&self) -> Vec<String> {
        Vec::new()
    }

    /// Asks whether the process lives.
    fn health_request(&self) -> Request;
    /// Asks whether an inference would be accepted.
    fn ready_request(&self) -> Request;
    /// A request that costs nothing, and is answered with [`Self::shut_out`] where nobody is served with
    /// the key that the run has; `None` where the protocol has no keys of others.
    fn knock(&self) -> Option<Request> {
        None
    }
    /// Why nobody is served with the key that the run has, and the next step; `None` where the answer
    /// says nothing like it.
    fn shut_out(&self, _: &Response) -> Option<String> {
        None
    }
    /// Asks for an answer, as a whole or as a stream.
    fn inference_request(&self, request: &InferenceRequest, stream: bool) -> Request;

    /// Reads the answer to [`Self::health_request`].
    fn read_health(&self, response: &Response) -> Result<Health, Mismatch>;
    /// Reads the answer to [`Self::ready_request`].
    fn read_ready(&self, response: &Response) -> Result<Readiness, Mismatch>;
    /// Reads a whole answer to [`Self::inference_request`].
    fn read_completion(&self, response: &Response) -> Result<Completion, Mismatch>;
    /// The parts of an answer's time, for the record; an answer is not judged by it.
    fn read_phases(&self, body: &Value) -> Option<Phases>;

    /// Reads an answer that has to be a refusal for this reason. Where the caller is to come back, it
    /// has to say when.
    fn read_refusal(&self, response: &Response, reason: Reason) -> Result<Refusal, Mismatch>;
    /// Reads an error in its own form, whatever its status.
    fn read_error(&self, response: &Response) -> Result<Refusal, Mismatch>;
    /// Whether the answer says that the queue is full: then the request may come again.
    fn is_busy(&self, response: &Response) -> bool {
        self.read_refusal(response, Reason::QueueFull).is_ok()
    }

    /// Reads what a hive received: it has to be a heartbeat, sent as promised.
    fn read_heartbeat(&self, request: &Heartbeat) -> Result<HeartbeatPayload, Mismatch>;

    /// Requests that have to be refused.
    fn bad_requests(&self, kind: BadInput) -> Vec<BadRequest>;
    /// Requests at the edge that have to be taken: each one's name and bytes.
    fn good_requests(&self, kind: GoodInput) -> Vec<(String, Vec<u8>)>;
    /// Bytes of which a server may hang up instead of answering: each one's name and bytes.
    fn broken_framing(&self) -> Vec<(&'static str, Vec<u8>)>;
    /// A good request of which only half the body ever comes.
    fn half_a_request(&self) -> Vec<u8>;
}

/// What one protocol promises and another may not. Checks ask for these, never for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Workers send heartbeats to a hive.
    Heartbeats,
    /// Health names the worker and the stage of its life; readiness says why not.
    Stages,
    /// It listens where it is told to, and nowhere else.
    Loopback,
    /// Each line of the log begins with its level.
    Logs,
    /// The port answers within a second of the start, whatever the model.
    EarlyPort,
    /// What counts where `max_tokens` and `temperature` are left out.
    Defaults,
    /// Tokens can be drawn from the likeliest few.
    TopK,
    /// A request's text depends on nothing but the request: not on what is beside it or came before.
    SameText,
    /// The worker's process is the run's to start, to watch and to stop.
    OwnProcess,
    /// A user's words can be asked for an answer, as a model's template has them.
    Chat,
    /// Every token is an event of its own, and they are numbered.
    EventPerToken,
    /// A stream's end says how many tokens it has.
    StreamUsage,
    /// An idle connection is kept for 75 s where nothing else is said.
    IdleConnections,
    /// Answers say how long they waited, and how long prompt and tokens took.
    Timings,
    /// Errors name the code, the field, what was got and what is allowed.
    NamedErrors,
    /// Integers are read exactly, and however JSON spells them.
    ExactIntegers,
    /// Requests of this kind are refused.
    Refusal(BadInput),
    /// The command line of CONTRACT.md: its options and its errors.
    CommandLine,
    /// A worker that was asked to stop exits with 0.
    ExitStatus,
}

impl Promise {
    /// What a worker lacks that doesn't make the promise: completes "the protocol has no ...".
    pub fn name(self) -> &'static str {
        match self {
            Promise::Heartbeats => "heartbeats",
            Promise::Stages => "stages in health and readiness",
            Promise::Loopback => "address to listen on",
            Promise::Logs => "form of its log",
            Promise::EarlyPort => "promise of a port that answers at once",
            Promise::Defaults => "defaults in common",
            Promise::TopK => "top_k",
            Promise::SameText => "promise that texts stay the same beside other requests",
            Promise::OwnProcess => "process of its own",
            Promise::Chat => "chat",
            Promise::StreamUsage => "counts of tokens in streams",
            Promise::Refusal(_) => "refusal of such requests",
            Promise::EventPerToken => "event for each token",
            Promise::IdleConnections => "rule for how long idle connections are kept",
            Promise::Timings => "timings in its answers",
            Promise::NamedErrors => "errors that name field and cause",
            Promise::ExactIntegers => "rule for the spelling of integers",
            Promise::CommandLine => "command line",
            Promise::ExitStatus => "exit status",
        }
    }
}

/// What the health answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `loading`, `healthy`, `draining` or `failed`.
    pub status: String,
    /// Whether the model is in memory.
    pub model_loaded: bool,
    /// Whose answer it is; `None` where the protocol doesn't promise [`Promise::Stages`].
    pub worker_id: Option<String>,
}

/// What the ready answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// An inference would be accepted.
    Ready,
    /// It would not, for this reason.
    NotReady(String),
}

/// Why a request is refused that has nothing wrong in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The worker is loading or draining.
    NotReady,
    /// Too many requests wait.
    QueueFull,
    /// Prompt and answer don't fit into the context.
    ContextExceeded,
    /// The token is missing or wrong.
    Unauthorized,
}

/// What an error answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind of error it is, in the protocol's word.
    pub code: String,
    /// What was got and what is allowed.
    pub message: String,
    /// The field that is to blame, where one is.
    pub field: Option<String>,
}

/// What a worker says of itself in a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatState {
    /// The model isn't in memory yet.
    Loading,
    /// It would take a request, and has none.
    Ready,
    /// It works on one.
    Busy,
    /// It is stopping.
    Draining,
    /// It can't serve: its last word.
    Failed,
}

/// A heartbeat's payload.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatPayload {
    /// Whose heartbeat it is.
    pub worker_id: String,
    /// What it is doing.
    pub state: BeatState,
    /// The worker's wall clock.
    pub timestamp: DateTime<FixedOffset>,
    /// Rises by one for each beat that is due.
    pub sequence: u64,
    /// The interval that the worker keeps.
    pub interval_s: u64,
    /// The model.
    pub model_ref: String,
    /// cpu, cuda or metal.
    pub backend: String,
    /// Which device of that backend.
    pub device: u64,
    /// The worker's port.
    pub port: u64,
}

/// The answer has one of these statuses.
pub fn expect_status(response: &Response, allowed: &[u16]) -> Result<(), Mismatch> {
    if allowed.contains(&response.status) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(u16::to_string).collect();
    let body = shorten(&String::from_utf8_lossy(&response.body));
    Err(Mismatch::new(
        &response.request,
        format!("status {}", allowed.join(" or ")),
        format!("status {} with {body}", response.status),
    ))
}

/// The answer says when to come back, in whole seconds.
pub fn expect_retry_after(response: &Response) -> Result<(), Mismatch> {
    let value = response.header("retry-after");
    match value.map(str::parse::<u64>) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Mismatch::new(
            format!("{}, status {}", response.request, response.status),
            "a Retry-After header with a number of seconds",
            value.map_or(String::from("none"), |value| format!("`{value}`")),
        )),
    }
}

/// Kinds of requests that have to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadInput {
    /// Bodies that aren't JSON.
    Malformed,
    /// A good body under a wrong content type, or under none.
    MediaType,
    /// Bodies beyond the limit.
    TooLarge,
    /// What breaks parsers: depth, huge numbers, lone surrogates.
    Absurd,
    /// Wrong values, one a request.
    Field,
    /// More tokens than any context has.
    BeyondContext,
    /// Paths that aren't there.
    UnknownPath,
    /// Methods that a path lacks.
    WrongMethod,
    /// Names that somebody else can point at this machine.
    ForeignHost,
    /// Two things wrong at once, of which one is named first.
    Order,
    /// No host, several, or one that is none.
    Host,
    /// Wrong values of requests for streams.
    Streamed,
}

/// Kinds of requests at the edge that have to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoodInput {
    /// Values at the edge.
    Field,
    /// Chunked bodies, the largest, and a content type with a parameter.
    Body,
    /// One request, whose numbers are spelled in different ways.
    Spelling,
}

/// A request, byte by byte, and the answers that are right for it.
#[derive(Debug, Clone)]
pub struct BadRequest {
    /// What is wrong with it: "max_tokens -1".
    pub name: String,
    /// What goes over the wire.
    pub bytes: Vec<u8>,
    /// Each status and code that is right; an empty code where the protocol leaves it open.
    pub right: Vec<(u16, &'static str)>,
    /// Whether taking it is right as well.
    pub may_be_taken: bool,
    /// Whether the protocol leaves open what the refusal's body says.
    pub has_any_body: bool,
    /// The method that `Allow` has to name.
    pub allow: Option<&'static str>,
    /// The field that the error has to name.
    pub field: Option<&'static str>,
    /// Words of which the message should have one: they name what was got.
    pub got: Vec<String>,
    /// Words of which the message should have one: they name what is allowed.
    pub allowed: &'static [&'static str],
}
