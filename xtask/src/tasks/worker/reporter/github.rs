//! GitHub Actions: the job's summary page and annotations.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Reporter, render, words};
use crate::tasks::worker::record::causes::{self, Cause};
use crate::tasks::worker::record::event::{CheckStatus, Event, Stage};
use crate::tasks::worker::record::output::ReportKind;
use crate::tasks::worker::record::report::RunReport;

/// GitHub shows nothing at all of a step's summary beyond 1 MiB, so we stay below it.
const SUMMARY_LIMIT_BYTES: u64 = 1 << 20;

/// What stands where a summary had to be cut.
const CUT: &str = "\n\n*This summary was cut here, because GitHub accepts 1 MiB per step. All of it is in the run's artifact folder.*\n";

/// GitHub shows at most ten annotations of each kind a step.
const ANNOTATIONS: usize = 10;

/// Appends the Markdown to the job's summary.
#[derive(Debug)]
pub struct StepSummary {
    path: PathBuf,
}

impl StepSummary {
    /// Appends to the file that `GITHUB_STEP_SUMMARY` names.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Reporter for StepSummary {
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()> {
        match event.kind.stage() {
            Stage::Over => append(&self.path, &render(ReportKind::Markdown, report)),
            Stage::UnderWay | Stage::WorkerKnown => Ok(()),
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        eprintln!("warning: the job's summary is missing: {error}");
    }
}

/// Prints broken promises as annotations.
#[derive(Debug)]
pub struct Annotations<W> {
    out: W,
}

impl<W: Write> Annotations<W> {
    /// Prints to `out`, which GitHub has to read.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Reporter for Annotations<W> {
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()> {
        match event.kind.stage() {
            Stage::Over => {
                self.out.write_all(annotations(report).as_bytes())?;
                self.out.flush()
            }
            Stage::UnderWay | Stage::WorkerKnown => Ok(()),
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        eprintln!("warning: the annotations are missing: {error}");
    }
}

/// Shows a run between two commands that keep GitHub from reading commands in it; the annotations,
/// which are commands, come behind it.
#[derive(Debug)]
pub struct Fenced<R, W> {
    inner: R,
    annotations: Annotations<W>,
    /// What the first command names and the last one is: nobody else knows it.
    word: String,
    is_open: bool,
}

impl<R: Reporter, W: Write> Fenced<R, W> {
    /// Puts `inner`, which writes to `out` as well, between the two. `word` is a secret.
    pub fn new(inner: R, out: W, word: String) -> Self {
        Self {
            inner,
            annotations: Annotations::new(out),
            word,
            is_open: false,
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_open) {
            writeln!(self.annotations.out, "::{}::", self.word)?;
        }
        self.annotations.out.flush()
    }
}

impl<R: Reporter, W: Write + Send> Reporter for Fenced<R, W> {
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_open, true) {
            writeln!(self.annotations.out, "::stop-commands::{}", self.word)?;
            self.annotations.out.flush()?;
        }
        self.inner.report(event, report)?;
        if event.kind.stage() == Stage::Over {
            self.close()?;
        }
        self.annotations.report(event, report)
    }

    fn give_up(&mut self, error: &io::Error) {
        self.inner.give_up(error);
        let _ = self.close();
    }
}

/// Appends a page to a job's summary, as far as there is room.
pub fn append(path: &Path, page: &str) -> io::Result<()> {
    let already = fs::metadata(path).map_or(0, |found| found.len());
    let room = SUMMARY_LIMIT_BYTES.saturating_sub(already + 1) as usize;
    let page = fitted(page, room);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(page.as_bytes())
}

/// As much of the page as there is room for, with a line that says so.
fn fitted(page: &str, room: usize) -> String {
    if page.len() <= room {
        return page.to_owned();
    }
    let Some(mut end) = room.checked_sub(CUT.len()) else {
        return String::new();
    };
    while !page.is_char_boundary(end) {
        end -= 1;
    }
    // A fence or a fold that stays open would swallow the line that says so.
    let kept = &page[..end];
    let kept = kept.rfind('\n').map_or(kept, |line| &kept[..line]);
    let mut closing = String::new();
    if let Some(fence) = open_fence(kept) {
        closing = format!("\n{fence}\n");
    }
    if kept.matches("<details>").count() > kept.matches("</details>").count() {
        closing.push_str("\n</details>\n");
    }
    let fits = kept.len() + closing.len() + CUT.len() <= room;
    let kept = if fits { kept } else { &kept[..kept.len() / 2] };
    let kept = kept.rfind('\n').map_or(kept, |line| &kept[..line]);
    format!("{kept}{closing}{CUT}")
}

/// The fence that is open at the end of a page.
fn open_fence(page: &str) -> Option<&str> {
    let mut open: Option<&str> = None;
    for line in page.lines() {
        let ticks = line.len() - line.trim_start_matches('`').len();
        match open {
            None if ticks >= 3 => open = Some(&line[..ticks]),
            Some(fence) if ticks >= fence.len() && line.len() == ticks => open = None,
            _ => {}
        }
    }
    open
}

