//! The mock hive: a guard over the Python sink, and what the sink has received.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::group::{ProcessGroup, Role, describe_exit, longest_end};
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::log::CappedFile;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::registry;
use crate::tasks::worker::process::secrets::redactor;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::event::{EventKind, Heartbeat};

const SINK_SOURCE: &str = include_str!("mock_hive.py");

/// How long the sink may take to listen, which is mostly Python's own start.
const LISTEN_LIMIT: Duration = Duration::from_secs(30);

/// How long a command may take to become effective.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// What is kept of the sink's own words on disk, but for the end.
const LOG_LIMIT_BYTES: u64 = 8 << 20;

/// How many requests are recorded, and their bodies' bytes together: more than a day of a run that
/// works, and less than somebody who floods the hive would like.
const MOST_RECORDED: usize = 100_000;
const MOST_BODY_BYTES: usize = 32 << 20;

/// How often the sink is asked for its clock at the start.
const CLOCK_SAMPLES: usize = 3;

/// How long the sink may take to stop: it has nothing to finish.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// How long its end may take at most.
pub const END_LIMIT: Duration = longest_end(GRACE_PERIOD);

/// Where nobody listens, for workers that have no hive.
const NO_PORT: u16 = 9;

/// A running sink, or none. Dropping it stops it.
#[derive(Debug)]
pub struct MockHiveServer {
    sink: Option<Sink>,
    port: u16,
    received: Arc<Mutex<SinkOutput>>,
    stop: StopFlag,
}

/// The sink's process.
#[derive(Debug)]
struct Sink {
    group: ProcessGroup,
    commands: Mutex<ChildStdin>,
}

/// What the sink has said so far.
#[derive(Debug, Default)]
struct SinkOutput {
    heartbeats: Vec<Heartbeat>,
    /// How many came before those, and are kept no longer.
    forgotten: usize,
    /// How long their bodies were together.
    body_bytes: usize,
    /// Whether there were too many of them.
    overflows: bool,
    /// Where the sink listens.
    port: Option<u16>,
    /// What has to be added to the sink's clock for the run's axis: the least that any line showed,
    /// since every line was under way for some time, and on a busy machine for long.
    offset_ms: Option<f64>,
    commands_done: usize,
    errors: Vec<String>,
}

