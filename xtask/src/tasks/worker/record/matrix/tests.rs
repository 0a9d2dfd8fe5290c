//! Tests of the fold: columns in, rows, measures, agreement and verdict out.

use serde_json::{Value, json};

use super::agreement::{AGREEMENT_FLOOR_PERCENT, LEAST_POSITIONS};
use super::summary::{UnreadableReport, read};
use super::*;

/// The `report.json` of a run on one backend, with these outcomes.
fn report(machine: &str, backend: &str, checks: &[(&str, &str)]) -> Value {
    let checks: Vec<Value> = checks
        .iter()
        .map(|(id, outcome)| {
            json!({
                "id": id, "suite": "isolation", "level": "must", "promise": "is good",
                "outcome": outcome, "duration_ms": 5, "expected": null, "got": null,
                "place": null, "reason": null, "detail": "well"
            })
        })
        .collect();
    json!({
        "schema_version": 1, "verdict": "passed", "exit_code": 0, "duration_ms": 1200,
        "run": {"schema_version": 1, "run_id": "r", "started_at": "2026-01-31T10:54:23Z", "artifacts": "a"},
        "options": {"backend": backend},
        "environment": {"host": machine, "os": "Linux", "kernel": null, "architecture": "x86_64",
            "cpu": null, "cores": 2, "memory_bytes": null, "gpus": [], "xtask": "0.1.0",
            "rustc": null, "git_revision": null, "git_dirty": null},
        "worker": {"backend": backend, "device": 1},
        "checks": checks,
        "measures": [{"name": "time_to_ready", "unit": "ms", "n": 1, "min": 9.0, "p50": 9.0}],
        "a_field_of_tomorrow": true
    })
}

fn column(machine: &str, backend: &str, checks: &[(&str, &str)]) -> RunSummary {
    let text = report(machine, backend, checks).to_string();
    read(&text).unwrap().remove(0)
}

fn verdict_of(columns: Vec<RunSummary>) -> (SummaryVerdict, u8) {
    let matrix = Matrix::fold(columns, RunMetadata::default());
    (matrix.verdict, matrix.exit_code)
}

/// A column that answered `agreed` of `positions` positions like its teacher, who is the default.
fn answering(backend: &str, positions: usize, agreed: usize) -> RunSummary {
    let next = (0..positions).map(|position| {
        let text = if position < agreed { "same" } else { backend };
        Some(format!("{position} {text}"))
    });
    let mut column = column("m", backend, &[("a.b", "passed")]);
    column.greedy = Some(crate::tasks::worker::record::facts::Greedy {
        texts: vec![crate::tasks::worker::record::facts::GreedyText {
            prompt: String::from("Once"),
            tokens: (0..positions)
                .map(|position| format!(" {position}"))
                .collect(),
            next: next.collect(),
        }],
    });
    column
}

#[test]
fn a_run_becomes_a_column_and_its_checks_become_rows() {
    let cpu = column("m", "cpu", &[("a.b", "passed"), ("a.d", "passed")]);
    assert_eq!((cpu.device, cpu.machine.as_deref()), (Some(1), Some("m")));
    let cuda = column(
        "m",
        "cuda",
        &[("a.b", "failed"), ("a.c", "passed"), ("a.d", "passed")],
    );
    let skipped = RunSummary::skipped("metal", String::from("no macOS"));
    let matrix = Matrix::fold(vec![cpu, cuda, skipped], RunMetadata::default());
    assert_eq!(matrix.names, ["cpu", "cuda", "metal"]);
    let rows: Vec<_> = matrix
        .rows
        .iter()
        .map(|row| (row.id.as_str(), row.outcomes.clone(), row.all_passed))
        .collect();
    let (passed, failed) = (Some(CheckStatus::Passed), Some(CheckStatus::Failed));
    assert_eq!(
        rows,
        [
            ("a.b", vec![passed, failed, None], false),
            ("a.c", vec![None, passed, None], false),
            ("a.d", vec![passed, passed, None], true),
        ]
    );
    let figure = Some(Figure { n: 1, p50: 9.0 });
    assert_eq!(matrix.measures[0].figures, [figure, figure, None]);
}