/// One annotation a cause, which names its consequences: ten are all that GitHub shows.
fn annotations(report: &RunReport) -> String {
    let checks = report.check_summaries();
    let causes = causes::causes(&checks);
    let mut lines = Vec::new();
    for check in checks.iter().filter(|check| check.follows_from.is_none()) {
        let why = check.evidence().unwrap_or_default();
        let cause = causes.iter().find(|cause| cause.check.id == check.id);
        let (command, message) = match check.outcome {
            CheckStatus::Failed => ("error", why),
            // It may be what others failed by.
            CheckStatus::Warning if cause.is_some() => ("error", why),
            CheckStatus::Warning => ("warning", why),
            CheckStatus::Invalid => ("error", format!("could not be judged: {why}")),
            CheckStatus::Passed | CheckStatus::Skipped | CheckStatus::NotRun => continue,
        };
        let follows = cause.map_or(String::new(), consequences);
        lines.push(annotation(command, &check.id, &(message + &follows)));
    }
    let troubles = report
        .troubles
        .iter()
        .map(|trouble| annotation("error", "worker:test", trouble));
    lines.extend(troubles);
    if lines.len() > ANNOTATIONS {
        let more = lines.len() - (ANNOTATIONS - 1);
        lines.truncate(ANNOTATIONS - 1);
        let message = format!("and {more} more: see the job's summary");
        lines.push(annotation("error", "worker:test", &message));
    }
    lines.concat()
}

/// A line that counts and names what follows from a cause, if anything does.
fn consequences(cause: &Cause<'_>) -> String {
    let ids: Vec<&str> = cause
        .consequences
        .iter()
        .map(|check| check.id.as_str())
        .collect();
    match causes::counted(std::slice::from_ref(cause)) {
        Some(counted) if !ids.is_empty() => format!("\n{counted}: {}", ids.join(", ")),
        _ => String::new(),
    }
}

/// One workflow command. Its title has to escape more than its message.
fn annotation(command: &str, id: &str, message: &str) -> String {
    let data = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let title = data(&words::harmless(id))
        .replace(':', "%3A")
        .replace(',', "%2C");
    // The id is repeated: the list of a job's annotations leaves titles out.
    let id = words::harmless(id);
    let message = words::harmless(&message.replace('\r', "\n"));
    format!(
        "::{command} title={title}::{}\n",
        data(&format!("{id}: {message}"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::event::{CheckRecord, EventKind, Mismatch, Outcome};

    #[test]
    fn a_message_cannot_become_a_command_of_its_own() {
        let line = annotation("error", "a.b:c,d", "100 %\r\n::stop-commands::x");
        let expected = "::error title=a.b%3Ac%2Cd::a.b:c,d: 100 %25%0A%0A::stop-commands::x\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_cause_is_one_annotation_that_names_its_consequences() {
        let mismatch = |got: &str| Mismatch::new("GET /v1/health", "status 200", got);
        let record = |id: &str, outcome| CheckRecord {
            id: id.to_owned(),
            outcome,
            duration_ms: 1,
            detail: None,
        };
        let again = Mismatch {
            is_shared: true,
            ..mismatch("status 500")
        };
        let lost = Outcome::Skipped {
            reason: String::from("no health"),
            because: Some(Box::new(mismatch("status 500"))),
        };
        let report = RunReport {
            checks: vec![
                record("start.ready", Outcome::Failed(mismatch("status 500"))),
                record("health.answers", Outcome::Failed(again)),
                record("ready.answers", lost),
                record("logs.lines", Outcome::Failed(mismatch("status 404"))),
            ],
            ..RunReport::default()
        };
        let told = annotations(&report);
        let lines: Vec<_> = told.lines().collect();
        let expected = [
            "::error title=start.ready::start.ready: GET /v1/health: expected status 200, got status 500%0A1 cause, 2 consequences: health.answers, ready.answers",
            "::error title=logs.lines::logs.lines: GET /v1/health: expected status 200, got status 404",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_run_stands_between_commands_that_stop_all_others() {
        use std::sync::{Arc, Mutex};

        #[derive(Clone, Default)]
        struct SharedBuffer(Arc<Mutex<Vec<u8>>>);
        impl Write for SharedBuffer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        struct Foreign(SharedBuffer);
        impl Reporter for Foreign {
            fn report(&mut self, _: &Event, _: &RunReport) -> io::Result<()> {
                self.0.write_all(b"::error::foreign\n")
            }
            fn give_up(&mut self, _: &io::Error) {}
        }
        let out = SharedBuffer::default();
        let mut fenced = Fenced::new(Foreign(out.clone()), out.clone(), String::from("word"));
        let mut report = RunReport::default();
        for kind in [
            EventKind::Troubled {
                message: String::from("x"),
            },
            EventKind::RunFinished { duration_ms: 1 },
        ] {
            let event = Event {
                elapsed_ms: 1,
                kind,
            };
            report.apply(&event);
            fenced.report(&event, &report).unwrap();
        }
        let shown = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let foreign = "::error::foreign\n".repeat(2);
        let expected = format!(
            "::stop-commands::word\n{foreign}::word::\n::error title=worker%3Atest::worker:test: x\n"
        );
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_summary_is_cut_below_the_limit_and_says_so() {
        let log = "line of a log\n".repeat(200_000);
        let page =
            format!("# head\n<details><summary>x</summary>\n\n````text\n{log}````\n</details>\n");
        let cut = fitted(&page, SUMMARY_LIMIT_BYTES as usize - 1);
        assert!(cut.len() < SUMMARY_LIMIT_BYTES as usize, "{}", cut.len());
        assert!(cut.ends_with(CUT));
        assert!(
            cut.contains("\n````\n\n</details>"),
            "the fence and the fold are closed"
        );
        assert_eq!(fitted("short", 100), "short");
        assert_eq!(fitted(&page, 10), "");
    }

    #[test]
    fn what_was_there_before_stays() {
        let path = std::env::temp_dir().join(format!("summary-{}", uuid::Uuid::new_v4()));
        fs::write(&path, "before\n").unwrap();
        append(&path, "after\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
        append(&path, &"x\n".repeat(1 << 20)).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < SUMMARY_LIMIT_BYTES);
        append(&path, &"y\n".repeat(100)).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < SUMMARY_LIMIT_BYTES);
        fs::remove_file(path).unwrap();
    }
}
