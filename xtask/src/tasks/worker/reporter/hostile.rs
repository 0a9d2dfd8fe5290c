//! Recordings and reports are hostile input: whatever they say, rendering and merging ends, and stays
//! small and harmless.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::{document, human, render, render_matrix};
use crate::tasks::worker::record::matrix::summary;
use crate::tasks::worker::record::matrix::{Matrix, RunMetadata};
use crate::tasks::worker::record::output::ReportKind;
use crate::tasks::worker::record::replay;

/// Recordings to corrupt.
const RECORDINGS: [&str; 2] = [
    include_str!("../../../../tests/fixtures/failed-run/events.jsonl"),
    include_str!("../../../../tests/fixtures/benchmark/events.jsonl"),
];

/// The `report.json` of each.
static REPORTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let report = |recording: &&str| document::render(&replay::fold(recording.lines()).unwrap());
    RECORDINGS.iter().map(report).collect()
});

/// More than any report of these recordings has, however they are corrupted.
const LARGEST: usize = 4 << 20;

const KINDS: [ReportKind; 7] = [
    ReportKind::Json,
    ReportKind::Junit,
    ReportKind::Markdown,
    ReportKind::Html,
    ReportKind::Repro,
    ReportKind::GithubBenchmark,
    ReportKind::Bencher,
];

/// One change to a JSON document: which of its values, and what stands there instead.
type Damage = (Index, Value);

fn hostile_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::from(u64::MAX)),
        Just(Value::from(u64::from(u32::MAX))),
        Just(Value::from(i64::MIN)),
        Just(Value::from(1e308)),
        Just(Value::from(-1e308)),
        Just(Value::from(0)),
        Just(Value::Null),
        Just(Value::from("<script>alert(1)</script>\u{1b}[2J\u{202e}\0")),
        Just(Value::from("")),
        Just(Value::from(Vec::<u8>::new())),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

fn changes() -> impl Strategy<Value = Vec<(Index, Damage)>> {
    prop::collection::vec((any::<Index>(), (any::<Index>(), hostile_value())), 1..20)
}

/// Every leaf of a document, in order.
fn leaves(value: &mut Value) -> Vec<&mut Value> {
    let is_leaf = match value {
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => true,
    };
    match value {
        leaf if is_leaf => vec![leaf],
        Value::Array(values) => values.iter_mut().flat_map(leaves).collect(),
        Value::Object(fields) => fields.values_mut().flat_map(leaves).collect(),
        leaf => vec![leaf],
    }
}

fn corrupt(document: &mut Value, (at, with): &Damage) {
    let mut leaves = leaves(document);
    let at = at.index(leaves.len());
    *leaves[at] = with.clone();
}

/// A recording with some of its lines corrupted, but for the first, which says what it is.
fn corrupted(recording: &str, changes: &[(Index, Damage)]) -> String {
    let mut lines: Vec<String> = recording.lines().map(str::to_owned).collect();
    for (line, change) in changes {
        let line = &mut lines[1..][line.index(recording.lines().count() - 1)];
        let mut event: Value = serde_json::from_str(line).unwrap();
        corrupt(&mut event, change);
        *line = event.to_string();
    }
    lines.join("\n")
}

/// What a worker can have its say in.
const FOREIGN: [(&str, &[&str]); 7] = [
    ("heartbeat_received", &["/body/worker_id", "/body/state"]),
    (
        "check_finished",
        &["/got", "/expected", "/place", "/reason", "/detail"],
    ),
    ("token_received", &["/text"]),
    ("log_tail", &["/lines/0"]),
    ("noted", &["/message"]),
    ("troubled", &["/message"]),
    ("answered", &["/body"]),
];

#[test]
fn foreign_text_holds_no_command_and_begins_no_line() {
    let forged = "x\n::error::forged\n  ::warning::forged\n##[add-mask]y\r\n\u{2705} forged";
    for recording in RECORDINGS {
        let lines = recording.lines().map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            for (name, fields) in FOREIGN {
                let of_it = fields.iter().filter(|_| event["event"] == name);
                let of_it: Vec<&str> = of_it.copied().collect();
                for field in of_it {
                    if let Some(leaf) = event.pointer_mut(field) {
                        *leaf = Value::from(forged);
                    }
                }
            }
            event.to_string()
        });
        let told = human::told(&lines.collect::<Vec<_>>().join("\n"));
        assert!(told.contains("forged"), "{told}");
        for line in told.lines() {
            let is_command = line.trim_start().starts_with("::") || line.contains("##[");
            assert!(!is_command, "{line}");
            assert!(!line.starts_with("\u{2705} forged"), "{told}");
        }
    }
}

