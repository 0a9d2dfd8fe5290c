//! A recorded run, read back: the lines of an `events.jsonl`, folded again. Pure.

use serde::Deserialize;

use super::event::{Event, EventKind, SCHEMA_VERSION};
use super::report::RunReport;

/// Why a recording can't be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnreadableRecording {
    /// A later version of this program wrote it.
    Newer {
        /// The version of its schema.
        version: u32,
    },
    /// Its first line isn't the begin of a run.
    NotARecording {
        /// What the first line is instead.
        cause: String,
    },
}

/// The one field that every version has.
#[derive(Debug, Deserialize)]
struct Begin {
    event: String,
    schema_version: u32,
}

/// Folds the lines of a recording. Whatever ends early, or can't be read, is said in the report.
pub fn fold<'t>(
    lines: impl IntoIterator<Item = &'t str>,
) -> Result<RunReport, UnreadableRecording> {
    let mut lines = lines
        .into_iter()
        .filter(|line| !line.trim().is_empty())
        .peekable();
    let first = lines.peek().copied().unwrap_or_default();
    let begin: Begin =
        serde_json::from_str(first).map_err(|error| UnreadableRecording::NotARecording {
            cause: error.to_string(),
        })?;
    if begin.schema_version > SCHEMA_VERSION {
        let version = begin.schema_version;
        return Err(UnreadableRecording::Newer { version });
    }
    if begin.event != "run_started" {
        let cause = format!("it begins with `{}`", begin.event);
        return Err(UnreadableRecording::NotARecording { cause });
    }
    let mut report = RunReport::default();
    let (mut unread, mut last_is_whole) = (0, true);
    for line in lines {
        match serde_json::from_str::<Event>(line) {
            Ok(event) => {
                report.apply(&event);
                last_is_whole = true;
            }
            Err(_) => {
                unread += 1;
                last_is_whole = false;
            }
        }
    }
    note_gaps(&mut report, unread, last_is_whole);
    Ok(report)
}

/// A run that was cut off isn't green, whatever its checks said until then.
fn note_gaps(report: &mut RunReport, unread: u64, last_is_whole: bool) {
    let mut learn = |kind| {
        let elapsed_ms = report.timeline.end_ms;
        report.apply(&Event { elapsed_ms, kind });
    };
    let in_the_middle = unread - u64::from(!last_is_whole);
    if in_the_middle > 0 {
        let message = format!("{in_the_middle} lines of the recording can't be read");
        learn(EventKind::Noted { message });
    }
    if report.duration_ms.is_none() {
        let message = String::from(
            "the recording ends before the run did: the harness was killed, or is still running",
        );
        report.apply(&Event {
            elapsed_ms: report.timeline.end_ms,
            kind: EventKind::Troubled { message },
        });
    }
}

impl std::fmt::Display for UnreadableRecording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnreadableRecording::Newer { version } => write!(
                f,
                "it has schema version {version}, but this xtask reads up to {SCHEMA_VERSION}\n  try: the xtask that recorded it, or a newer one"
            ),
            UnreadableRecording::NotARecording { cause } => write!(
                f,
                "it is not a recording of a run: {cause}\n  try: the events.jsonl of a run's artifact folder"
            ),
        }
    }
}

impl std::error::Error for UnreadableRecording {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::report::Verdict;

    const BEGIN: &str = r#"{"elapsed_ms":0,"event":"run_started","schema_version":1,"run_id":"r","started_at":"2026-01-31T10:54:23Z","artifacts":"a"}"#;
    const PASSED: &str = r#"{"elapsed_ms":5,"event":"check_finished","id":"a.b","outcome":"passed","duration_ms":1,"detail":null}"#;
    const END: &str = r#"{"elapsed_ms":9,"event":"run_finished","duration_ms":9}"#;

    #[test]
    fn a_whole_recording_gives_the_report() {
        let report = fold([BEGIN, PASSED, END]).unwrap();
        assert_eq!(report.verdict(), Verdict::Passed);
        assert!(report.notes.is_empty());
    }

    #[test]
    fn a_recording_that_was_cut_off_is_rendered_and_not_green() {
        for cut in [
            &[BEGIN, PASSED][..],
            &[BEGIN, PASSED, r#"{"elapsed_ms":7,"ev"#],
        ] {
            let report = fold(cut.iter().copied()).unwrap();
            assert_eq!(report.verdict(), Verdict::Invalid);
            assert_eq!(report.checks.len(), 1);
            assert!(report.troubles[0].contains("ends before the run did"));
        }
    }

    #[test]
    fn lines_that_nobody_knows_are_counted() {
        let unknown = r#"{"elapsed_ms":1,"event":"something_else"}"#;
        let report = fold([BEGIN, unknown, PASSED, END]).unwrap();
        assert_eq!(report.verdict(), Verdict::Passed);
        assert!(report.notes[0].starts_with("1 lines"));
    }

    #[test]
    fn a_newer_recording_is_refused_by_name() {
        let newer = BEGIN.replace("\"schema_version\":1", "\"schema_version\":99");
        let error = fold([newer.as_str()]).unwrap_err();
        assert_eq!(error, UnreadableRecording::Newer { version: 99 });
        assert!(error.to_string().contains("schema version 99"));
        assert!(matches!(
            fold(["garbage"]),
            Err(UnreadableRecording::NotARecording { .. })
        ));
        assert!(matches!(
            fold([]),
            Err(UnreadableRecording::NotARecording { .. })
        ));
    }
}