#[test]
fn the_worst_column_decides_and_a_skip_weighs_nothing() {
    let with = |verdict| RunSummary {
        verdict,
        ..column("m", "cpu", &[("a.b", "passed")])
    };
    let skipped = || RunSummary::skipped("cuda", String::from("no device"));
    let (passed, failed) = (with(SummaryVerdict::Passed), with(SummaryVerdict::Failed));
    let invalid = with(SummaryVerdict::Invalid);
    let interrupted = RunSummary {
        interrupted_by: Some(15),
        ..with(SummaryVerdict::Interrupted)
    };
    let worst =
        |columns: &[&RunSummary]| verdict_of(columns.iter().map(|&c| c.clone()).collect()).1;
    assert_eq!(worst(&[&passed, &skipped()]), 0);
    assert_eq!(worst(&[&passed, &invalid]), 3);
    assert_eq!(worst(&[&invalid, &failed, &passed]), 1);
    assert_eq!(worst(&[&failed, &interrupted]), 143);
    let metadata = RunMetadata {
        interrupted_by: Some(2),
        ..RunMetadata::default()
    };
    assert_eq!(Matrix::fold(vec![interrupted], metadata).exit_code, 130);
}

#[test]
fn a_backend_that_is_required_and_one_at_all_must_have_run() {
    let cpu = column("m", "cpu", &[("a.b", "passed")]);
    let mut cuda = RunSummary::skipped("cuda", String::from("nvcc is missing"));
    cuda.required = true;
    let matrix = Matrix::fold(vec![cpu, cuda], RunMetadata::default());
    assert_eq!(
        (matrix.verdict, matrix.exit_code),
        (SummaryVerdict::Invalid, 3)
    );
    assert!(matrix.troubles[0].contains("cuda is required") && matrix.troubles[0].contains("nvcc"));
    let nothing = vec![RunSummary::skipped("cuda", String::from("no device"))];
    assert_eq!(verdict_of(nothing), (SummaryVerdict::Invalid, 3));
    assert_eq!(verdict_of(Vec::new()), (SummaryVerdict::Invalid, 3));
    let metadata = RunMetadata {
        survivors: vec![String::from("sleep (pid 7)")],
        ..RunMetadata::default()
    };
    let cpu = column("m", "cpu", &[("a.b", "passed")]);
    assert_eq!(Matrix::fold(vec![cpu], metadata).exit_code, 3);
}

#[test]
fn backends_agree_where_only_near_ties_differ() {
    let cpu = answering("cpu", 96, 96);
    let close = Matrix::fold(
        vec![cpu.clone(), answering("cuda", 96, 93)],
        RunMetadata::default(),
    );
    let found = &close.agreement[0];
    assert_eq!(
        (found.column, found.teacher, found.positions, found.agreed),
        (1, 0, 96, 93)
    );
    assert!(found.percent() > AGREEMENT_FLOOR_PERCENT && !found.is_broken());
    assert_eq!(close.verdict, SummaryVerdict::Passed);
    let measure = close.measures.last().unwrap();
    assert_eq!(
        (measure.name.as_str(), measure.unit.as_str()),
        ("greedy_agreement", "%")
    );
    assert_eq!(measure.figures, [None, Some(Figure { n: 96, p50: 96.875 })]);

    let far = Matrix::fold(vec![cpu, answering("cuda", 96, 40)], RunMetadata::default());
    assert_eq!((far.verdict, far.exit_code), (SummaryVerdict::Failed, 1));
    let difference = far.agreement[0].first_difference.as_ref().unwrap();
    assert!(difference.after.starts_with("Once 0 1") && difference.after.ends_with(" 39"));
    assert_eq!(difference.got.as_deref(), Some("40 cuda"));
}

#[test]
fn too_few_positions_and_other_texts_are_no_disagreement() {
    let few = LEAST_POSITIONS - 1;
    let columns = vec![answering("cpu", few, few), answering("cuda", few, 1)];
    let matrix = Matrix::fold(columns, RunMetadata::default());
    assert!(!matrix.agreement[0].is_judged());
    assert_eq!(matrix.verdict, SummaryVerdict::Passed);

    let mut other = answering("cuda", 96, 1);
    other.greedy.as_mut().unwrap().texts[0].prompt = String::from("Twice");
    let matrix = Matrix::fold(
        vec![answering("cpu", 96, 96), other],
        RunMetadata::default(),
    );
    assert!(matrix.agreement.is_empty());
    let silent = Matrix::fold(vec![column("m", "cpu", &[])], RunMetadata::default());
    assert!(
        silent
            .measures
            .iter()
            .all(|row| row.name != "greedy_agreement")
    );
}

