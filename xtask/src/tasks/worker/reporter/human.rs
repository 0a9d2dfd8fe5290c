//! For people: what happens as it happens, then both logs and the summary.

mod live;
mod page;
mod stress;
mod style;

use std::io::{self, Write};

use serde_json::Value;

use self::live::Live;
use self::style::Style;
use super::{Reporter, matrix, run, words};
use crate::tasks::worker::record::event::{
    CheckStatus, CheckSummary, Event, EventKind, Heartbeat, Level, LogSource, ResponseReceived,
    Suite, WorkerInfo,
};
use crate::tasks::worker::record::facts::RequestSent;
use crate::tasks::worker::record::matrix::Matrix;
use crate::tasks::worker::record::output::Verbosity;
use crate::tasks::worker::record::report::RunReport;

/// Tells people about a run.
pub struct Human<W> {
    out: W,
    style: Style,
    live: Live,
    verbosity: Verbosity,
    /// The area of the check that is running: it has its heading already.
    area: String,
    /// The suite of the check that is running.
    suite: Suite,
    /// Whether streamed text stands on the line that is being written.
    in_text: bool,
    /// The last answer of the running check.
    answer: Option<ResponseReceived>,
    summarised: bool,
}

/// A busy worker changes its state often: so many of the first heartbeats are shown,
const FIRST_BEATS: usize = 10;

/// and so many of the last.
const LAST_BEATS: usize = 10;

/// How the areas of the isolation suite introduce themselves: section, heading, success.
const AREAS: &[(&str, &str, &str)] = &[
    (
        "health",
        "🔍 Testing health endpoint...",
        "Health endpoint responding",
    ),
    (
        "ready",
        "🔍 Testing ready endpoint...",
        "Ready endpoint responding",
    ),
    (
        "inference",
        "🤔 Testing inference...",
        "Inference endpoint responding",
    ),
    (
        "streaming",
        "🤔 Testing streamed inference...",
        "Streaming endpoint responding",
    ),
    ("heartbeat", "🔍 Testing heartbeats...", ""),
    ("shutdown", "🔍 Testing the orderly stop...", ""),
];

impl Human<io::Stdout> {
    /// Writes to standard output, as plainly as it asks for.
    pub fn on_stdout(verbosity: Verbosity) -> Self {
        let style = Style::of_stdout();
        let mut human = Self::new(io::stdout(), style, verbosity);
        if verbosity != Verbosity::Quiet {
            human.live = Live::on_terminal(style.unicode);
        }
        human
    }
}

impl<W: Write> Human<W> {
    fn new(out: W, style: Style, verbosity: Verbosity) -> Self {
        Self {
            out,
            style,
            live: Live::hidden(),
            verbosity,
            area: String::new(),
            suite: Suite::Isolation,
            in_text: false,
            answer: None,
            summarised: false,
        }
    }

    /// A line of the story.
    fn line(&mut self, text: &str) -> io::Result<()> {
        match self.verbosity {
            Verbosity::Quiet => Ok(()),
            Verbosity::Normal | Verbosity::Verbose => self.always(text),
        }
    }

    /// A line that is told even where little is wanted.
    fn always(&mut self, text: &str) -> io::Result<()> {
        let ends_text = std::mem::take(&mut self.in_text);
        let text = self.style.show(&words::printed(text));
        let (live, out) = (&self.live, &mut self.out);
        live.above(|| {
            if ends_text {
                writeln!(out)?;
            }
            writeln!(out, "{text}")?;
            out.flush()
        })
    }

    fn question(&mut self, question: &RequestSent) -> io::Result<()> {
        self.live.begin(
            &format!("{}: {}", question.id, question.request),
            Some(question.limit_ms),
        );
        if self.verbosity != Verbosity::Verbose {
            return Ok(());
        }
        let whom = question.companion.as_ref();
        let whom = whom.map_or(String::new(), |name| {
            format!(" (to another worker, {name})")
        });
        self.line(&format!("   > {}{whom}", question.request))?;
        for (name, value) in &question.headers {
            self.line(&format!("   > {name}: {}", words::one_line(value)))?;
        }
        match &question.body {
            Some(body) => self.line(&format!("   > {}", body.replace('\n', "\n   > "))),
            None => Ok(()),
        }
    }

