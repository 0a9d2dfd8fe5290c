//! The tester, tested: every check catches a fault that breaks its promise, and nobody is blamed for
//! what is merely different.
//!
//! All faults together take three times as long: `cargo xtask worker:mutants --quick`.
#![cfg(unix)]

#[path = "support/xtask.rs"]
mod xtask;

use std::process::Command;

use xtask::{said, xtask};

/// Its own deadline ends it where it hangs.
#[test]
fn the_faulty_worker_is_what_its_table_says() {
    let mut python = Command::new("python3");
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    python.args(["-B", "-m", "unittest", "discover", "-s", tests]);
    let output = python.env_remove("WORKER_FAULT").output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    // No test at all would be fine with older Pythons, too.
    let count = told.lines().find_map(|line| line.strip_prefix("Ran "));
    let count = count.and_then(|line| line.split(' ').next()?.parse::<u32>().ok());
    assert!(count.is_some_and(|count| count > 0), "{told}");
}

#[test]
fn every_check_catches_its_fault_and_nobody_else_is_blamed() {
    let output = xtask()
        .args(["worker:mutants", "--quick", "--each-check"])
        .output();
    let output = output.unwrap();
    let table = said(&output);
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
