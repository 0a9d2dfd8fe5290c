//! Who tells people and machines about a run. Knows the record and nothing else.

mod comparison;
pub mod detached;
pub mod document;
mod drawing;
mod exports;
pub mod file;
pub mod github;
#[cfg(test)]
mod hostile;
mod html;
pub mod human;
pub mod json;
mod junit;
mod markdown;
mod matrix;
mod page;
mod repro;
mod run;
#[cfg(test)]
mod snapshots;
mod trace;
pub mod words;

use std::io;

pub use self::run::calibration;
use crate::tasks::worker::record::event::Event;
use crate::tasks::worker::record::matrix::Matrix;
use crate::tasks::worker::record::output::ReportKind;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::runs_compared::RunsCompared;

/// Hears of every event, in order.
pub trait Reporter: Send {
    /// One more event. `report` already contains it.
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()>;

    /// Called once after [`Reporter::report`] failed; nothing follows.
    fn give_up(&mut self, error: &io::Error);
}

/// The whole report of a run.
pub fn render(kind: ReportKind, report: &RunReport) -> String {
    match kind {
        ReportKind::Json => document::render(report),
        ReportKind::Junit => junit::render(&run::page(report)),
        ReportKind::Markdown => markdown::render(&run::page(report)),
        ReportKind::Html => html::render(&run::page(report)),
        ReportKind::Repro => repro::render(report),
        ReportKind::GithubBenchmark => exports::github_benchmark(report),
        ReportKind::Bencher => exports::bencher(report),
        ReportKind::Trace => trace::render(report),
    }
}

/// The whole comparison of two runs; `None` for a kind that is about one run only.
pub fn render_comparison(kind: ReportKind, compared: &RunsCompared) -> Option<String> {
    match kind {
        ReportKind::Json => Some(document::pretty(compared)),
        ReportKind::Markdown => Some(markdown::render(&comparison::page(compared))),
        ReportKind::Html => Some(html::render(&comparison::page(compared))),
        _ => None,
    }
}

/// The whole report of many runs; `None` for a kind that is about one run only.
pub fn render_matrix(kind: ReportKind, matrix: &Matrix) -> Option<String> {
    match kind {
        ReportKind::Json => Some(document::pretty(matrix)),
        ReportKind::Junit => Some(junit::render(&matrix::page(matrix))),
        ReportKind::Markdown => Some(markdown::render(&matrix::page(matrix))),
        ReportKind::Html => Some(html::render(&matrix::page(matrix))),
        ReportKind::Repro
        | ReportKind::GithubBenchmark
        | ReportKind::Bencher
        | ReportKind::Trace => None,
    }
}
