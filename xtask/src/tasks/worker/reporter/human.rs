//! For people: what happens as it happens, then both logs and the summary.

mod causes;
mod facts;
mod live;
mod page;
mod stress;
mod style;

use std::io::{self, Write};

use self::live::Live;
use self::style::Style;
use super::{Reporter, comparison, matrix, run, words};
use crate::tasks::worker::record::event::{
    CheckSummary, Event, EventKind, LogSource, ResponseReceived, Suite,
};
use crate::tasks::worker::record::matrix::Matrix;
use crate::tasks::worker::record::output::Verbosity;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::runs_compared::RunsCompared;

/// Tells people about a run.
pub struct Human<W> {
    out: W,
    style: Style,
    live: Live,
    verbosity: Verbosity,
    /// The area of the check that is running: it has its heading already.
    area: String,
    /// Which check that is, and of how many.
    progress: String,
    /// The suite of the check that is running.
    suite: Suite,
    /// Whether streamed text stands on the line that is being written.
    in_text: bool,
    /// Checks that were skipped one after the other for one reason, which is told once.
    skipped: Vec<CheckSummary>,
    /// The last answer of the running check.
    answer: Option<ResponseReceived>,
    summarised: bool,
}

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
            progress: String::new(),
            suite: Suite::Isolation,
            in_text: false,
            skipped: Vec::new(),
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
        self.tell_skipped()?;
        self.put(text)
    }

    /// Tells of the checks that were skipped last.
    fn tell_skipped(&mut self) -> io::Result<()> {
        let skipped = skipped(&std::mem::take(&mut self.skipped));
        match skipped.filter(|_| self.verbosity != Verbosity::Quiet) {
            Some(line) => self.put(&self.style.row(&line)),
            None => Ok(()),
        }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
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
                    self.line(&self.style.wrapped(&format!("  {note}")))?;
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
                let (number, of) = (report.checks.len() + 1, report.planned.len().max(1));
                self.progress = format!("{}/{of} ", number.min(of));
                self.live.begin(&format!("{}{id}", self.progress), None);
            }
            EventKind::Asked(question) => self.question(question)?,
            EventKind::Answered(answer) => self.answer(answer)?,
            EventKind::TokenReceived { text, .. } => self.token(text)?,
            EventKind::CheckFinished(record) => {
                self.live.end();
                let mut checks = report.check_summaries().into_iter();
                let check = checks.rfind(|check| check.id == record.id);
                self.check_finished(&check.unwrap_or_else(|| report.summary_of(record)))?;
            }
            EventKind::ScenarioStarted { plan, expected_ms } => {
                self.live.begin(&plan.name, Some(*expected_ms));
            }
            EventKind::PoolChanged(change) => self.line(&stress::change(change))?,
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
                let note = format!("  {}", words::indented(message));
                self.line(&self.style.wrapped(&note))?;
            }
            EventKind::Troubled { message } => {
                let trouble = format!("\nerror: {}", words::indented(message));
                self.always(&self.style.wrapped(&trouble))?;
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
                let page = run::page(report);
                self.always(&self.style.wrapped(&format!("\n{}", page.last_line)))?;
                // A command that is broken can't be copied.
                if let Some(next) = page.next {
                    self.always(&format!("   next: {next}"))?;
                }
            }
            EventKind::Planned { .. }
            | EventKind::Configured { .. }
            | EventKind::EnvironmentFound(_)
            | EventKind::ModelHashed { .. }
            | EventKind::Unanswered { .. }
            | EventKind::Sampled(_)
            | EventKind::LogRecorded { .. }
            | EventKind::LogOfCheck { .. }
            | EventKind::Calibrated(_)
            | EventKind::StartMeasured { .. }
            | EventKind::StopMeasured { .. }
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

/// A line about checks that were skipped for one reason.
fn skipped(checks: &[CheckSummary]) -> Option<String> {
    let first = checks.first()?;
    let who = match checks.len() {
        1 => first.id.clone(),
        count => format!("{count} checks"),
    };
    let why = words::indented(first.reason.as_deref().unwrap_or_default());
    Some(format!("➖ {who} skipped: {why}"))
}

/// Many runs side by side.
pub fn matrix_lines(matrix: &Matrix) -> Vec<String> {
    let page = matrix::page(matrix);
    let mut lines = page::lines(&page, Style::of_stdout());
    lines.push(format!("\n{}", page.last_line));
    lines
}

/// Two runs side by side.
pub fn comparison_lines(compared: &RunsCompared) -> Vec<String> {
    let page = comparison::page(compared);
    let [before, after] = &compared.runs;
    let mut lines = vec![format!("📊 {before} and {after}")];
    lines.extend(page::lines(&page, Style::of_stdout()));
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
        columns: None,
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

#[cfg(test)]
mod tests {
    use super::told;

    const SKIPPED: &str = r#""outcome":"skipped","reason":"it did not become ready","because":{"expected":"a process that lives","got":"exit status 2","place":"the process"}"#;
    const DIED: &str = r#""outcome":"failed","expected":"a process that lives","got":"exit status 2","place":"the process""#;
    const UNJUDGED: &str = r#""outcome":"invalid","reason":"the machine was busy\n  try: another""#;

    fn recording(checks: &[(&str, &str)]) -> String {
        let begin = r#"{"elapsed_ms":0,"event":"run_started","schema_version":2,"run_id":"r","started_at":"2026-01-31T10:54:23Z","artifacts":"a","purpose":"suite"}
{"elapsed_ms":1,"event":"configured","options":{},"arguments":["worker:test"]}"#;
        let checks = checks.iter().map(|(id, outcome)| {
            format!(
                r#"{{"elapsed_ms":5,"event":"check_finished","id":"{id}",{outcome},"duration_ms":1,"detail":null}}"#
            )
        });
        let end = r#"{"elapsed_ms":9,"event":"run_finished","duration_ms":9}"#;
        let lines = [begin.to_owned()].into_iter().chain(checks);
        lines.chain([end.to_owned()]).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_follows_from_one_cause_is_told_once() {
        let other = r#""outcome":"skipped","reason":"the protocol has no chat""#;
        let shown = told(&recording(&[
            ("a.one", SKIPPED),
            ("a.two", SKIPPED),
            ("b.chat", other),
            ("c.lives", DIED),
            ("d.lives", DIED),
        ]));
        let rows: Vec<_> = shown.lines().skip(3).take(4).collect();
        let expected = [
            "➖ 2 checks skipped: it did not become ready",
            "➖ b.chat skipped: the protocol has no chat",
            "❌ c.lives: the process: expected a process that lives, got exit status 2",
            "❌ d.lives: follows from c.lives",
        ];
        assert_eq!(rows, expected, "{shown}");
        assert_eq!(shown.matches("not tried 2: a.one, a.two").count(), 1);
        assert_eq!(shown.matches("it did not become ready").count(), 1);
        assert!(shown.ends_with("next: see it alone: cargo xtask worker:test --check c.lives\n"));
    }

    #[test]
    fn a_run_that_could_not_judge_ends_with_the_command_that_tries_it_again() {
        let shown = told(&recording(&[("c.lives", UNJUDGED)]));
        assert!(shown.ends_with("next: try it again: cargo xtask worker:test --check c.lives\n"));
    }
}