    fn answer(&mut self, answer: &ResponseReceived) -> io::Result<()> {
        self.answer = Some(answer.clone());
        if self.verbosity != Verbosity::Verbose {
            return Ok(());
        }
        let took = words::duration(answer.duration_ms);
        self.line(&format!("   < {} in {took}", answer.status))?;
        let headers = answer.meta.iter().flat_map(|meta| &meta.headers);
        for (name, value) in headers {
            self.line(&format!("   < {name}: {}", words::one_line(value)))?;
        }
        self.line(&format!("   < {}", answer.body))
    }

    fn worker_starting(&mut self, worker: &WorkerInfo) -> io::Result<()> {
        if worker.command.is_empty() {
            let port = worker.port;
            return self.line(&format!("\n🔗 Attached to the server on port {port}"));
        }
        self.line("\n🚀 Starting worker...")?;
        self.line(&format!("   Worker ID: {}", worker.worker_id))?;
        self.line(&format!("   Model: {}", worker.model))?;
        self.line(&format!(
            "   Backend: {} (device {})",
            worker.backend, worker.device
        ))?;
        self.line(&format!("   Port: {}", worker.port))?;
        self.line(&format!("   Hive URL: {}", worker.hive_url))
    }

    fn check_started(&mut self, id: &str, suite: Suite) -> io::Result<()> {
        let area = id.split('.').next().unwrap_or(id);
        self.answer = None;
        if suite != self.suite {
            self.suite = suite;
            match suite {
                Suite::Isolation => {}
                Suite::Contract => self.line("\n🔍 Testing every sentence of the contract...")?,
                Suite::Resilience => self.line("\n🔍 Testing what a worker has to survive...")?,
                Suite::Benchmark => self.line("\n📈 Measuring...")?,
                // The load introduces itself.
                Suite::Stress | Suite::Matrix => {}
            }
        }
        if area == self.area {
            return Ok(());
        }
        area.clone_into(&mut self.area);
        match AREAS.iter().find(|(name, ..)| *name == area) {
            Some((_, heading, _)) => self.line(&format!("\n{heading}")),
            None => Ok(()),
        }
    }

    fn token(&mut self, text: &str) -> io::Result<()> {
        if self.suite != Suite::Isolation || self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        self.live.end();
        if !self.in_text && !text.is_empty() {
            write!(self.out, "   ")?;
            self.in_text = true;
        }
        let text = self
            .style
            .show(&words::printed(text))
            .replace('\n', "\n   ");
        write!(self.out, "{text}")
    }

    fn check_finished(&mut self, check: &CheckSummary) -> io::Result<()> {
        let id = &check.id;
        let why = words::indented(&check.evidence().unwrap_or_default());
        let detail = words::one_line(check.detail.as_deref().unwrap_or_default());
        let aside = if detail.is_empty() {
            String::new()
        } else {
            format!(" ({detail})")
        };
        match check.outcome {
            CheckStatus::Passed => {
                let area = AREAS.iter().find(|(name, ..)| *name == self.area);
                match area {
                    Some((_, _, success)) if !success.is_empty() => {
                        self.line(&format!("✅ {success}{aside}"))?;
                    }
                    _ => self.line(&format!("✓ {id}{aside}"))?,
                }
                match self.answer.take() {
                    Some(answer) if area.is_some_and(|(_, _, success)| !success.is_empty()) => {
                        self.json(&answer.body)
                    }
                    _ => Ok(()),
                }
            }
            CheckStatus::Failed => self.line(&format!("❌ {id}: {why}")),
            CheckStatus::Warning if check.level == Level::Should => {
                self.line(&format!("⚠️ should: {id}: {why}"))
            }
            CheckStatus::Warning | CheckStatus::Invalid => self.line(&format!("⚠️ {id}: {why}")),
            CheckStatus::Skipped | CheckStatus::NotRun => {
                self.line(&format!("➖ {id} skipped: {why}"))
            }
        }
    }

    fn json(&mut self, value: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(&text)
    }

