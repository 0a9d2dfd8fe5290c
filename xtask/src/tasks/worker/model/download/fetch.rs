//! HTTP and TLS, over a small program for Python's standard library: the project needs Python anyway,
//! and a TLS of our own would cost a C compiler and half of the xtask's build time again.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::progress::TransferProgress;
use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::StopFlag;

/// The program that fetches.
const FETCH: &str = include_str!("fetch.py");

/// The longest silence of a server, while connecting and between two bytes.
const SERVER_LIMIT: Duration = Duration::from_secs(30);

/// The longest silence of the program: several of a server's, a pause, and its own start.
const PROGRAM_LIMIT: Duration = Duration::from_secs(300);

/// How long the program may take to stop: it has nothing to put away.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// How often a wait for its words looks at the stop flag.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What fetches.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// What speaks HTTP.
    pub python: Python,
    /// Ends every wait.
    pub stop: StopFlag,
}

/// What is fetched, and where to.
#[derive(Debug, Serialize)]
pub struct FetchOrder<'a> {
    /// Where it is asked for.
    pub url: String,
    /// For the server of that address alone.
    pub token: Option<&'a str>,
    /// The name of the growing file.
    pub part: &'a str,
    /// The name of what says what it is a part of.
    pub note: &'a str,
    /// The size that the catalog names.
    pub bytes: u64,
    /// The hash that the catalog names.
    pub sha256: &'a str,
    /// How often a failure that may pass is tried again.
    pub tries: u32,
    /// The pause before the second try; each further one is twice as long.
    pub first_pause_s: f64,
    /// The longest that a server may make us wait between two tries.
    pub longest_pause_s: f64,
}

/// What the program says, a line each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FetchLine {
    /// So many bytes are there.
    At(u64),
    /// The next try comes after a pause.
    Retry { cause: String, in_s: f64 },
    /// All bytes are there.
    Done,
    /// It won't come to that.
    Failed(String),
}

impl Fetcher {
    /// Fetches a file into this folder, where so many bytes of it are already. Goes on from there if
    /// the server still has the same.
    pub fn fetch(&self, order: &FetchOrder<'_>, folder: &Path, already: u64) -> Result<()> {
        let mut command = self.python.isolated();
        command
            .args(["-c", FETCH])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let group = ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD)
            .with_context(|| format!("cannot start {}", self.python))?;
        let (input, output) = group.take_pipes();
        let output = output.context("no standard output")?;
        let mut errors = group.take_stderr().context("no standard error")?;
        // It goes in over a pipe: a token on a command line is everybody's. The program ends when the
        // pipe closes, should we be killed.
        let mut leash = input.context("no standard input")?;
        let mut asked = serde_json::to_value(order)?;
        asked["timeout_s"] = SERVER_LIMIT.as_secs().into();
        writeln!(leash, "{asked}").context("Python does not read its input")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            // Who waits may have been interrupted.
            lines
                .map(|line| sender.send(line))
                .take_while(Result::is_ok)
                .count()
        });
        let mut progress = TransferProgress::start("downloading", Some(order.bytes), already);
        let mut heard = Instant::now();
        loop {
            self.stop.check()?;
            let line = match lines.recv_timeout(POLL_INTERVAL) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let silent_s = PROGRAM_LIMIT.as_secs();
                    ensure!(
                        heard.elapsed() < PROGRAM_LIMIT,
                        "Python said nothing for {silent_s} s"
                    );
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let mut said = String::new();
                    let _ = errors.read_to_string(&mut said);
                    bail!("{} broke off: {}", self.python, said.trim());
                }
            };
            heard = Instant::now();
            match serde_json::from_str(&line).with_context(|| format!("Python said {line}"))? {
                FetchLine::At(bytes) => progress.at(bytes),
                FetchLine::Retry { cause, in_s } => {
                    eprintln!("  {cause}; trying again in {in_s:.1} s")
                }
                FetchLine::Done => return Ok(()),
                FetchLine::Failed(why) => bail!(why),
            }
        }
    }
}
