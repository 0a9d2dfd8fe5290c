//! Whole reports of one recorded run, compared with files. `UPDATE_EXPECT=1` writes them anew.

use std::path::PathBuf;

use super::ReportKind;
use super::human::told;
use crate::tasks::worker::record::replay;

const RECORDING: &str = include_str!("../../../../tests/fixtures/failed-run/events.jsonl");

/// Compares the whole of `actual` with a file, or writes it.
fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/failed-run")
        .join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_default()
        .replace("\r\n", "\n");
    let differs = expected
        .lines()
        .zip(actual.lines())
        .position(|(e, a)| e != a);
    let line = differs.unwrap_or(expected.lines().count().min(actual.lines().count()));
    assert!(
        expected == actual,
        "{name} differs from line {} on:\n  expected: {:?}\n  actual:   {:?}\n  UPDATE_EXPECT=1 writes it anew",
        line + 1,
        expected.lines().nth(line),
        actual.lines().nth(line),
    );
}

#[test]
fn every_report_of_a_recorded_run_is_as_it_was() {
    let report = replay::fold(RECORDING.lines()).unwrap();
    for kind in ReportKind::always() {
        check(kind.file_name(), &kind.render(&report));
    }
}

#[test]
fn people_are_told_the_same_as_before() {
    check("human.txt", &told(RECORDING));
}

#[test]
fn ten_megabytes_of_hostile_text_make_no_large_report() {
    let flood = "<script>\\u001b[31m".repeat(10 << 20 >> 4);
    let token = format!(
        r#"{{"elapsed_ms":1,"event":"token_received","id":"streaming.answers","text":"{flood}"}}"#
    );
    let log = format!(
        r#"{{"elapsed_ms":1,"event":"log_recorded","source":"worker","lines":["{flood}","[INFO] end"]}}"#
    );
    let lines = RECORDING.lines().chain([token.as_str(), log.as_str()]);
    let report = replay::fold(lines).unwrap();
    for kind in ReportKind::always() {
        let text = kind.render(&report);
        assert!(text.len() < 1 << 20, "{kind:?} has {} bytes", text.len());
        assert!(kind != ReportKind::Html || !text.contains("<script"));
    }
}
