//! All backends as one command, and runs of many machines in one matrix.

#[cfg(unix)]
#[path = "support/asked.rs"]
mod asked;
#[cfg(unix)]
#[path = "support/python.rs"]
mod python;
#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[cfg(unix)]
use asked::{Needs, is_asked_for};
#[cfg(unix)]
use python::python;
use scratch::Scratch;
use serde_json::Value;
use xtask::{FAULTY_WORKER, said, worker_test, xtask};

const RECORDING: &str = include_str!("fixtures/failed-run/events.jsonl");
const REPORT: &str = include_str!("fixtures/failed-run/report.json");

/// All backends on free ports, over the worker that keeps the contract with canned text.
fn all_backends(scratch: &Scratch, options: &[&str]) -> Command {
    all_backends_of(scratch, Path::new(FAULTY_WORKER), options)
}

/// The same over another worker.
fn all_backends_of(scratch: &Scratch, worker: &Path, options: &[&str]) -> Command {
    let mut command = worker_test();
    command
        .args(["--all-backends", "--model", "tiny"])
        .args([
            "--worker-env",
            "WORKER_FAULT",
            "--worker-env",
            "FAKE_GPU_DIR",
        ])
        .arg("--worker-bin")
        .arg(worker)
        .arg("--artifacts")
        .arg(scratch.file("runs"))
        .args(options);
    command
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// The only folder below `parent`.
fn only_run(parent: &Path) -> PathBuf {
    let folders = fs::read_dir(parent).unwrap().flatten();
    let mut folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
    let folder = folders.next().expect("a run's folder").path();
    assert!(folders.next().is_none());
    folder
}

/// Whether this machine can't run anything on an NVIDIA device.
fn lacks_nvidia() -> bool {
    let files = ["/dev/nvidia0", "/dev/nvhost-gpu", "/dev/dxg"];
    let shown = files.iter().any(|file| Path::new(file).exists());
    !shown && Command::new("nvidia-smi").output().is_err()
}

#[test]
fn every_backend_has_a_column_in_every_report() {
    let scratch = Scratch::new("columns");
    let elsewhere = scratch.file("elsewhere.html");
    let report = format!("html={}", elsewhere.display());
    let summary = scratch.with("summary.md", "before\n");
    // Not the checks that judge a speed: this machine may be a busy one.
    let mut options = vec!["--report", &report];
    for check in ["health.answers", "inference.answers", "shutdown.orderly"] {
        options.extend(["--check", check]);
    }
    let output = all_backends(&scratch, &options)
        .env("GITHUB_STEP_SUMMARY", &summary)
        .output()
        .unwrap();
    let shown = said(&output);
    let folder = only_run(&scratch.file("runs"));
    assert!(folder.to_string_lossy().ends_with("-matrix"));
    let matrix = json(&folder.join("report.json"));
    assert_eq!(matrix["kind"], "matrix");
    let backends: Vec<_> = matrix["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["backend"])
        .collect();
    assert_eq!(backends, ["cpu", "cuda", "metal"]);
    let cpu = &matrix["columns"][0];
    assert_eq!(cpu["verdict"], "passed", "{shown}");
    assert_eq!(cpu["exit_code"], 0);
    if !cfg!(target_os = "macos") {
        let metal = &matrix["columns"][2];
        assert_eq!(metal["verdict"], "skipped");
        assert!(
            metal["reason"].as_str().unwrap().contains("macOS"),
            "{metal}"
        );
        assert!(
            shown.contains("Backend metal skipped: no Metal device"),
            "{shown}"
        );
    }
    if lacks_nvidia() {
        let reason = matrix["columns"][1]["reason"].as_str().unwrap();
        assert!(reason.contains("nvidia-smi is not there"), "{reason}");
        assert!(!reason.contains("nvcc"), "nothing is built: {reason}");
        assert_eq!(output.status.code(), Some(0), "{shown}");
        assert!(
            shown.contains("ALL TESTS PASSED! cpu: passed; cuda, metal: skipped."),
            "{shown}"
        );
    }
    // The run itself, as it was by itself.
    let run = only_run(&folder.join("cpu"));
    let single = json(&run.join("report.json"));
    let rows = matrix["rows"].as_array().unwrap();
    assert_eq!(rows.len(), single["checks"].as_array().unwrap().len());
    assert!(
        rows.iter()
            .any(|row| row["id"] == "inference.answers" && row["outcomes"][0] == "passed")
    );
    assert!(
        matrix["measures"]
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["name"] == "time_to_ready" && m["figures"][0]["n"] == 1)
    );
    // What the cpu goes on with along its own text is what the others would be held to.
    let texts = single["greedy"]["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 3);
    assert!(
        texts
            .iter()
            .all(|text| text["next"].as_array().unwrap().len() > 1),
        "{texts:?}"
    );
    for (name, needle) in [
        ("junit.xml", "<testsuite name=\"metal\""),
        ("summary.md", "| `inference.answers` | ✅ |"),
        ("report.html", "<th>metal</th>"),
    ] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(needle), "{name} lacks {needle}: {text}");
    }
    assert!(
        fs::read_to_string(elsewhere)
            .unwrap()
            .contains("<th>cpu</th>")
    );
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.starts_with("before\n") && summary.contains("all columns"));
    assert_eq!(
        summary.matches("## ").count() - summary.matches("### ").count(),
        1
    );
}

