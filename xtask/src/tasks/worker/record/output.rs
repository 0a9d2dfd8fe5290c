//! In which forms a run is shown and reported. Pure.

/// The name of threads that reporters run in: a panic there ends no run.
pub const REPORTING_THREAD: &str = "reporters";

/// How much is shown of a run as it happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// The summary.
    Quiet,
    /// Every step and its outcome.
    #[default]
    Normal,
    /// Also requests and answers.
    Verbose,
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
    /// The run on one clock, for Perfetto and Chrome.
    Trace,
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
    (ReportKind::Trace, "trace", "trace.json"),
];

impl ReportKind {
    /// All of them, in their order.
    pub fn all() -> impl Iterator<Item = ReportKind> {
        KINDS.iter().map(|(kind, ..)| *kind)
    }

    /// Those that every run writes, in their order. Exports are written where they are asked for.
    pub fn always() -> impl Iterator<Item = ReportKind> {
        Self::all().filter(|kind| {
            let is_export = matches!(
                kind,
                ReportKind::GithubBenchmark | ReportKind::Bencher | ReportKind::Trace
            );
            !is_export
        })
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
}
