//! Whole reports of recorded runs, compared with files. `UPDATE_EXPECT=1` writes them anew.

use std::path::PathBuf;

use super::human::told;
use super::{html, render, run};
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
    for (name, recording) in RUNS {
        let report = replay::fold(recording.lines()).unwrap();
        for kind in ReportKind::always().filter(|kind| *kind != ReportKind::Html) {
            check(name, kind.file_name(), &render(kind, &report));
        }
        // The head is the same on every page, and each section is looked at once.
        let mut page = run::page(&report);
        if name == "benchmark" {
            page.sections.retain(|section| section.id == "figures");
        }
        check(name, "report-body.html", &html::body(&page));
    }
    let report = replay::fold(RUNS[1].1.lines()).unwrap();
    for kind in [ReportKind::GithubBenchmark, ReportKind::Bencher] {
        check("benchmark", kind.file_name(), &render(kind, &report));
    }
}

#[test]
fn a_page_is_its_head_with_the_style_once_and_its_body() {
    let report = replay::fold(RECORDING.lines()).unwrap();
    let page = render(ReportKind::Html, &report);
    let body = html::body(&run::page(&report));
    let head = page
        .strip_suffix("</html>\n")
        .unwrap()
        .strip_suffix(&body)
        .unwrap();
    assert_eq!(head.matches(html::STYLE).count(), 1);
    assert!(
        head.contains("default-src 'none'"),
        "nothing may be fetched"
    );
    assert!(!body.contains("<script"), "the one script is in the head");
    assert!(!body.contains("style="), "the policy allows no other style");
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
        let text = render(kind, &report);
        assert!(text.len() < 1 << 20, "{kind:?} has {} bytes", text.len());
        assert!(kind != ReportKind::Html || text.matches("<script").count() == 1);
    }
}