/// A driver's tool first in the path, for a GPU that only the faulty worker believes in.
#[cfg(unix)]
fn pretend_gpu(command: &mut Command, scratch: &Scratch) {
    let state = scratch.file("gpu");
    fs::create_dir_all(&state).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_gpu");
    let path = [tools].into_iter().chain(std::env::split_paths(&path));
    command
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("FAKE_GPU_DIR", state);
}

/// What a matrix with a pretended GPU comes to, over this worker.
#[cfg(unix)]
fn matrix_with_gpu(scratch: &Scratch, worker: &Path) -> (Option<i32>, Value) {
    let options = ["--format", "json", "--require", "cuda"];
    let mut command = all_backends_of(scratch, worker, &options);
    for check in ["inference.answers", "device.*", "shutdown.orderly"] {
        command.args(["--check", check]);
    }
    pretend_gpu(&mut command, scratch);
    let output = command.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let matrix = serde_json::from_str(shown.lines().last().unwrap_or_default());
    let matrix = matrix.unwrap_or_else(|_| panic!("{}", said(&output)));
    (output.status.code(), matrix)
}

/// The outcomes of a check, a column each.
#[cfg(unix)]
fn outcomes<'m>(matrix: &'m Value, id: &str) -> &'m Value {
    let rows = matrix["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == id);
    &row.unwrap_or_else(|| panic!("no row {id}"))["outcomes"]
}

#[test]
#[cfg(unix)]
fn a_second_backend_is_seen_on_its_device_and_agrees_with_the_first() {
    let scratch = Scratch::new("gpu");
    let (code, matrix) = matrix_with_gpu(&scratch, Path::new(FAULTY_WORKER));
    assert_eq!(code, Some(0), "{matrix:#}");
    let expected = serde_json::json!(["skipped", "passed", null]);
    assert_eq!(outcomes(&matrix, "device.used"), &expected);
    assert_eq!(outcomes(&matrix, "device.freed"), &expected);
    let cuda = &matrix["columns"][1];
    assert_eq!(cuda["environment"]["gpus"][0]["name"], "Fake GPU 9000");
    let agreement = &matrix["agreement"][0];
    assert_eq!(
        (&agreement["column"], &agreement["teacher"]),
        (&1.into(), &0.into())
    );
    assert!(
        agreement["positions"].as_u64().unwrap() >= 90,
        "{agreement}"
    );
    assert_eq!(agreement["agreed"], agreement["positions"]);
}