#[test]
fn figures_of_a_benchmark_are_named_after_their_load() {
    let mut report = report("m", "cpu", &[("a.b", "passed")]);
    report["scenarios"] = json!([{
        "plan": {"name": "decode"}, "valid": 15, "output_tokens_per_s": 1686.5,
        "measures": [{"name": "ttft", "unit": "ms", "n": 15, "p50": 5.25, "p99": null}]
    }]);
    let column = read(&report.to_string()).unwrap().remove(0);
    let matrix = Matrix::fold(vec![column], RunMetadata::default());
    let told = |row: &MeasureRow| (row.name.clone(), row.figures[0].map(|f| (f.n, f.p50)));
    let measures: Vec<_> = matrix.measures.iter().map(told).collect();
    let row = |name: &str, n, p50| (name.to_owned(), Some((n, p50)));
    assert_eq!(
        measures,
        [
            row("time_to_ready", 1, 9.0),
            row("decode.ttft", 15, 5.25),
            row("decode.output_throughput", 15, 1686.5),
        ]
    );
}

#[test]
fn columns_of_several_machines_are_told_apart() {
    let passed = [("a.b", "passed")];
    let columns = vec![
        column("amsel", "cpu", &passed),
        column("drossel", "cpu", &passed),
        column("drossel", "cpu", &passed),
    ];
    let matrix = Matrix::fold(columns, RunMetadata::default());
    assert_eq!(matrix.names, ["amsel cpu", "drossel cpu", "drossel cpu #2"]);
}

#[test]
fn shards_are_named_and_follow_each_other() {
    let shard = |shard: &str, checks: &[(&str, &str)]| {
        let mut report = report("amsel", "cpu", checks);
        report["options"]["shard"] = shard.into();
        read(&report.to_string()).unwrap().remove(0)
    };
    let columns = vec![
        shard("1/2", &[("a.b", "passed"), ("e.f", "passed")]),
        shard("2/2", &[("c.d", "failed")]),
    ];
    let matrix = Matrix::fold(columns, RunMetadata::default());
    assert_eq!(matrix.names, ["cpu 1/2", "cpu 2/2"]);
    let ids: Vec<_> = matrix.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["a.b", "e.f", "c.d"]);
    let again = serde_json::to_string(&matrix).unwrap();
    assert_eq!(read(&again).unwrap(), matrix.columns);
}

#[test]
fn a_matrix_is_read_back_with_all_of_its_columns() {
    let mut cuda = RunSummary::skipped("cuda", String::from("no device"));
    cuda.required = true;
    let columns = vec![
        answering("cpu", 30, 30),
        cuda,
        RunSummary::lost("metal", Some(101), String::from("gone")),
    ];
    let matrix = Matrix::fold(columns, RunMetadata::default());
    let text = serde_json::to_string(&matrix).unwrap();
    assert_eq!(read(&text).unwrap(), matrix.columns);
}

#[test]
fn what_is_no_report_or_a_newer_one_is_refused_by_name() {
    let newer = report("m", "cpu", &[]).to_string().replacen(
        "\"schema_version\":1",
        "\"schema_version\":9",
        2,
    );
    let error = read(&newer).unwrap_err();
    assert_eq!(error, UnreadableReport::Newer { version: 9 });
    assert!(error.to_string().contains("schema version 9"));
    for broken in [
        "",
        "{",
        "[]",
        "{\"schema_version\":1}",
        "{\"schema_version\":1,\"kind\":\"benchmark\"}",
        "{\"schema_version\":1,\"kind\":\"matrix\"}",
        "{\"schema_version\":1,\"verdict\":\"splendid\",\"exit_code\":0}",
    ] {
        let error = read(broken).unwrap_err();
        assert!(
            matches!(error, UnreadableReport::NotAReport { .. }),
            "{broken}: {error}"
        );
    }
}

#[test]
fn a_run_that_never_came_to_a_worker_has_the_backend_that_was_asked_for() {
    let mut report = report("m", "cuda", &[]);
    report["worker"] = Value::Null;
    report["verdict"] = json!("invalid");
    report["exit_code"] = json!(3);
    report["troubles"] = json!(["the worker cannot be built"]);
    let column = read(&report.to_string()).unwrap().remove(0);
    assert_eq!((column.backend.as_str(), column.device), ("cuda", None));
    assert_eq!(verdict_of(vec![column]), (SummaryVerdict::Invalid, 3));
}
