//! Programs that we did not write, from a package index: schemathesis makes requests from the description
//! that the worker serves, valid and invalid ones, and holds every answer against it; the `openai` package
//! and Prometheus's own parser are what its clients use.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::running::WorkerCommand;

/// Pinned, so that a new release doesn't change what is tested overnight.
const SCHEMATHESIS: &[&str] = &["schemathesis==4.32.5"];
const CLIENTS: &[&str] = &["openai==3.57.0", "prometheus_client==0.23.1"];

/// Whether packages may be installed, once; later runs find what is there.
fn is_asked_for(what: &str) -> bool {
    let is_asked_for = std::env::var("TEST_PACKAGE_INDEX").as_deref() == Ok("1");
    if !is_asked_for {
        // Not by `eprintln!`, which nobody sees of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "{what} not run: TEST_PACKAGE_INDEX=1 runs it, with a package index"
        );
    }
    is_asked_for
}

#[test]
fn network_the_openai_package_gets_what_it_asks_for() {
    if !is_asked_for("the openai package was") {
        return;
    }
    let python = installed(CLIENTS).join(if cfg!(windows) {
        "python.exe"
    } else {
        "python"
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openai_client.py");
    let (_worker, port) = WorkerCommand::default().serve();
    let output = Command::new(python)
        .arg(script)
        .arg(format!("http://127.0.0.1:{port}"))
        .output()
        .unwrap();
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("all well"),
        "{said}"
    );
}

#[test]
fn network_schemathesis_finds_nothing() {
    if !is_asked_for("schemathesis was") {
        return;
    }
    let suite = installed(SCHEMATHESIS).join(if cfg!(windows) { "st.exe" } else { "st" });
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");
    let (_worker, port) = WorkerCommand::default().serve();
    let output = Command::new(suite)
        .arg("run")
        .arg(format!("http://127.0.0.1:{port}/openapi.yaml"))
        .args(["--url", &format!("http://127.0.0.1:{port}")])
        // The seed is fixed: a test that fails on Tuesdays only helps nobody.
        .args([
            "--max-examples",
            "60",
            "--seed",
            "1",
            "--no-color",
            "--continue-on-failure",
        ])
        .env("SCHEMATHESIS_HOOKS", tests.join("hooks.py"))
        // It keeps notes where it runs.
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// The programs of an environment of its own under the target folder, with these packages.
fn installed(packages: &[&str]) -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(packages.join("-"));
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let is_whole = environment.join("whole");
    if !is_whole.exists() {
        let python = if cfg!(windows) { "python" } else { "python3" };
        run(Command::new(python).args(["-m", "venv"]).arg(&environment));
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        run(Command::new(programs.join("python"))
            .args(pip)
            .args(packages));
        std::fs::write(is_whole, "").unwrap();
    }
    programs
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}

fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}
