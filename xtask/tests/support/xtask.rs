//! The program under test, started alike by every test: in UTF-8, and as outside of any CI system.
#![allow(dead_code, reason = "each test program needs some of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The worker that keeps the contract, and breaks what `WORKER_FAULT` says.
pub const FAULTY_WORKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faulty_worker.py");

/// The program, without arguments.
pub fn xtask() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    at_a_desk(&mut command);
    command
}

/// The environment of the program, also for a command that runs it.
pub fn at_a_desk(command: &mut Command) {
    command.env("LC_ALL", "C.UTF-8");
    for name in ["GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "WORKER_FAULT"] {
        command.env_remove(name);
    }
}

/// `worker:test` on free ports.
pub fn worker_test() -> Command {
    let mut command = xtask();
    command.args(["worker:test", "--port", "0", "--hive-port", "0"]);
    command
}

/// The file of the embedded model.
pub fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.test-models/tiny/tiny.gguf")
}

/// All that it said: standard output, then standard error.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
