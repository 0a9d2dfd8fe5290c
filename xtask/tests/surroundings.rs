//! Whatever a run's surroundings are, it does its work: a machine without a network, paths that nobody
//! expects, modules that lie about.
#![cfg(unix)]

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::process::Command;

use scratch::Scratch;
#[cfg(target_os = "linux")]
use xtask::at_a_desk;
use xtask::{FAULTY_WORKER, said, tiny_model, worker_test, xtask};

/// As in a container, or on a machine whose network has IPv6 alone: there is loopback, and no way out.
#[test]
#[cfg(target_os = "linux")]
fn loopback_is_all_the_network_that_a_run_needs() {
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        let script = format!("ip link set lo up && {script}");
        command.args(["--map-root-user", "--net", "sh", "-c", &script, "sh"]);
        at_a_desk(&mut command);
        command
    };
    if !alone("true").status().is_ok_and(|status| status.success()) {
        return println!("not run: a network namespace isn't allowed here, or there is no `ip`");
    }
    let scratch = Scratch::new("alone");
    let mut run = worker_test();
    let checks = [
        "start.*",
        "inference.answers",
        "heartbeat.payload",
        "shutdown.*",
    ];
    run.args(["--model", "tiny", "--worker-bin", FAULTY_WORKER])
        .args(checks.iter().flat_map(|check| ["--check", check]))
        .arg("--artifacts")
        .arg(&scratch.0);
    let output = alone("exec \"$@\"")
        .arg(run.get_program())
        .args(run.get_args())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

/// Modules that lie where a run is started, or where PYTHONPATH points, are nobody's to run.
#[test]
fn python_runs_nothing_that_lies_about() {
    let scratch = Scratch::new("lies-about");
    let ran = scratch.file("ran");
    let modules = [
        "pip",
        "sitecustomize",
        "usercustomize",
        "json",
        "http",
        "socketserver",
    ];
    for module in modules {
        let text = format!(
            "open({:?}, 'a').write('{module} ')\n",
            ran.to_str().unwrap()
        );
        scratch.with(&format!("{module}.py"), &text);
    }
    // The worker of the tests is in Python, too, and workers are told where their modules are.
    let script = format!("#!/bin/sh\nunset PYTHONPATH\nexec '{FAULTY_WORKER}' \"$@\"\n");
    let worker = scratch.program("worker", &script);
    let here = |mut command: Command| {
        command
            .current_dir(&scratch.0)
            .env("PYTHONPATH", &scratch.0)
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("PIP_INDEX_URL", "http://127.0.0.1:9/")
            .env("PIP_RETRIES", "0");
        command.output().unwrap()
    };
    let mut run = worker_test();
    run.args([
        "--model",
        "tiny",
        "--check",
        "inference.answers",
        "--worker-bin",
    ])
    .arg(&worker)
    .arg("--artifacts")
    .arg(scratch.file("runs"));
    let output = here(run);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let mut download = xtask();
    download.args(["worker:download-model", "smollm2-135m", "--dir", "models"]);
    let output = here(download);
    assert_ne!(
        output.status.code(),
        Some(0),
        "there is no index and no hub"
    );
    let ran = std::fs::read_to_string(&ran).unwrap_or_default();
    assert_eq!(ran, "", "{}", said(&output));
}

#[test]
fn a_path_with_spaces_quotes_and_a_line_end_is_a_path() {
    let scratch = Scratch::new("a 'b' \"c\"\nd $e");
    let script = format!("#!/bin/sh\nexec '{FAULTY_WORKER}' \"$@\"\n");
    let worker = scratch.program("my worker", &script);
    let model = scratch.file("my model.gguf");
    std::fs::copy(tiny_model(), &model).unwrap();
    let report = scratch.file("my report.json");
    let output = worker_test()
        .args([
            "--check",
            "health.answers",
            "--check",
            "inference.answers",
            "--model",
        ])
        .arg(&model)
        .arg("--worker-bin")
        .arg(&worker)
        .arg("--artifacts")
        .arg(scratch.file("my runs"))
        .arg("--report")
        .arg(format!("json={}", report.display()))
        .output()
        .unwrap();
    let shown = said(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(report.is_file(), "{shown}");
    let repro = scratch.file("my runs/latest/repro.sh");
    let checked = Command::new("sh").arg("-n").arg(&repro).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}
