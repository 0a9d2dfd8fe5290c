//! Who tells people and machines about a run. Knows the record and nothing else.

pub mod document;
mod drawing;
mod exports;
pub mod file;
pub mod github;
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
mod words;

use std::io;

pub use self::run::calibration;
use crate::tasks::worker::record::event::Event;
use crate::tasks::worker::record::matrix::Matrix;
use crate::tasks::worker::record::report::RunReport;

/// Hears of every event, in order.
pub trait Reporter: Send {
    /// One more event. `report` already contains it.
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()>;

    /// Called once after [`Reporter::report`] failed; nothing follows.
    fn give_up(&mut self, error: &io::Error);
}

/// A report that is a pure function of the folded events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// `report.json`, described by `docs/report.schema.json`.
    Json,
    /// JUnit XML, for CI systems.
    Junit,
    /// Markdown, for job summaries.
    Markdown,
    /// One page that needs no network.
    Html,
    /// A shell script that does by hand what the run did.
    Repro,
    /// Figures for `github-action-benchmark`.
    GithubBenchmark,
    /// Figures for Bencher.
    Bencher,
}

/// Each report, its name on the command line and its file's name.
const KINDS: &[(ReportKind, &str, &str)] = &[
    (ReportKind::Json, "json", "report.json"),
    (ReportKind::Junit, "junit", "junit.xml"),
    (ReportKind::Markdown, "markdown", "summary.md"),
    (ReportKind::Html, "html", "report.html"),
    (ReportKind::Repro, "repro", "repro.sh"),
    (
        ReportKind::GithubBenchmark,
        "github-benchmark",
        "github-benchmark.json",
    ),
    (ReportKind::Bencher, "bencher", "bencher.json"),
];

impl ReportKind {
    /// Those that every run writes, in their order. Exports are written where they are asked for.
    pub fn always() -> impl Iterator<Item = ReportKind> {
        let all = KINDS.iter().map(|(kind, ..)| *kind);
        all.filter(|kind| !matches!(kind, ReportKind::GithubBenchmark | ReportKind::Bencher))
    }

    /// Those that a matrix's folder holds.
    pub fn of_matrices() -> [ReportKind; 4] {
        [
            ReportKind::Json,
            ReportKind::Junit,
            ReportKind::Markdown,
            ReportKind::Html,
        ]
    }

    /// All that `--report` knows, in a sentence.
    pub fn names() -> String {
        let names: Vec<_> = KINDS.iter().map(|(_, name, _)| *name).collect();
        names.join(", ")
    }

    /// As `--report` spells it.
    pub fn from_name(name: &str) -> Option<ReportKind> {
        let found = KINDS.iter().find(|(_, known, _)| *known == name);
        found.map(|(kind, ..)| *kind)
    }

    /// What its file is called in a run's folder.
    pub fn file_name(self) -> &'static str {
        let found = KINDS.iter().find(|(kind, ..)| *kind == self);
        found.map_or("report", |(.., file)| file)
    }

    /// The whole report of a run.
    pub fn render(self, report: &RunReport) -> String {
        match self {
            ReportKind::Json => document::render(report),
            ReportKind::Junit => junit::render(&run::page(report)),
            ReportKind::Markdown => markdown::render(&run::page(report)),
            ReportKind::Html => html::render(&run::page(report)),
            ReportKind::Repro => repro::render(report),
            ReportKind::GithubBenchmark => exports::github_benchmark(report),
            ReportKind::Bencher => exports::bencher(report),
        }
    }

    /// The whole report of many runs; `None` for a kind that is about one run only.
    pub fn render_matrix(self, matrix: &Matrix) -> Option<String> {
        match self {
            ReportKind::Json => Some(document::pretty(matrix)),
            ReportKind::Junit => Some(junit::render(&matrix::page(matrix))),
            ReportKind::Markdown => Some(markdown::render(&matrix::page(matrix))),
            ReportKind::Html => Some(html::render(&matrix::page(matrix))),
            ReportKind::Repro | ReportKind::GithubBenchmark | ReportKind::Bencher => None,
        }
    }
}
