//! Who tells people and machines about a run. Knows the record and nothing else.

pub mod bench;
pub mod document;
pub mod exports;
pub mod file;
pub mod github;
pub mod html;
pub mod human;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod matrix;
pub mod repro;
#[cfg(test)]
mod snapshots;
pub mod stress;
mod words;

use std::io;

use crate::tasks::worker::record::event::Event;
use crate::tasks::worker::record::output::ReportKind;
use crate::tasks::worker::record::report::RunReport;

/// Hears of every event, in order.
pub trait Reporter: Send {
    /// One more event. `report` already contains it.
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()>;

    /// Called once after [`Reporter::report`] failed; nothing follows.
    fn give_up(&mut self, error: &io::Error);
}

impl ReportKind {
    /// The whole report.
    pub fn render(self, report: &RunReport) -> String {
        match self {
            ReportKind::Json => document::render(report),
            ReportKind::Junit => junit::render(report),
            ReportKind::Markdown => markdown::render(report),
            ReportKind::Html => html::render(report),
            ReportKind::Repro => repro::render(report),
            ReportKind::GithubBenchmark => exports::github_benchmark(report),
            ReportKind::Bencher => exports::bencher(report),
        }
    }
}
