//! The main job as a whole command: the real worker with the embedded model, and what becomes of a
//! run whose worker is broken or whose command line is wrong.

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::{Command, Output};

use scratch::Scratch;
use serde_json::Value;
use xtask::{FAULTY_WORKER, said, xtask};

/// `worker:test` on free ports, from a folder inside the workspace.
fn worker_test(options: &[&str]) -> Command {
    let mut command = xtask::worker_test();
    command
        .args(["--model", "tiny", "--worker-env", "WORKER_FAULT"])
        .args(options)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    command
}

/// The faulty worker, without the checks that judge its speed: an interpreter on a busy machine is
/// no measure of it.
const UNTIMED: [&str; 8] = [
    "--suite",
    "isolation",
    "--worker-bin",
    FAULTY_WORKER,
    "--skip",
    "start.answers",
    "--skip",
    "heartbeat.*",
];

fn against_fault(fault: &str, options: &[&str]) -> Output {
    let mut command = worker_test(&UNTIMED);
    command
        .args(options)
        .env("WORKER_FAULT", fault)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// Each of these stands in the output after the one before.
fn assert_in_order(output: &str, expected: &[&str]) {
    let mut rest = output;
    for line in expected {
        let Some(at) = rest.find(line) else {
            panic!("`{line}` is missing, or too early, in:\n{output}");
        };
        rest = &rest[at + line.len()..];
    }
}

/// The recorded events of a run over the real worker.
fn events_of(options: &[&str]) -> Vec<Value> {
    let output = worker_test(&["--format", "json"])
        .args(options)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let lines = text(&output.stdout);
    let events = lines.lines().map(serde_json::from_str::<Value>);
    events.collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_has_workers_of_its_own_is_tried_side_by_side_and_told_in_turn() {
    let events = events_of(&["--check", "drain.*"]);
    let ids_of = |kind: &str| -> Vec<&str> {
        let of_kind = events.iter().filter(|event| event["event"] == kind);
        of_kind.map(|event| event["id"].as_str().unwrap()).collect()
    };
    let planned = events.iter().find(|event| event["event"] == "planned");
    let planned = planned.unwrap()["checks"].as_array().unwrap();
    let planned: Vec<_> = planned
        .iter()
        .map(|check| check["id"].as_str().unwrap())
        .filter(|id| id.starts_with("drain."))
        .collect();
    assert!(planned.len() > 4, "{planned:?}");
    assert_eq!(ids_of("check_started"), planned);
    assert_eq!(ids_of("check_finished"), planned);

    let moment = |kind: &str, id: &str| {
        let told = events
            .iter()
            .find(|event| event["event"] == kind && event["id"] == id);
        told.unwrap()["elapsed_ms"].as_u64().unwrap()
    };
    let began_before_the_end_of_the_first =
        |id: &&&str| moment("check_started", id) < moment("check_finished", planned[0]);
    let beside = planned.iter().filter(began_before_the_end_of_the_first);
    assert!(beside.count() > 1, "one after the other: {events:#?}");

    // Whatever a worker is asked bears the name of the check that it was started for.
    let asked = events.iter().filter(|event| event["event"] == "asked");
    let mut workers = HashMap::new();
    for question in asked.filter(|question| question["auxiliary"].is_string()) {
        let (id, worker) = (question["id"].as_str(), question["auxiliary"].as_str());
        let (id, worker) = (id.unwrap(), worker.unwrap());
        assert_eq!(*workers.entry(worker).or_insert(id), id, "{question}");
    }
    let askers: HashSet<_> = workers.values().collect();
    assert!(
        askers.len() == workers.len() && workers.len() > 2,
        "{workers:?}"
    );
}

/// Builds the worker as a user's first run does, which is why it takes minutes the first time.
#[test]
fn the_real_worker_passes_and_the_output_keeps_its_shape() {
    let output = worker_test(&["--suite", "isolation"]).output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_in_order(
        &shown,
        &[
            "🧪 Worker Isolation Test\n==================================\n",
            "📦 Checking model file...\n✓ Model found: .test-models/tiny/tiny.gguf",
            "📡 Starting mock hive server on ",
            "✓ Mock hive server started (PID: ",
            "🚀 Starting worker...\n   Worker ID: test-worker-",
            "   Model: ",
            "   Backend: cpu",
            "   Port: ",
            "   Hive URL: http://127.0.0.1:",
            "✓ Worker started (PID: ",
            "⏳ Waiting for worker to be ready (timeout: 30s)...\n✅ Worker is ready! (",
            "🔍 Testing health endpoint...\n✅ Health endpoint responding",
            "\"model_loaded\": true",
            "🔍 Testing ready endpoint...\n✅ Ready endpoint responding",
            "\"ready\": true",
            "🤔 Testing inference...\n✅ Inference endpoint responding",
            "\"finish_reason\": ",
            "✅ Streaming endpoint responding",
            "📋 Hive server logs:\n   [",
            "✅ Heartbeat #1 from worker: test-worker-",
            "State: ",
            "📋 Worker logs (last ",
            "[INFO] Model loaded successfully",
            "📊 Test Summary\n==================================\n",
            "✅ Health test passed",
            "✅ Ready test passed",
            "✅ Inference test passed",
            "✅ Streaming test passed",
            "✅ Heartbeat test passed",
            "🧹 Cleaning up...\n✓ Cleanup complete\n",
            "✅ Isolation test complete - ALL TESTS PASSED!",
        ],
    );
    assert!(!shown.contains('\x1b'), "colour on a pipe:\n{shown}");
}

#[test]
#[cfg(unix)]
fn a_worker_gets_no_secret_unasked_and_what_it_tells_of_one_is_masked() {
    let scratch = Scratch::new("env");
    let script = format!(
        "#!/bin/sh\nenv >&2\nprintf 'me:%s' \"$HF_TOKEN\" | base64 >&2\nexec '{FAULTY_WORKER}' \"$@\"\n"
    );
    let worker = scratch.program("worker", &script);
    let artifacts = scratch.file("runs");
    let options = ["--check", "health.answers", "--log-lines", "100"];
    let output = worker_test(&options)
        .arg("--worker-bin")
        .arg(&worker)
        .arg("--artifacts")
        .arg(&artifacts)
        .args([
            "--worker-env",
            "HF_TOKEN",
            "--worker-env",
            "MY_OWN=value of mine",
        ])
        .env("HF_TOKEN", "hf_do_not_tell")
        .env("AWS_SECRET_ACCESS_KEY", "aws_do_not_tell")
        .env("GITHUB_ENV", "/a/file/of/the/job")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let files = std::fs::read_dir(artifacts.join("latest")).unwrap();
    let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let told: Vec<u8> = files.flatten().chain(output.stdout).collect();
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.contains("HF_TOKEN=[redacted]") && told.contains("MY_OWN=value of mine"),
        "{shown}"
    );
    // The last is the token in base64, behind three other characters.
    for absent in [
        "do_not_tell",
        "AWS_SECRET",
        "GITHUB_ENV",
        "aGZfZG9fbm90X3RlbG",
    ] {
        assert!(!told.contains(absent), "{absent}: {shown}");
    }
}

#[test]
fn runs_are_kept_where_the_user_wants_builds_to_go() {
    let scratch = Scratch::new("target");
    let options = ["--worker-bin", FAULTY_WORKER, "--check", "health.answers"];
    let output = worker_test(&options)
        .env("CARGO_TARGET_DIR", &scratch.0)
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let runs = std::fs::read_dir(scratch.file("worker-test")).expect(&shown);
    let named = |name: &std::ffi::OsStr| shown.contains(name.to_str().unwrap());
    let kept = runs.filter(|run| named(&run.as_ref().unwrap().file_name()));
    assert!(kept.count() >= 1, "{shown}");
}

/// Git hooks run with variables that point to their own repository.
#[test]
fn what_a_hook_has_set_changes_no_revision() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let asked = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["rev-parse", "HEAD"])
        .output();
    let Some(asked) = asked.ok().filter(|asked| asked.status.success()) else {
        println!("this isn't in a repository, or there is no git");
        return;
    };
    let options = [
        "--worker-bin",
        FAULTY_WORKER,
        "--check",
        "health.answers",
        "--format",
        "json",
    ];
    let output = worker_test(&options)
        .env("GIT_DIR", root.join("no-repository"))
        .env("GIT_WORK_TREE", root)
        .env("GIT_INDEX_FILE", root.join("no-index"))
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    let found = shown
        .lines()
        .find(|line| line.contains("\"environment_found\""))
        .expect(&shown);
    let found: Value = serde_json::from_str(found).unwrap();
    assert_eq!(found["git_revision"], text(&asked.stdout).trim());
}