    fn hive_log(&mut self, heartbeats: &[Heartbeat]) -> io::Result<()> {
        self.line("\n📋 Hive server logs:")?;
        if heartbeats.is_empty() {
            return self.line("   (nothing reached the hive)");
        }
        let left_out = heartbeats.len().saturating_sub(FIRST_BEATS + LAST_BEATS);
        for (index, beat) in heartbeats.iter().enumerate() {
            if left_out > 0 && index == FIRST_BEATS {
                self.line(&format!("   ... {left_out} more ..."))?;
            }
            if (FIRST_BEATS..FIRST_BEATS + left_out).contains(&index) {
                continue;
            }
            let text = |name: &str| words::one_line(beat.body[name].as_str().unwrap_or("?"));
            let from = text("worker_id");
            self.line(&format!(
                "   [{}] ✅ Heartbeat #{} from worker: {from}",
                beat.clock, beat.number
            ))?;
            self.line(&format!("              State: {}", text("state")))?;
        }
        Ok(())
    }

    fn worker_log(&mut self, lines: &[String], path: &str) -> io::Result<()> {
        self.line(&format!("\n📋 Worker logs (last {} lines):", lines.len()))?;
        for line in lines {
            self.line(&format!("   {}", words::one_line(line)))?;
        }
        self.line(&format!("   (all of it: {path})"))
    }

