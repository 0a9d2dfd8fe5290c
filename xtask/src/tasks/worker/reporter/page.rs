//! A report as data: its verdict, its checks, its sections. Every format renders this and nothing
//! else, so a section, a table or a check has one place whatever the run was for. Pure.

use super::drawing::Drawing;
use crate::tasks::worker::record::event::{CheckStatus, CheckSummary};
use crate::tasks::worker::record::facts::TimedLine;
use crate::tasks::worker::record::timeline::RequestSpan;

/// The report of a run, or of many.
#[derive(Debug)]
pub struct ReportPage {
    /// "Worker test".
    pub heading: String,
    /// "PASSED".
    pub verdict: String,
    /// How the verdict looks.
    pub tone: Tone,
    /// A sentence that says why.
    pub lead: String,
    /// The last word at a terminal.
    pub last_line: String,
    /// The one thing to do next, where something has to be done.
    pub next: Option<String>,
    /// Names the run; empty where reports were merged.
    pub run_id: String,
    /// Wall clock at its start, RFC 3339.
    pub started_at: Option<String>,
    /// The whole duration.
    pub duration_ms: Option<u64>,
    /// The folder with the run's files.
    pub artifacts: Option<String>,
    /// What a reader has to know besides the checks.
    pub alerts: Vec<Alert>,
    /// The few facts that a reader looks for first.
    pub facts: Vec<Fact>,
    /// The runs: one, or those of a matrix.
    pub columns: Vec<Column>,
    /// Why a run is red; none where runs stand side by side.
    pub causes: Vec<CauseView>,
    /// Every check of any column.
    pub checks: Vec<CheckRow>,
    /// Everything else, in its order.
    pub sections: Vec<Section>,
    /// The last line of a page.
    pub footer: Option<String>,
}

/// A name and its value.
pub type Fact = (&'static str, String);

/// How something looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Broken.
    Bad,
    /// Not judged, or a warning.
    Unclear,
    /// Neither good nor bad.
    Neutral,
}

/// A run: the only one, or one of a matrix.
#[derive(Debug)]
pub struct Column {
    /// "cpu", "host cuda"; `None` where there is only one.
    pub name: Option<String>,
    /// How it ended, as tables spell it.
    pub verdict: &'static str,
    /// How that looks.
    pub tone: Tone,
    /// Whether there was no run.
    pub is_skipped: bool,
    /// What is true of every check in it.
    pub properties: Vec<Fact>,
    /// The end of the worker's log.
    pub log: Vec<String>,
}

/// A check in every column.
#[derive(Debug)]
pub struct CheckRow {
    /// Its stable name.
    pub id: String,
    /// Completes the sentence "The worker ...".
    pub promise: String,
    /// How it ended; `None` where it wasn't asked for.
    pub cells: Vec<Option<CheckSummary>>,
    /// The requests that it sent, the first of them.
    pub requests: Vec<RequestSpan>,
    /// How many more there were.
    pub requests_left_out: usize,
}

/// A broken promise with all that helps to understand it.
#[derive(Debug)]
pub struct CauseView {
    /// The check that saw it first.
    pub check: CheckSummary,
    /// What follows from it.
    pub consequences: Vec<CheckSummary>,
    /// When it was tried.
    pub span: Option<CauseSpan>,
    /// What workers wrote meanwhile.
    pub log: Vec<TimedLine>,
    /// The command that repeats just this check.
    pub command: String,
}

/// When a check was tried, on the axis of its run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CauseSpan {
    /// Its begin.
    pub began_ms: f64,
    /// Its end.
    pub ended_ms: f64,
    /// The end of the run.
    pub run_ms: f64,
}

/// Something that a reader has to know besides the checks.
#[derive(Debug)]
pub struct Alert {
    /// What it is about.
    pub kind: AlertKind,
    /// The column it belongs to; `None` for all of them together.
    pub column: Option<usize>,
    /// In words.
    pub text: String,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertKind {
    /// Why the run could not go on or could not judge.
    Trouble,
    /// A process or port that outlived the run.
    LeftBehind,
    /// A signal ended the run early.
    Interrupted,
    /// There is no report of the run.
    NoReport,
    /// The backend was not tested.
    Skipped,
    /// Worth knowing, without weight.
    Note,
    /// Backends continue the same text in the same way.
    Agreement,
    /// They don't.
    Disagreement,
    /// Too little was compared to say so.
    UnclearAgreement,
}

/// A part of a page.
#[derive(Debug)]
pub struct Section {
    /// Stable name.
    pub id: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What stands beside the title.
    pub aside: String,
    /// Where it is shown.
    pub shown: Shown,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// Where a section is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// At a terminal and on pages.
    Everywhere,
    /// On pages: Markdown, folded, and HTML.
    OnPages,
    /// In HTML.
    InHtml,
    /// On pages, folded in HTML too.
    Folded,
    /// In HTML, folded.
    FoldedInHtml,
}

/// What a section consists of.
#[derive(Debug)]
pub enum Block {
    /// The page's checks.
    Checks,
    /// The page's causes.
    Causes,
    /// A table of words and figures.
    Table(Table),
    /// Remarks about what stands before them.
    Remarks(Vec<String>),
    /// Names and values.
    Facts {
        /// Whose, where that isn't obvious.
        of: Option<String>,
        /// In their order.
        facts: Vec<Fact>,
    },
    /// Text that a worker streamed.
    Quote {
        /// The text.
        text: String,
        /// The check that asked for it.
        source: String,
    },
    /// Lines of a log.
    Log(Vec<String>),
    /// A drawing, which only HTML can show.
    Drawing(Drawing),
}

/// A table of words and figures.
#[derive(Debug, Default)]
pub struct Table {
    /// The names of its columns.
    pub head: Vec<String>,
    /// As many cells in each as there are columns.
    pub rows: Vec<Vec<String>>,
    /// So many columns are words, and stand to the left; the others are figures.
    pub words: usize,
    /// A bar for each row, 0 to 1, where it has bars; for formats that draw them as text.
    pub bars: Vec<f64>,
}

/// The facts that are known.
pub fn known<const N: usize>(facts: [(&'static str, Option<String>); N]) -> Vec<Fact> {
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known.collect()
}

impl Tone {
    /// What stands for it in text.
    pub fn symbol(self) -> &'static str {
        match self {
            Tone::Good => "✅",
            Tone::Bad => "❌",
            Tone::Unclear => "⚠️",
            Tone::Neutral => "➖",
        }
    }

    /// Its class in the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Tone::Good => "passed",
            Tone::Bad => "failed",
            Tone::Unclear => "invalid",
            Tone::Neutral => "skipped",
        }
    }