/// Forty beats of a megabyte were more than eighty megabytes once: in the recording, the hive's log and
/// each report.
#[test]
fn huge_heartbeats_are_cut_and_it_is_said() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("huge-{}", std::process::id()));
    let artifacts = folder.to_str().unwrap();
    let mut command = worker_test(&[
        "--worker-bin",
        FAULTY_WORKER,
        "--check",
        "heartbeat.payload",
    ]);
    command.args(["--artifacts", artifacts]);
    let output = command.env("WORKER_FAULT", "beat.huge").output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    let latest = folder.join("latest");
    let log = std::fs::read_to_string(latest.join("hive.log")).unwrap();
    let beats = log.matches("\"event\": \"request\"").count() as u64;
    let sizes = std::fs::read_dir(&latest).unwrap();
    let bytes: u64 = sizes
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(beats >= 2 && log.contains("\"cut_bytes\": 10"), "{beats}");
    assert!(shown.contains("bytes, cut: "), "{shown}");
    assert!(
        bytes < 500_000 + beats * 100_000,
        "{bytes} bytes for {beats} beats"
    );
}

#[test]
fn json_is_one_event_a_line_and_says_its_version() {
    let output = against_fault("", &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let events: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert_eq!(events[0]["event"], "run_started");
    assert!(events[0]["schema_version"].is_u64());
    assert_eq!(events.last().unwrap()["event"], "run_finished");
    let times: Vec<_> = events
        .iter()
        .map(|event| event["elapsed_ms"].as_u64())
        .collect();
    assert!(times.iter().all(Option::is_some) && times.is_sorted());
}

#[test]
fn a_terminal_without_utf_8_gets_plain_ascii() {
    let mut command = worker_test(&UNTIMED);
    let output = command.env("LC_ALL", "C").output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.is_ascii(), "{shown}");
    assert_in_order(
        &shown,
        &[
            "Test Summary",
            "[ok] Health test passed",
            "ALL TESTS PASSED!",
        ],
    );
}

