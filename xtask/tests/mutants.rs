//! The tester, tested: every check catches a fault that breaks its promise, and nobody is blamed for
//! what is merely different. And the faulty worker itself.
//!
//! All faults together take three times as long: `cargo xtask worker:mutants --quick`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};

/// Both tests keep the machine busy, and the table is quicker alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[cfg(unix)]
#[test]
fn every_check_catches_its_fault_and_nobody_else_is_blamed() {
    let _alone = alone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command
        .args(["worker:mutants", "--quick", "--each-check"])
        .output();
    let output = output.unwrap();
    let table = shown(&output);
    assert_eq!(output.status.code(), Some(0), "{table}");
    let totals = table.lines().find(|line| line.starts_with("caught "));
    let totals = totals.unwrap_or_else(|| panic!("no totals in:\n{table}"));
    let words: Vec<&str> = totals.split([' ', ',']).collect();
    let [_, caught, "/", faults, ..] = words.as_slice() else {
        panic!("no numbers in: {totals}");
    };
    let faults: usize = faults.parse().unwrap();
    assert!(*caught == faults.to_string() && faults > 80, "{totals}");
    // Shown with --nocapture, and kept by CI.
    println!("{table}");
}

#[test]
fn the_faulty_worker_keeps_every_promise_that_it_is_not_told_to_break() {
    let _alone = alone();
    let is_python = |name: &&str| {
        let mut command = Command::new(name);
        let command = command.arg("--version").stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let python = ["python3", "python"].into_iter().find(is_python);
    let mut command = Command::new(python.expect("Python, which the mock hive needs too"));
    let output = command
        .args(["-m", "unittest", "test_faulty_worker"])
        .current_dir(tests())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
}