#[test]
#[cfg(unix)]
fn backends_that_go_on_differently_disagree_although_each_keeps_its_promises() {
    let scratch = Scratch::new("disagree");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *\"--backend cuda\"*) export WORKER_FAULT=infer.greedy_random;; esac\nexec '{FAULTY_WORKER}' \"$@\"\n"
    );
    let worker = scratch.program("worker", &script);
    let (code, matrix) = matrix_with_gpu(&scratch, &worker);
    let verdicts: Vec<_> = (0..2).map(|i| &matrix["columns"][i]["verdict"]).collect();
    assert_eq!(verdicts, ["passed", "passed"]);
    assert_eq!((code, &matrix["verdict"]), (Some(1), &"failed".into()));
    let agreement = &matrix["agreement"][0];
    let (positions, agreed) = (
        agreement["positions"].as_u64(),
        agreement["agreed"].as_u64(),
    );
    assert!(agreed.unwrap() * 10 < positions.unwrap() * 9, "{agreement}");
    assert!(agreement["first_difference"]["after"].is_string());
}

#[test]
fn a_required_backend_that_is_not_here_is_an_error_and_no_broken_promise() {
    if cfg!(target_os = "macos") {
        return;
    }
    let scratch = Scratch::new("require");
    let options = ["--check", "health.answers", "--require", "metal", "-q"];
    let output = all_backends(&scratch, &options).output().unwrap();
    let shown = said(&output);
    assert_eq!(output.status.code(), Some(3), "{shown}");
    assert!(
        shown.contains("error: metal is required, and could not be tested: no Metal device"),
        "{shown}"
    );
    let matrix = json(&only_run(&scratch.file("runs")).join("report.json"));
    assert_eq!(matrix["columns"][0]["verdict"], "passed");
    assert_eq!(
        (&matrix["verdict"], &matrix["exit_code"]),
        (&"invalid".into(), &3.into())
    );
}