impl MockHiveServer {
    /// Starts the sink and waits until it listens. Its files go into `folder`.
    pub fn start(
        python: &Python,
        port: u16,
        folder: &Path,
        journal: &Journal,
        stop: &StopFlag,
    ) -> Result<Self> {
        journal.emit(EventKind::HiveStarting {
            port,
            limit_ms: Some(LISTEN_LIMIT.as_millis() as u64),
        });
        let source = folder.join("mock_hive.py");
        std::fs::write(&source, SINK_SOURCE)
            .with_context(|| format!("cannot write {}", source.display()))?;
        let errors = folder.join("hive-errors.log");
        let mut command = python.command();
        command
            .args(["-I", "-u"])
            .arg(&source)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&errors)?);
        let group = ProcessGroup::spawn(command, Role::Hive, GRACE_PERIOD)
            .with_context(|| format!("cannot start the mock hive with {python}"))?;
        let (stdin, stdout) = group.take_pipes();
        let pid = group.pid();
        let commands = stdin.context("the mock hive has no standard input")?;
        let mut hive = Self {
            sink: Some(Sink {
                group,
                commands: Mutex::new(commands),
            }),
            port,
            received: Arc::default(),
            stop: stop.clone(),
        };
        hive.listen_to(
            stdout.context("the mock hive has no standard output")?,
            folder,
            journal,
        )?;
        hive.port = stop.wait_for("the mock hive to listen", LISTEN_LIMIT, || {
            let received = lock(&hive.received);
            if let Some(message) = received.errors.first() {
                bail!("the mock hive {message}\n  try: --hive-port 0 to pick a free one");
            }
            let port = received.port;
            drop(received);
            if port.is_none() {
                hive.ensure_alive()?;
            }
            Ok(port)
        })?;
        registry::watch_port(hive.port, "the mock hive");
        for _ in 0..CLOCK_SAMPLES {
            hive.behave()?;
        }
        journal.emit(EventKind::HiveStarted {
            pid,
            port: hive.port,
        });
        Ok(hive)
    }

    /// No sink, for workers that send no heartbeats.
    pub fn absent(stop: &StopFlag) -> Self {
        Self {
            sink: None,
            port: NO_PORT,
            received: Arc::default(),
            stop: stop.clone(),
        }
    }

    /// Where workers send their heartbeats: the worker's `--hive-url`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Every request so far that is kept, in order of arrival.
    pub fn heartbeats(&self) -> Vec<Heartbeat> {
        lock(&self.received).heartbeats.clone()
    }

    /// The requests after the first `seen`, in order of arrival. Those before are kept no longer: for
    /// runs of hours.
    pub fn heartbeats_after(&self, seen: usize) -> Vec<Heartbeat> {
        let mut received = lock(&self.received);
        let old = seen.saturating_sub(received.forgotten);
        let old = old.min(received.heartbeats.len());
        received.heartbeats.drain(..old);
        received.forgotten += old;
        received.heartbeats.clone()
    }

    /// Answers every request with this status from now on.
    pub fn answer_with(&self, status: u16) -> Result<()> {
        self.obey(&json!({"do": "answer", "status": status}))
    }

    /// Sends every request to this path of its own from now on.
    pub fn redirect_to(&self, path: &str) -> Result<()> {
        let headers = json!({"Location": format!("{}{path}", self.url())});
        self.obey(&json!({"do": "answer", "status": 307, "headers": headers}))
    }

    /// Takes requests and never answers them from now on.
    pub fn hang(&self) -> Result<()> {
        self.obey(&json!({"do": "hang"}))
    }

    /// Takes requests and hangs up without an answer from now on.
    pub fn hang_up(&self) -> Result<()> {
        self.obey(&json!({"do": "close"}))
    }

    /// Stops listening: connections are refused from now on.
    pub fn go_away(&self) -> Result<()> {
        self.obey(&json!({"do": "deaf"}))
    }

    /// Answers 200 at once from now on, and listens if it didn't.
    pub fn behave(&self) -> Result<()> {
        self.obey(&json!({"do": "normal"}))
    }

    /// Fails if the sink has ended: then nothing can be said about heartbeats.
    pub fn ensure_alive(&self) -> Result<()> {
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        if let Some(status) = sink.group.try_wait()? {
            bail!(
                "the mock hive exited unexpectedly: {}",
                describe_exit(status)
            );
        }
        Ok(())
    }

    /// Gives the sink a command (see `mock_hive.py`) and waits until it is in force.
    fn obey(&self, command: &Value) -> Result<()> {
        let sink = self.sink.as_ref().context("there is no mock hive")?;
        let before = lock(&self.received).commands_done;
        writeln!(lock(&sink.commands), "{command}")
            .with_context(|| format!("the mock hive does not accept the command {command}"))?;
        self.stop
            .wait_for("the mock hive to obey", COMMAND_LIMIT, || {
                self.ensure_alive()?;
                let received = lock(&self.received);
                if let Some(message) = received.errors.last() {
                    bail!("the mock hive {message}");
                }
                Ok((received.commands_done > before).then_some(()))
            })
    }

    fn listen_to(&self, stdout: ChildStdout, folder: &Path, journal: &Journal) -> Result<()> {
        let log = std::fs::File::create(folder.join("hive.log"))?;
        let mut log = CappedFile::new(log, LOG_LIMIT_BYTES);
        let (received, journal) = (Arc::clone(&self.received), journal.clone());
        let redactor = redactor();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let now = Instant::now();
                log.write(format!("{}\n", redactor.clean(&line)).as_bytes());
                let heard = lock(&received).take(&line, journal.elapsed_ms(now));
                match heard {
                    Heard::Nothing => {}
                    Heard::Request(heartbeat) => {
                        journal.emit(EventKind::HeartbeatReceived(heartbeat));
                    }
                    Heard::TooMuch => journal.emit(EventKind::Noted {
                        message: format!(
                            "the hive was sent more than {MOST_RECORDED} requests or {} MiB: the rest is left out",
                            MOST_BODY_BYTES >> 20
                        ),
                    }),
                }
            }
            log.finish(b"");
        });
        Ok(())
    }
}

/// What a line of the sink told.
#[derive(Debug, PartialEq)]
enum Heard {
    Nothing,
    Request(Heartbeat),
    /// Requests are left out from here on.
    TooMuch,
}

