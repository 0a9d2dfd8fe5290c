//! Whatever a run's surroundings are, it does its work: a machine without a network, paths that nobody
//! expects, modules that lie about.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const FAULTY_WORKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faulty_worker.py");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As in a container, or on a machine whose network has IPv6 alone: there is loopback, and no way out.
#[test]
#[cfg(target_os = "linux")]
fn loopback_is_all_the_network_that_a_run_needs() {
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        let script = format!("ip link set lo up && {script}");
        command.args(["--map-root-user", "--net", "sh", "-c", &script, "sh"]);
        command
    };
    if !alone("true").status().is_ok_and(|status| status.success()) {
        return println!("not run: a network namespace isn't allowed here, or there is no `ip`");
    }
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("alone-{}", std::process::id()));
    let output = alone("exec \"$@\"")
        .arg(env!("CARGO_BIN_EXE_xtask"))
        .args([
            "worker:test",
            "--port",
            "0",
            "--hive-port",
            "0",
            "--model",
            "tiny",
        ])
        .args([
            "--worker-bin",
            FAULTY_WORKER,
            "--check",
            "start.*",
            "--check",
            "inference.answers",
        ])
        .args([
            "--check",
            "heartbeat.payload",
            "--check",
            "shutdown.*",
            "--artifacts",
        ])
        .arg(&folder)
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Modules that lie where a run is started, or where PYTHONPATH points, are nobody's to run.
#[test]
fn python_runs_nothing_that_lies_about() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.join(format!("lies-about-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ran = folder.join("ran");
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
        std::fs::write(folder.join(module).with_extension("py"), text).unwrap();
    }
    let xtask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .current_dir(&folder)
            .env("PYTHONPATH", &folder)
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .envs([
                ("PIP_INDEX_URL", "http://127.0.0.1:9/"),
                ("PIP_RETRIES", "0"),
            ])
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITHUB_STEP_SUMMARY");
        command.output().unwrap()
    };
    let run = [
        "worker:test",
        "--port",
        "0",
        "--hive-port",
        "0",
        "--model",
        "tiny",
    ];
    // The worker of the tests is in Python, too, and workers are told where their modules are.
    let worker = folder.join("worker");
    let script = format!("#!/bin/sh\nunset PYTHONPATH\nexec '{FAULTY_WORKER}' \"$@\"\n");
    std::fs::write(&worker, script).unwrap();
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let worker = worker.to_str().unwrap();
    let over = [
        "--worker-bin",
        worker,
        "--check",
        "inference.answers",
        "--artifacts",
    ];
    let artifacts = folder.join("runs");
    let output = xtask(&[&run[..], &over[..], &[artifacts.to_str().unwrap()]].concat());
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let output = xtask(&["worker:download-model", "smollm2-135m", "--dir", "models"]);
    assert_ne!(
        output.status.code(),
        Some(0),
        "there is no index and no hub"
    );
    let ran = std::fs::read_to_string(&ran).unwrap_or_default();
    assert_eq!(ran, "", "{}", text(&output.stderr));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_path_with_spaces_quotes_and_a_line_end_is_a_path() {
    let name = format!("a 'b' \"c\"\nd $e-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let (worker, model) = (folder.join("my worker"), folder.join("my model.gguf"));
    let script = format!("#!/bin/sh\nexec '{FAULTY_WORKER}' \"$@\"\n");
    std::fs::write(&worker, script).unwrap();
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.test-models/tiny/tiny.gguf");
    std::fs::copy(tiny, &model).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let report = folder.join("my report.json");
    let output = command
        .args(["worker:test", "--port", "0", "--hive-port", "0", "--model"])
        .arg(&model)
        .arg("--worker-bin")
        .arg(&worker)
        .args([
            "--check",
            "health.answers",
            "--check",
            "inference.answers",
            "--artifacts",
        ])
        .arg(folder.join("my runs"))
        .arg("--report")
        .arg(format!("json={}", report.display()))
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(report.is_file(), "{shown}");
    let repro = folder.join("my runs/latest/repro.sh");
    let checked = Command::new("sh").arg("-n").arg(&repro).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    std::fs::remove_dir_all(&folder).unwrap();
}