    /// Of a check.
    pub fn of(status: CheckStatus) -> Self {
        match status {
            CheckStatus::Passed => Tone::Good,
            CheckStatus::Failed => Tone::Bad,
            CheckStatus::Warning | CheckStatus::Invalid => Tone::Unclear,
            CheckStatus::Skipped | CheckStatus::NotRun => Tone::Neutral,
        }
    }
}

impl AlertKind {
    /// How it is headed.
    pub fn label(self) -> &'static str {
        match self {
            AlertKind::Trouble => "error",
            AlertKind::LeftBehind => "left behind",
            AlertKind::Interrupted => "interrupted",
            AlertKind::NoReport => "invalid",
            AlertKind::Skipped => "skipped",
            AlertKind::Note => "note",
            AlertKind::Agreement | AlertKind::Disagreement | AlertKind::UnclearAgreement => {
                "greedy text"
            }
        }
    }

    /// How it looks.
    pub fn tone(self) -> Tone {
        match self {
            AlertKind::Agreement => Tone::Good,
            AlertKind::LeftBehind | AlertKind::Disagreement => Tone::Bad,
            AlertKind::Trouble | AlertKind::Interrupted | AlertKind::NoReport => Tone::Unclear,
            AlertKind::Skipped | AlertKind::Note | AlertKind::UnclearAgreement => Tone::Neutral,
        }
    }
}

impl ReportPage {
    /// Whether it puts several runs side by side.
    pub fn is_matrix(&self) -> bool {
        self.columns
            .first()
            .is_none_or(|column| column.name.is_some())
    }

    /// "cuda skipped", "error": what an alert is headed with.
    pub fn label(&self, alert: &Alert) -> String {
        let column = alert.column.and_then(|index| self.columns.get(index));
        match column.and_then(|column| column.name.as_ref()) {
            Some(name) => format!("{name} {}", alert.kind.label()),
            None => alert.kind.label().to_owned(),
        }
    }
}

impl CheckRow {
    /// How it ended in a column, in a word; empty where it wasn't asked for.
    pub fn word(&self, index: usize, column: &Column) -> &'static str {
        match &self.cells[index] {
            Some(check) => check.outcome.as_str(),
            None if column.is_skipped => "skipped",
            None => "",
        }
    }

    /// How it ended where it ended worst.
    pub fn worst(&self) -> CheckStatus {
        let rank = |status: &CheckStatus| match status {
            CheckStatus::Failed => 0,
            CheckStatus::Invalid => 1,
            CheckStatus::Warning => 2,
            CheckStatus::NotRun => 3,
            CheckStatus::Passed => 4,
            CheckStatus::Skipped => 5,
        };
        let cells = self.cells.iter().flatten();
        let worst = cells.map(|check| check.outcome).min_by_key(rank);
        worst.unwrap_or(CheckStatus::Skipped)
    }

    /// The area that it belongs to: what stands before the dot.
    pub fn area(&self) -> &str {
        self.id.split('.').next().unwrap_or(&self.id)
    }
}

impl Section {
    /// Whether a terminal shows it.
    pub fn is_for_terminals(&self) -> bool {
        self.shown == Shown::Everywhere
    }

    /// Whether Markdown has it.
    pub fn is_for_markdown(&self) -> bool {
        matches!(
            self.shown,
            Shown::Everywhere | Shown::OnPages | Shown::Folded
        )
    }

    /// Whether HTML folds it.
    pub fn is_folded(&self) -> bool {
        matches!(self.shown, Shown::Folded | Shown::FoldedInHtml)
    }
}

impl Table {
    /// A table whose first `words` columns are words.
    pub fn new<'h>(head: impl IntoIterator<Item = &'h str>, words: usize) -> Self {
        Self {
            head: head.into_iter().map(str::to_owned).collect(),
            words,
            ..Self::default()
        }
    }

    /// As lines of text, cells under each other: words to the left, figures to the right.
    pub fn aligned(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let all = cells.chain(self.head.get(column));
            all.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate();
            let padded = cells.map(|(column, (cell, &width))| match column < self.words {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let rows = self.rows.iter().map(line);
        let has_head = self.head.iter().any(|name| !name.is_empty());
        let head = has_head.then(|| line(&self.head));
        head.into_iter().chain(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(["x", "n"], 1);
        table.rows = vec![
            vec![String::from("a"), String::from("1")],
            vec![String::from("bcd"), String::from("22")],
        ];
        assert_eq!(table.aligned(), ["x     n", "a     1", "bcd  22"]);
    }
}