#[test]
fn a_worker_that_dies_or_never_answers_still_gives_a_summary() {
    for (fault, timeout, reason) in [
        ("crash.exits_while_loading", "120", "exit status"),
        ("start.never_ready", "2", "ready within 2 s"),
    ] {
        let output = against_fault(fault, &["--timeout", timeout]);
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{fault}: {shown}");
        assert_in_order(
            &shown,
            &["📋 Worker logs", "📊 Test Summary", "❌ Start test failed"],
        );
        assert!(shown.contains(reason), "{fault}: {shown}");
    }
}

/// Each question could hang until its own deadline.
#[test]
fn a_worker_that_is_not_ready_is_asked_for_no_text() {
    let options = ["--worker-bin", FAULTY_WORKER, "--timeout", "2"];
    let checks = [
        "--format", "json", "--check", "start.*", "--check", "drain.*",
    ];
    let output = worker_test(&options)
        .args(checks)
        .env("WORKER_FAULT", "start.never_ready")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(shown.contains("did not become ready"), "{shown}");
    assert!(!shown.contains("\"event\":\"asked\""), "{shown}");
}

#[test]
fn nonsense_is_blamed_on_the_worker_with_what_was_promised_and_what_came() {
    let output = against_fault("infer.zero_tokens", &[]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert_in_order(
        &shown,
        &["❌ Inference test failed", "expected:", "got:", "seen at:"],
    );
}

#[test]
fn a_wrong_command_line_and_a_missing_model_have_codes_of_their_own() {
    let run = |options: &[&str]| {
        let output = xtask().args(options).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, shown) = run(&["worker:test", "--backend", "abacus"]);
    assert_eq!(code, Some(2));
    assert!(
        shown.contains("abacus") && shown.contains("metal"),
        "{shown}"
    );
    let (code, shown) = run(&["worker:test", "--max-tokens", "0"]);
    assert_eq!(code, Some(2));
    assert!(shown.contains("--max-tokens"), "{shown}");
    let (code, shown) = run(&["worker:test", "--model", "/no/such/model.gguf"]);
    assert_eq!(code, Some(3));
    assert!(shown.contains("/no/such/model.gguf"), "{shown}");
}

#[test]
fn no_argument_and_help_list_the_tasks() {
    for arguments in [&[][..], &["--help"]] {
        let output = xtask().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let shown = text(&output.stdout);
        for task in [
            "worker:test",
            "worker:download-model",
            "worker:report",
            "worker:mutants",
        ] {
            assert!(shown.contains(task), "{shown}");
        }
    }
}

#[test]
fn a_saved_reference_tells_the_model_from_an_impostor() {
    let name = format!("xtask-reference-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = path.to_str().unwrap();
    let ran = |options: &[&str]| {
        let output = worker_test(options).output().unwrap();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, shown) = ran(&["--check", "health.answers", "--save-reference", file]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(&format!("--reference {file}")), "{shown}");
    let (code, shown) = ran(&["--check", "model.*", "--reference", file]);
    assert_eq!(code, Some(0), "{shown}");
    // It has other texts, and says them whatever the model.
    let canned = ["--check", "model.itself", "--worker-bin", FAULTY_WORKER];
    let (code, shown) = ran(&[&canned[..], &["--reference", file]].concat());
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("such tokens differ"), "{shown}");
    let (code, shown) = ran(&["--reference", "/dev/null"]);
    assert_eq!(code, Some(3), "{shown}");
    assert!(
        shown.contains("cannot read the reference /dev/null"),
        "{shown}"
    );
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_model_that_nobody_knows_is_said_not_to_have_been_compared() {
    let random = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../.test-models/random/llama.gguf"
    );
    let output = xtask::worker_test()
        .args(["--model", random, "--check", "model.*"])
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("unknown model: answers were not compared"),
        "{shown}"
    );
}