proptest! {
    #[test]
    fn fuzzed_recordings_make_small_and_harmless_reports(
        which in any::<Index>(),
        changes in changes(),
        kind in any::<Index>(),
    ) {
        let recording = corrupted(RECORDINGS[which.index(RECORDINGS.len())], &changes);
        let report = replay::fold(recording.lines()).unwrap();
        let kind = *kind.get(&KINDS);
        let text = render(kind, &report);
        prop_assert!(text.len() < LARGEST, "{:?} has {} bytes", kind, text.len());
        prop_assert!(kind != ReportKind::Html || text.matches("<script").count() == 1);
        let is_harmless = !text.contains('\u{1b}') || kind == ReportKind::Repro;
        prop_assert!(is_harmless, "{:?} has an escape", kind);
    }

    #[test]
    fn fuzzed_reports_merge_or_are_refused(
        which in any::<Index>(),
        changes in changes(),
        kind in any::<Index>(),
    ) {
        let document = which.get(REPORTS.as_slice());
        let mut corrupted: Value = serde_json::from_str(document).unwrap();
        for (_, change) in &changes {
            corrupt(&mut corrupted, change);
        }
        let mut columns = summary::read(document).unwrap();
        columns.extend(summary::read(&corrupted.to_string()).unwrap_or_default());
        let matrix = Matrix::fold(columns, RunMetadata::default());
        let kind = *kind.get(&ReportKind::of_matrices());
        let text = render_matrix(kind, &matrix).unwrap();
        prop_assert!(text.len() < LARGEST, "{:?} has {} bytes", kind, text.len());
        prop_assert!(kind != ReportKind::Html || text.matches("<script").count() == 1);
        // Its own JSON is read back, unless a figure was no number.
        if kind == ReportKind::Json && let Ok(again) = summary::read(&text) {
            prop_assert_eq!(again.len(), matrix.columns.len());
        }
    }
}

#[test]
fn times_at_the_end_of_the_axis_are_drawn_all_the_same() {
    let recording = RECORDINGS[0].replace("\"elapsed_ms\":", "\"elapsed_ms\":18446744073709");
    assert_ne!(recording, RECORDINGS[0]);
    let all_at_the_end: Vec<String> = RECORDINGS[0]
        .lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event["elapsed_ms"] = Value::from(u64::MAX);
            event.to_string()
        })
        .collect();
    for lines in [
        recording.lines().collect(),
        all_at_the_end.iter().map(String::as_str).collect(),
    ] {
        let lines: Vec<&str> = lines;
        let report = replay::fold(lines).unwrap();
        let page = render(ReportKind::Html, &report);
        assert!(
            page.len() < LARGEST && !page.contains("NaN"),
            "{}",
            page.len()
        );
    }
}

#[test]
fn a_flood_of_checks_and_of_tokens_is_bounded() {
    let check = r#"{"elapsed_ms":1,"event":"check_finished","id":"a.b","outcome":"passed","duration_ms":18446744073709551615,"detail":null}"#;
    let begun = r#"{"elapsed_ms":1,"event":"check_started","id":"inference.answers"}"#;
    let lines = RECORDINGS[0].lines();
    let flood = lines.chain(std::iter::repeat_n([begun, check], 20_000).flatten());
    let report = replay::fold(flood).unwrap();
    assert!(report.checks.len() <= 2000);
    assert!(
        report
            .troubles
            .iter()
            .any(|trouble| trouble.contains("more checks"))
    );
    for kind in KINDS {
        assert!(render(kind, &report).len() < LARGEST);
    }
    let tokens = RECORDINGS[1].replace(",1]", ",4294967295]");
    assert_ne!(tokens, RECORDINGS[1]);
    let report = replay::fold(tokens.lines()).unwrap();
    assert!(!report.scenarios.is_empty());
    for kind in KINDS {
        assert!(render(kind, &report).len() < LARGEST);
    }
}
