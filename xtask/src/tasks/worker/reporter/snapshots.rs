//! Whole reports of recorded runs, compared with files. `UPDATE_EXPECT=1` writes them anew.

use std::path::PathBuf;

use super::human::told;
use crate::tasks::worker::record::output::ReportKind;
use crate::tasks::worker::record::replay;

const RECORDING: &str = include_str!("../../../../tests/fixtures/failed-run/events.jsonl");

/// Each recorded run: its folder, and its events.
const RUNS: [(&str, &str); 2] = [
    ("failed-run", RECORDING),
    (
        "benchmark",
        include_str!("../../../../tests/fixtures/benchmark/events.jsonl"),
    ),
];

/// Compares the whole of `actual` with a file, or writes it.
fn check(run: &str, name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(run)
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
        "{run}/{name} differs from line {} on:\n  expected: {:?}\n  actual:   {:?}\n  UPDATE_EXPECT=1 writes it anew",
        line + 1,
        expected.lines().nth(line),
        actual.lines().nth(line),
    );
}

#[test]
fn every_report_of_a_recorded_run_is_as_it_was() {
    for (run, recording) in RUNS {
        let report = replay::fold(recording.lines()).unwrap();
        for kind in ReportKind::always() {
            check(run, kind.file_name(), &kind.render(&report));
        }
    }
    let report = replay::fold(RUNS[1].1.lines()).unwrap();
    for kind in [ReportKind::GithubBenchmark, ReportKind::Bencher] {
        check("benchmark", kind.file_name(), &kind.render(&report));
    }
}

#[test]
fn people_are_told_the_same_as_before() {
    for (run, recording) in RUNS {
        check(run, "human.txt", &told(recording));
    }
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