#[test]
fn a_run_whose_time_is_over_names_what_it_has_not_tried() {
    let limited = ["--suite", "isolation", "--time-limit", "1ms"];
    let output = worker_test(&limited).output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{shown}");
    for told in ["inference.answers: not tried", "--time-limit"] {
        assert!(shown.contains(told), "{told}: {shown}");
    }
    assert!(shown.contains("Lifecycle test passed"), "{shown}");
}

/// A bare name is a file of this folder, as every other path is, and not a program of the search path.
#[cfg(unix)]
#[test]
fn a_worker_is_found_by_its_bare_name_in_the_current_folder() {
    let scratch = Scratch::new("bare-name");
    let (here, on_path) = (scratch.folder("here"), scratch.folder("on-path"));
    std::os::unix::fs::symlink(FAULTY_WORKER, here.join("some-worker")).unwrap();
    std::os::unix::fs::symlink("/bin/false", on_path.join("some-worker")).unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = worker_test(&["--worker-bin", "some-worker", "--check", "health.answers"])
        .current_dir(&here)
        .env("PATH", format!("{}:{path}", on_path.display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[cfg(unix)]
#[test]
fn paths_of_worker_and_model_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new("no-unicode");
    let name = |bytes| scratch.0.join(std::ffi::OsStr::from_bytes(bytes));
    let (worker, model) = (name(b"worker-\xff"), name(b"model-\xff.gguf"));
    std::os::unix::fs::symlink(FAULTY_WORKER, &worker).unwrap();
    std::fs::copy(xtask::tiny_model(), &model).unwrap();
    let output = xtask::worker_test()
        .args(["--check", "health.answers", "--worker-bin"])
        .arg(&worker)
        .arg("--model")
        .arg(&model)
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("model-\u{fffd}.gguf"), "{shown}");
}
