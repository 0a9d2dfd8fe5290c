//! Finds a Python that can run the mock hive and fetch models.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::platform::INSTALL_PYTHON;
use super::tool;

/// The oldest Python that the mock hive and the download helper are written for.
const OLDEST: (u32, u32) = (3, 8);

/// How long a Python may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

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
            match python.introduction() {
                // What somebody asks for is used as it is.
                Ok((version, _)) if version >= OLDEST && asked_for.is_some() => return Ok(python),
                Ok((version, itself)) if version >= OLDEST => return Ok(itself),
                Ok(((major, minor), _)) => seen.push(format!("{python} is {major}.{minor}")),
                Err(cause) => seen.push(format!("{python}: {cause}")),
            }
        }
        bail!(
            "this needs Python {}.{} or newer, and none was found\n  tried: {}\n  try: {INSTALL_PYTHON}, or --python PATH",
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

    /// A command that runs code of ours alone: nothing of the environment, of the user's packages or
    /// of the folder that we happen to be in gets into it.
    pub fn isolated(&self) -> Command {
        let mut command = self.command();
        command.arg("-I");
        command
    }

    fn new(program: &str, arguments: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        }
    }

    /// The folder of the interpreter, where its path is known.
    pub fn folder(&self) -> Option<&Path> {
        let folder = Path::new(&self.program).parent();
        folder.filter(|folder| folder.is_absolute())
    }

    /// Its version, and the interpreter itself: what is found in the path may be a script that looks
    /// for it anew each time, which costs more than the interpreter's own start.
    fn introduction(&self) -> Result<((u32, u32), Python), String> {
        // Whatever a site's own start-up prints stands before the mark.
        let mut command = self.isolated();
        command.args([
            "-c",
            "import sys; print(); print('its version:', *sys.version_info[:2]); print(sys.executable)",
        ]);
        let (status, text) =
            tool::ask(command, VERSION_LIMIT).map_err(|error| error.to_string())?;
        let (_, answer) = text.rsplit_once("its version:").unwrap_or_default();
        let (version, executable) = answer.split_once('\n').unwrap_or((answer, ""));
        let mut numbers = version.split_whitespace().map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err(format!("it does not run ({status})"));
        };
        let itself = match executable.trim() {
            // Embedded interpreters don't know where they are.
            "" => self.clone(),
            path => Python::new(path, &[]),
        };
        Ok(((major, minor), itself))
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
    fn the_interpreter_itself_is_found_behind_whatever_starts_it() {
        let python = Python::find(None).unwrap();
        let mut command = python.command();
        command.args(["-c", "import sys; print(sys.executable)"]);
        let output = command.output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            python.to_string()
        );
        assert!(python.folder().is_some_and(Path::is_dir), "{python}");
    }

    #[cfg(unix)]
    #[test]
    fn what_a_site_prints_at_its_start_is_not_the_answer() {
        use std::os::unix::fs::PermissionsExt;
        let python = Python::find(None).unwrap();
        let path = std::env::temp_dir().join(format!("chatty-python-{}", std::process::id()));
        let script = format!("#!/bin/sh\necho 2.7 hello\nexec '{python}' \"$@\"\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = Python::find(Some(&path));
        std::fs::remove_file(&path).unwrap();
        assert!(found.is_ok(), "{found:?}");
    }

    #[test]
    fn what_is_no_python_is_refused() {
        let ourselves = std::env::current_exe().unwrap();
        let error = Python::find(Some(&ourselves)).unwrap_err().to_string();
        assert!(error.contains("it does not run"), "{error}");
    }
}