impl SinkOutput {
    /// Takes in one line of the sink.
    fn take(&mut self, line: &str, now_ms: f64) -> Heard {
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |name: &str| said[name].as_str().map(str::to_owned);
        let offset_ms = said["at"]
            .as_f64()
            .map_or(0.0, |at_s| self.join_clocks(at_s * 1e3, now_ms));
        match said["event"].as_str() {
            Some("listening") => {
                self.port = Some(said["port"].as_u64().unwrap_or_default() as u16);
            }
            Some("request") => {
                let at_ms = said["at"].as_f64().unwrap_or_default() * 1e3;
                let mut body = text("body").unwrap_or_default();
                if let Some(cut) = said["cut_bytes"].as_u64().filter(|cut| *cut > 0) {
                    let bytes = body.len() as u64 + cut;
                    body = format!("{bytes} bytes, cut: {body}");
                }
                self.body_bytes += body.len();
                let recorded = self.forgotten + self.heartbeats.len();
                if recorded >= MOST_RECORDED || self.body_bytes > MOST_BODY_BYTES {
                    let first = !std::mem::replace(&mut self.overflows, true);
                    return if first {
                        Heard::TooMuch
                    } else {
                        Heard::Nothing
                    };
                }
                let heartbeat = Heartbeat {
                    number: (self.forgotten + self.heartbeats.len()) as u32 + 1,
                    arrived_ms: at_ms + offset_ms,
                    clock: text("clock").unwrap_or_default(),
                    method: text("method").unwrap_or_default(),
                    path: text("path").unwrap_or_default(),
                    content_type: text("content_type"),
                    body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
                    answered: said["answered"].as_u64().map(|status| status as u16),
                };
                self.heartbeats.push(heartbeat.clone());
                return Heard::Request(heartbeat);
            }
            Some("done") => self.commands_done += 1,
            Some("deaf") => {}
            _ => self
                .errors
                .push(text("message").unwrap_or_else(|| format!("says `{line}`"))),
        }
        Heard::Nothing
    }

    /// Takes in what a line shows of the two clocks; gives what joins them. What has arrived before is
    /// moved where it was joined by a line that had been under way for longer.
    fn join_clocks(&mut self, sink_ms: f64, run_ms: f64) -> f64 {
        let shown_ms = run_ms - sink_ms;
        let before_ms = self.offset_ms.unwrap_or(shown_ms);
        let offset_ms = before_ms.min(shown_ms);
        self.offset_ms = Some(offset_ms);
        for heartbeat in &mut self.heartbeats {
            heartbeat.arrived_ms += offset_ms - before_ms;
        }
        offset_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_held_up_moves_no_arrival() {
        let mut received = SinkOutput::default();
        let request = |at_s: f64| format!(r#"{{"event":"request","at":{at_s}}}"#);
        received.take(r#"{"event":"listening","port":1,"at":100.0}"#, 800.0);
        let taken =
            |received: &mut SinkOutput, line: &str, now_ms| match received.take(line, now_ms) {
                Heard::Request(heartbeat) => heartbeat,
                other => panic!("{other:?}"),
            };
        let first = taken(&mut received, &request(101.0), 1400.0);
        assert_eq!((received.port, first.arrived_ms), (Some(1), 1400.0));
        let second = taken(&mut received, &request(102.0), 2300.0);
        assert_eq!(second.arrived_ms, 2300.0);
        let third = taken(&mut received, &request(103.0), 3900.0);
        assert_eq!(third.arrived_ms, 3300.0);
        let arrived: Vec<f64> = received.heartbeats.iter().map(|h| h.arrived_ms).collect();
        assert_eq!(arrived, [1300.0, 2300.0, 3300.0]);
    }

    #[test]
    fn a_body_that_was_cut_says_so_and_is_no_heartbeat() {
        let mut received = SinkOutput::default();
        let line = r#"{"event":"request","at":1.0,"body":"{\"a\":","cut_bytes":7}"#;
        received.take(line, 0.0);
        assert_eq!(received.heartbeats[0].body, "12 bytes, cut: {\"a\":");
    }

    #[test]
    fn a_flood_is_told_once_and_left_out() {
        let mut received = SinkOutput::default();
        let body = "x".repeat(MOST_BODY_BYTES / 4);
        let line = format!(r#"{{"event":"request","at":1.0,"body":"{body}"}}"#);
        let heard: Vec<Heard> = (0..7).map(|_| received.take(&line, 0.0)).collect();
        let requests = |heard: &&Heard| matches!(heard, Heard::Request(_));
        assert_eq!(heard.iter().filter(requests).count(), 4);
        assert_eq!(heard[4..], [Heard::TooMuch, Heard::Nothing, Heard::Nothing]);
        assert_eq!(received.heartbeats.len(), 4);
    }

    /// Which may take seconds to answer, or never do.
    #[test]
    fn it_asks_no_name_server() {
        const PROGRAM: &str = "import os, runpy, socket, sys
def asked(*_):
    os._exit(9)
socket.getfqdn = socket.gethostbyaddr = socket.getnameinfo = asked
runpy.run_path(sys.argv.pop(1), run_name='__main__')";
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/tasks/worker/target/mock_hive.py"
        );
        let mut command = Python::find(None).unwrap().command();
        command
            .args(["-I", "-c", PROGRAM, source, "0"])
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("listening"), "{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}
