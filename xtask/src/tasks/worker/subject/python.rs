//! Finds a Python that can run the mock hive and fetch models.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::tool;

/// The oldest Python that the mock hive and the download helper are written for.
const OLDEST: (u32, u32) = (3, 8);

/// How long a Python may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

const INSTALL: &str = if cfg!(target_os = "windows") {
    "winget install Python.Python.3.13"
} else if cfg!(target_os = "macos") {
    "brew install python3"
} else {
    "sudo apt-get install python3 (Debian, Ubuntu) or sudo dnf install python3 (Fedora)"
};

/// A Python interpreter: a program and the arguments that come before ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    program: String,
    arguments: Vec<String>,
}

impl Python {
    /// The one that was asked for, or the first of `python3`, `python` and `py -3` that will do.
    pub fn find(asked_for: Option<&Path>) -> Result<Python> {
        let candidates = match asked_for {
            Some(path) => vec![Python::new(&path.to_string_lossy(), &[])],
            None => vec![
                Python::new("python3", &[]),
                Python::new("python", &[]),
                Python::new("py", &["-3"]),
            ],
        };
        let mut seen = Vec::new();
        for python in candidates {
            match python.version() {
                Ok(version) if version >= OLDEST => return Ok(python),
                Ok((major, minor)) => seen.push(format!("{python} is {major}.{minor}")),
                Err(cause) => seen.push(format!("{python}: {cause}")),
            }
        }
        bail!(
            "this needs Python {}.{} or newer, and there is none\n  tried: {}\n  try: {INSTALL}, or --python PATH",
            OLDEST.0,
            OLDEST.1,
            seen.join("; "),
        )
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    fn new(program: &str, arguments: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        }
    }

    fn version(&self) -> Result<(u32, u32), String> {
        let mut command = self.command();
        command.args(["-c", "import sys; print(*sys.version_info[:2])"]);
        let (status, text) =
            tool::ask(command, VERSION_LIMIT).map_err(|error| error.to_string())?;
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
            _ => Err(format!("it does not run ({})", status)),
        }
    }
}

impl std::fmt::Display for Python {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program)?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {argument}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_python_is_named_with_the_way_to_install_it() {
        let error = Python::find(Some(Path::new("/no/such/python")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such/python"), "{error}");
        assert!(error.contains("--python PATH"), "{error}");
    }

    #[test]
    fn what_is_no_python_is_refused() {
        let cargo = std::env::var("CARGO").unwrap();
        let error = Python::find(Some(Path::new(&cargo)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("it does not run"), "{error}");
    }
}