#[test]
fn a_broken_promise_on_one_backend_fails_the_matrix() {
    let scratch = Scratch::new("broken");
    let options = [
        "--check",
        "inference.answers",
        "--check",
        "health.answers",
        "--format",
        "json",
    ];
    let output = all_backends(&scratch, &options)
        .env("WORKER_FAULT", "infer.zero_tokens")
        .output()
        .unwrap();
    let shown = said(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert_eq!(lines[0]["event"], "run_started");
    let matrix = lines.last().unwrap();
    assert_eq!(
        (&matrix["kind"], &matrix["exit_code"]),
        (&"matrix".into(), &1.into())
    );
    let rows = matrix["rows"].as_array().unwrap();
    let broken = rows
        .iter()
        .find(|row| row["id"] == "inference.answers")
        .unwrap();
    assert_eq!(broken["outcomes"][0], "failed");
    let checks = matrix["columns"][0]["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["id"] == "inference.answers");
    assert!(check.unwrap()["expected"].is_string(), "{check:?}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |options: &[&str], word: &str| {
        let output = xtask().arg("worker:test").args(options).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{options:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(word),
            "{options:?}: {}",
            said(&output)
        );
    };
    refused(&["--all-backends", "--backend", "cpu"], "--backend");
    refused(&["--require", "cuda"], "--all-backends");
    refused(&["--all-backends", "--require", "abacus"], "abacus");
    refused(&["--all-backends", "--max-tokens", "0"], "--max-tokens");
    refused(&["--all-backends", "--self-test"], "--self-test");
    refused(&["--all-backends", "--report", "repro"], "--report");
}

/// The report of the recorded run, as if another machine and backend had made it.
fn report_of(machine: &str, backend: &str) -> String {
    let mut report: Value = serde_json::from_str(REPORT).unwrap();
    report["environment"]["host"] = machine.into();
    report["worker"]["backend"] = backend.into();
    report.to_string()
}

fn merge(files: &[&Path], reports: &[&str]) -> Output {
    let mut command = xtask();
    command.args(["worker:report", "merge"]).args(files);
    for report in reports {
        command.args(["--report", report]);
    }
    command.output().unwrap()
}

#[test]
fn runs_of_many_machines_become_one_matrix() {
    let scratch = Scratch::new("merge");
    let a = scratch.with("a.json", &report_of("amsel", "cpu"));
    let b = scratch.with("b.json", &report_of("drossel", "cuda"));
    let recorded = scratch.with("c.jsonl", RECORDING);
    let output = merge(
        &[&a, &b, &recorded],
        &["json", "html", "junit", "markdown=-"],
    );
    let shown = said(&output);
    // The reports are there: what they say is no failure of this command.
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("| check | amsel cpu | drossel cuda | "),
        "{shown}"
    );
    let matrix = json(&scratch.file("matrix.json"));
    assert_eq!(matrix["columns"].as_array().unwrap().len(), 3);
    assert_eq!(matrix["verdict"], "failed");
    let outcomes = &matrix["rows"][0]["outcomes"];
    assert!(
        outcomes
            .as_array()
            .unwrap()
            .iter()
            .all(|outcome| outcome == &outcomes[0])
    );
    assert!(
        fs::read_to_string(scratch.file("matrix.html"))
            .unwrap()
            .contains("<th>drossel cuda</th>")
    );
    assert!(
        fs::read_to_string(scratch.file("matrix.xml"))
            .unwrap()
            .contains("<testsuite name=\"amsel cpu\"")
    );

    // A matrix is merged again with all of its columns.
    let again = scratch.with("d.json", &report_of("star", "metal"));
    let output = merge(&[&scratch.file("matrix.json"), &again], &["json=-"]);
    let merged: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(merged["columns"].as_array().unwrap().len(), 4);
    assert_eq!(merged["names"][3], "star metal");
}

#[test]
#[cfg(unix)]
fn network_a_matrix_fits_its_schema() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let scratch = Scratch::new("schema");
    let a = scratch.with("a.json", &report_of("amsel", "cpu"));
    let (_, with_gpu) = matrix_with_gpu(&scratch, Path::new(FAULTY_WORKER));
    let gpu = scratch.with("gpu.json", &with_gpu.to_string());
    let output = merge(&[&a, &gpu], &["json"]);
    assert!(output.status.success(), "{}", said(&output));
    let program = "import json, sys, jsonschema
schema = json.load(open(sys.argv[1], encoding='utf-8'))
jsonschema.Draft202012Validator.check_schema(schema)
for path in sys.argv[2:]:
    matrix = json.load(open(path, encoding='utf-8'))
    jsonschema.validate(matrix, schema, cls=jsonschema.Draft202012Validator)
    matrix['columns'][0]['surprise'] = 1
    try:
        jsonschema.validate(matrix, schema, cls=jsonschema.Draft202012Validator)
    except jsonschema.ValidationError:
        print('fits', len(matrix['columns']))";
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/matrix.schema.json");
    let output = python(program, &[&schema, &gpu, &scratch.file("matrix.json")]);
    assert_eq!(said(&output), "fits 3\nfits 4\n");
}

#[test]
fn what_cannot_be_merged_is_named() {
    let scratch = Scratch::new("refused");
    let good = scratch.with("good.json", REPORT);
    let newer = REPORT.replacen("\"schema_version\": 2", "\"schema_version\": 7", 1);
    let newer = scratch.with("newer.json", &newer);
    let cut = scratch.with("cut.json", &REPORT[..REPORT.len() / 2]);
    let events = RECORDING.replacen("\"schema_version\":1", "\"schema_version\":8", 1);
    let events = scratch.with("newer.jsonl", &events);
    for (file, words) in [
        (&newer, "schema version 7"),
        (&events, "schema version 8"),
        (&cut, "not a report of a run"),
        (&scratch.file("absent.json"), "absent.json"),
    ] {
        let output = merge(&[&good, file], &["json"]);
        let shown = said(&output);
        assert_eq!(output.status.code(), Some(3), "{shown}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(shown.contains(words) && shown.contains(name), "{shown}");
        assert!(!scratch.file("matrix.json").exists());
    }
    let output = merge(&[&good], &["repro"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