    /// The summary comes before the clean-up, and once.
    fn summary(&mut self, report: &RunReport) -> io::Result<()> {
        if std::mem::replace(&mut self.summarised, true) {
            return Ok(());
        }
        for line in page::lines(&run::page(report)) {
            self.always(&line)?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Reporter for Human<W> {
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()> {
        match &event.kind {
            EventKind::RunStarted(run) => {
                self.line(&format!("🧪 {}", run.purpose.title()))?;
                self.line("==================================\n")?;
            }
            EventKind::ModelChecking => self.line("📦 Checking model file...")?,
            EventKind::ModelFound(model) => {
                let size_mb = model.size_bytes as f64 / 1e6;
                let parameters_m = model.parameters as f64 / 1e6;
                self.line(&format!("✓ Model found: {}", model.path))?;
                self.line(&format!(
                    "  {size_mb:.1} MB, {}, {parameters_m:.1} M parameters, {}",
                    model.architecture, model.quantisation
                ))?;
                if let Some(note) = &model.note {
                    self.line(&format!("  {note}"))?;
                }
            }
            EventKind::HiveStarting { port, limit_ms } => {
                let port = if *port == 0 {
                    String::from("a free port")
                } else {
                    format!("port {port}")
                };
                self.line(&format!("\n📡 Starting mock hive server on {port}..."))?;
                self.live.begin("the mock hive starts", *limit_ms);
            }
            EventKind::HiveStarted { pid, .. } => {
                self.live.end();
                self.line(&format!("✓ Mock hive server started (PID: {pid})"))?;
            }
            EventKind::BuildStarted { command, limit_ms } => {
                self.line(&format!("\n📦 Building the worker ({command})..."))?;
                self.live.begin("cargo builds the worker", *limit_ms);
            }
            EventKind::BuildProgress { package, done, of } => match (done, of) {
                (Some(done), Some(of)) => self.live.step(&format!("{done} of {of}, {package}")),
                _ => self.live.step(package),
            },
            EventKind::BuildFinished { duration_ms, .. } => {
                self.live.end();
                let duration_s = *duration_ms as f64 / 1e3;
                self.line(&format!("✓ Worker built ({duration_s:.1}s)"))?;
            }
            EventKind::WorkerStarting(worker) => self.worker_starting(worker)?,
            EventKind::WorkerStarted { pid } => {
                self.line(&format!("✓ Worker started (PID: {pid})"))?;
            }
            EventKind::ReadyWaiting { timeout_ms } => {
                let timeout_s = timeout_ms / 1000;
                self.line(&format!(
                    "\n⏳ Waiting for worker to be ready (timeout: {timeout_s}s)..."
                ))?;
                self.live.begin("the worker gets ready", Some(*timeout_ms));
            }
            EventKind::WorkerReady { after_ms } => {
                self.live.end();
                let after_s = *after_ms as f64 / 1e3;
                self.line(&format!("✅ Worker is ready! ({after_s:.1}s)"))?;
            }
            EventKind::CheckStarted { id } => {
                let planned = report.planned.iter().find(|planned| planned.id == *id);
                self.check_started(id, planned.map_or(self.suite, |planned| planned.suite))?;
                self.live.begin(id, None);
            }
            EventKind::Asked(question) => self.question(question)?,
            EventKind::Answered(answer) => self.answer(answer)?,
            EventKind::TokenReceived { text, .. } => self.token(text)?,
            EventKind::CheckFinished(record) => {
                self.live.end();
                self.check_finished(&report.summary_of(record))?;
            }
            EventKind::ScenarioStarted { plan, expected_ms } => {
                self.live.begin(&plan.name, Some(*expected_ms));
            }
            EventKind::CrewChanged(change) => self.line(&stress::change(change))?,
            EventKind::StressStarted(plan) => {
                self.line(&stress::load(plan))?;
                self.live.begin("the load", Some(plan.duration_ms));
            }
            EventKind::StressGoesOn(pulse) => self.line(&stress::pulse(pulse))?,
            EventKind::HeartbeatsWaiting { window_ms } => {
                let window_s = window_ms / 1000;
                self.line(&format!(
                    "⏳ Waiting up to {window_s} seconds for heartbeats..."
                ))?;
                self.live.begin("enough heartbeats", Some(*window_ms));
            }
            EventKind::LogTail {
                source: LogSource::Worker,
                lines,
                path,
            } => {
                self.hive_log(&report.heartbeats)?;
                self.worker_log(lines, path)?;
            }
            EventKind::Noted { message } => {
                self.line(&format!("  {}", words::indented(message)))?
            }
            EventKind::Troubled { message } => {
                self.always(&format!("\nerror: {}", words::indented(message)))?;
            }
            EventKind::Interrupted { signal } => {
                let name = words::signal_name(*signal);
                self.always(&format!(
                    "\n⚠️ Interrupted by {name}: cleaning up (press again to kill immediately)"
                ))?;
            }
            EventKind::CleanupStarted { limit_ms } => {
                self.live.end();
                self.summary(report)?;
                self.line("\n🧹 Cleaning up...")?;
                self.live.begin("what was started stops", *limit_ms);
            }
            EventKind::CleanupFinished { survivors } if survivors.is_empty() => {
                self.live.end();
                self.line("✓ Cleanup complete")?;
            }
            EventKind::CleanupFinished { survivors } => {
                self.live.end();
                self.always(&format!("❌ Left behind: {}", survivors.join(", ")))?;
            }
            EventKind::RunFinished { .. } => {
                self.live.end();
                self.summary(report)?;
                self.always(&format!("\n{}", run::page(report).last_line))?;
            }
            EventKind::Planned { .. }
            | EventKind::Configured { .. }
            | EventKind::EnvironmentFound(_)
            | EventKind::ModelHashed { .. }
            | EventKind::Unanswered { .. }
            | EventKind::Sampled(_)
            | EventKind::LogRecorded { .. }
            | EventKind::Tared(_)
            | EventKind::RequestMeasured(_)
            | EventKind::ScenarioFinished { .. }
            | EventKind::Compared(_)
            | EventKind::StressFinished(_)
            | EventKind::HeartbeatReceived(_)
            | EventKind::GreedyAnswered(_)
            | EventKind::WorkerExited { .. }
            | EventKind::LogTail { .. } => {}
        }
        self.out.flush()
    }

    fn give_up(&mut self, error: &io::Error) {
        // A reader that went away (`| head -1`) has seen enough.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(io::stderr(), "warning: the output ends here: {error}");
        }
    }
}

/// Many runs side by side.
pub fn matrix_lines(matrix: &Matrix) -> Vec<String> {
    let page = matrix::page(matrix);
    let mut lines = page::lines(&page);
    lines.push(format!("\n{}", page.last_line));
    lines
}

/// What introduces the test of one backend.
pub fn backend_lines(backend: &str) -> Vec<String> {
    vec![format!("\n🚀 Backend {backend}\n")]
}

/// What is said of a backend that isn't tested.
pub fn skipped_backend_lines(backend: &str, reason: &str) -> Vec<String> {
    vec![format!("\n➖ Backend {backend} skipped: {reason}")]
}

/// Prints to standard output, as plainly as it asks for.
pub fn print(lines: &[String]) -> io::Result<()> {
    let style = Style::of_stdout();
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", style.show(&words::printed(line)))?;
    }
    out.flush()
}

/// What people are told of a recorded run on a pipe.
#[cfg(test)]
pub(super) fn told(recording: &str) -> String {
    let style = Style {
        colour: false,
        unicode: true,
    };
    let mut human = Human::new(Vec::new(), style, Verbosity::Normal);
    let mut report = RunReport::default();
    for line in recording.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        report.apply(&event);
        human.report(&event, &report).unwrap();
    }
    String::from_utf8(human.out).unwrap()
}
