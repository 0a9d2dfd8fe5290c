//! How single facts read: requests and answers, checks, logs, the summary.

use std::io::{self, Write};

use serde_json::Value;

use super::{Human, page};
use crate::tasks::worker::record::event::{
    CheckStatus, CheckSummary, Heartbeat, Level, ResponseReceived, Suite, WorkerInfo,
};
use crate::tasks::worker::record::facts::RequestSent;
use crate::tasks::worker::record::output::Verbosity;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::{run, words};

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

impl<W: Write> Human<W> {
    pub(super) fn question(&mut self, question: &RequestSent) -> io::Result<()> {
        self.live.begin(
            &format!("{}{}: {}", self.progress, question.id, question.request),
            Some(question.limit_ms),
        );
        if self.verbosity != Verbosity::Verbose {
            return Ok(());
        }
        let whom = question.auxiliary.as_ref();
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

    pub(super) fn answer(&mut self, answer: &ResponseReceived) -> io::Result<()> {
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

    pub(super) fn worker_starting(&mut self, worker: &WorkerInfo) -> io::Result<()> {
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

    pub(super) fn check_started(&mut self, id: &str, suite: Suite) -> io::Result<()> {
        let area = id.split('.').next().unwrap_or(id);
        self.answer = None;
        if suite != self.suite {
            self.suite = suite;
            match suite {
                Suite::Isolation => {}
                Suite::Contract => self.line("\n🔍 Testing every sentence of the contract...")?,
                Suite::Resilience => self.line("\n🔍 Testing what a worker must survive...")?,
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

    pub(super) fn token(&mut self, text: &str) -> io::Result<()> {
        if self.suite != Suite::Isolation || self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        self.live.end();
        self.tell_skipped()?;
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

    pub(super) fn check_finished(&mut self, check: &CheckSummary) -> io::Result<()> {
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
                        self.row(&format!("✅ {success}{aside}"))?;
                    }
                    _ => self.row(&format!("✓ {id}{aside}"))?,
                }
                match self.answer.take() {
                    Some(answer) if area.is_some_and(|(_, _, success)| !success.is_empty()) => {
                        self.json(&answer.body)
                    }
                    _ => Ok(()),
                }
            }
            // The same again is told in full with its cause.
            CheckStatus::Failed => match &check.follows_from {
                Some(cause) => self.row(&format!("❌ {id}: follows from {cause}")),
                None => self.row(&format!("❌ {id}: {why}")),
            },
            CheckStatus::Warning if check.level == Level::Should => {
                self.row(&format!("⚠️ should: {id}: {why}"))
            }
            CheckStatus::Warning | CheckStatus::Invalid => self.row(&format!("⚠️ {id}: {why}")),
            CheckStatus::Skipped | CheckStatus::NotRun => {
                let last = self.skipped.last();
                if last.is_some_and(|last| last.reason != check.reason) {
                    self.tell_skipped()?;
                }
                self.skipped.push(check.clone());
                Ok(())
            }
        }
    }

    /// A line about one check, which is told in full at the end where it has to be.
    fn row(&mut self, text: &str) -> io::Result<()> {
        let row = self.style.row(text);
        self.line(&row)
    }

    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(&text)
    }

    pub(super) fn hive_log(&mut self, heartbeats: &[Heartbeat]) -> io::Result<()> {
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

    pub(super) fn worker_log(&mut self, lines: &[String], path: &str) -> io::Result<()> {
        self.line(&format!("\n📋 Worker logs (last {} lines):", lines.len()))?;
        for line in lines {
            let line = format!("   {}", words::one_line(line));
            self.line(&self.style.wrapped(&line))?;
        }
        self.line(&format!("   (all of it: {path})"))
    }

    /// The summary comes before the clean-up, and once.
    pub(super) fn summary(&mut self, report: &RunReport) -> io::Result<()> {
        if std::mem::replace(&mut self.summarised, true) {
            return Ok(());
        }
        for line in page::lines(&run::page(report), self.style) {
            self.always(&line)?;
        }
        Ok(())
    }
}
