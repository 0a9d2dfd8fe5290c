//! What the faulty worker says of its own faults.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::tasks::worker::process::python::Python;

/// A fault, as the faulty worker lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// Its name.
    pub id: String,
    /// What it does, in a few words.
    pub what: String,
    /// The contract's promises that it breaks, by their numbers.
    pub breaks: Vec<String>,
}

/// The faults that the faulty worker has.
pub fn list_faults(python: &Python, program: &Path) -> Result<Vec<Fault>> {
    let mut command = python.command();
    let output = command
        .arg(program)
        .arg("--list-faults")
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "the faulty worker {} does not list its faults: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout)?;
    let faults = text.lines().map(serde_json::from_str);
    Ok(faults.collect::<Result<_, _>>()?)
}
