//! A test suite that we did not write: schemathesis makes requests from the description that the
//! worker serves, valid and invalid ones, and holds every answer against it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::running::WorkerCommand;

/// Pinned, so that a new release of the suite doesn't change what is tested overnight.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Needs the package index that pip is configured for, once; later runs find what is there.
#[test]
fn network_schemathesis_finds_nothing() {
    if std::env::var("TEST_PACKAGE_INDEX").as_deref() != Ok("1") {
        // Not by `eprintln!`, which nobody sees of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "schemathesis was not run: TEST_PACKAGE_INDEX=1 runs it, with a package index"
        );
        return;
    }
    let suite = installed();
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

/// The suite in an environment of its own under the target folder.
fn installed() -> std::path::PathBuf {
    let name = SCHEMATHESIS.replace("==", "-");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let suite = programs.join(if cfg!(windows) { "st.exe" } else { "st" });
    if !suite.exists() {
        let python = if cfg!(windows) { "python" } else { "python3" };
        run(Command::new(python).args(["-m", "venv"]).arg(&environment));
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            SCHEMATHESIS,
        ];
        run(Command::new(programs.join("python")).args(pip));
    }
    suite
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
