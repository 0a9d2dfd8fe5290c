//! Starts the binary under test, talks to it, and finds everything that it has started.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Marks everything that a run has started, by inheritance of the environment: the name's beginning is
/// one that runs pass on.
const MARK: &str = "XDG_NOBODY_LEFT_BEHIND_TEST";

/// How long a worker that ignores everything is given before it is killed.
pub const GRACE: Duration = Duration::from_secs(3);

/// How long everything may take to be gone, the grace period aside. Three seconds are promised, and
/// a machine that does ten other things takes ten times as long. Nobody would go by himself for
/// ten minutes.
pub const GONE_LIMIT: Duration = Duration::from_secs(30);

/// How long a run may take until it is where a test wants it, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Which worker a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worker {
    /// Keeps the whole contract.
    Good,
    /// Ignores signals, has a child, floods its log, never answers an inference.
    Stubborn,
    /// Isn't there.
    Missing,
    /// A script of the test's own, that gets the folder of the good worker as `$TESTS`.
    Script(&'static str),
}

/// A run that is about to be started.
pub struct Plan {
    command: Command,
    mark: String,
    folder: PathBuf,
}

/// A run of the binary. Dropping it kills the binary, and leaves the rest to what is tested.
pub struct Run {
    pub child: Child,
    mark: String,
    folder: PathBuf,
    output: Option<BufReader<std::process::ChildStdout>>,
}

/// A process that a run has started, and lives.
#[derive(Debug, Clone)]
pub struct Found {
    pub pid: i32,
    pub arguments: Vec<String>,
}

impl Plan {
    /// A run over that worker, on free ports.
    pub fn over(worker: Worker) -> Self {
        let mut plan = Self::bare(worker);
        plan.command.args(["--port", "0", "--hive-port", "0"]);
        plan
    }

    /// A run over that worker, without ports.
    pub fn bare(worker: Worker) -> Self {
        Self::of(worker, &["--suite", "isolation"])
    }

    /// Two workers of that kind under load for a moment, of which the second is killed and started
    /// again.
    pub fn of_killed_worker(worker: Worker) -> Self {
        let stress = ["--stress", "2", "--duration", "3s", "--kill-one"];
        Self::of(worker, &stress).args(&["--port", "0", "--hive-port", "0"])
    }

    fn of(worker: Worker, mode: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{mark}"));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .arg("worker:test")
            .args(mode)
            .arg("--model")
            .arg(workspace().join(".test-models/tiny/tiny.gguf"))
            .arg("--worker-bin")
            .arg(write_worker(worker, &folder))
            .args(["--python", python()])
            .env(MARK, &mark)
            .env("STUBBORN_NOTE", folder.join("inference"))
            .args(["--worker-env", "STUBBORN_NOTE"])
            .env("STUBBORN_FLOOD_MB", "1")
            .args(["--worker-env", "STUBBORN_FLOOD_MB"])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            command,
            mark,
            folder,
        }
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// For the run and for its worker.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value).args(["--worker-env", name]);
        self
    }

    pub fn stdin(mut self, input: impl Into<Stdio>) -> Self {
        self.command.stdin(input);
        self
    }

    /// Wraps the whole command line into another program's.
    pub fn through(mut self, program: &str, arguments: &[&str]) -> Self {
        let mut outer = Command::new(program);
        outer.args(arguments).arg(self.command.get_program());
        outer.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            outer.env(name, value.unwrap_or_default());
        }
        outer.stdin(Stdio::null());
        outer.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = outer;
        self
    }

    pub fn start(mut self) -> Run {
        // A group of its own, as a shell would give it: what the tests do to it hits nobody else.
        let mut child = self.command.process_group(0).spawn().unwrap();
        let output = child.stdout.take().map(BufReader::new);
        Run {
            child,
            mark: self.mark,
            folder: self.folder,
            output,
        }
    }
}

impl Run {
    /// Waits until the worker has been asked for an inference that it doesn't answer.
    pub fn wait_until_busy(&mut self) {
        let note = self.folder.join("inference");
        let began = Instant::now();
        while !note.exists() {
            let ended = self.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", self.rest_of_output());
            assert!(began.elapsed() < PATIENCE, "no inference came");
            pause();
        }
    }

    /// The next line of standard output.
    pub fn next_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Closes our end of standard output.
    pub fn close_output(&mut self) {
        self.output = None;
    }

    /// The folder that holds the worker.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn signal(&self, name: &str) {
        send(name, self.child.id() as i32);
    }

    /// Waits for the binary's end; its exit code and what it has written since.
    pub fn finish(&mut self) -> (Option<i32>, String) {
        let output = self.rest_of_output();
        (self.wait().code(), output)
    }

    /// Waits for the binary's end, without reading what it writes.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the run does not end");
            pause();
        }
    }

    pub fn rest_of_output(&mut self) -> String {
        let mut text = String::new();
        while let Some(line) = self
            .output
            .as_ref()
            .and(Some(()))
            .and_then(|()| self.next_line())
        {
            text += &line;
            text.push('\n');
        }
        text
    }

    /// What it wrote to standard error. To be asked when it has ended.
    pub fn errors(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
        text
    }

    /// Everything that lives and was started by the run, itself included.
    pub fn family(&self) -> Vec<Found> {
        family(&self.mark)
    }

    /// The run's reaper.
    pub fn reaper(&self) -> Found {
        let mut family = self.family().into_iter();
        let is_reaper = |found: &Found| found.arguments.iter().any(|word| word == "worker:reaper");
        family.find(is_reaper).expect("a run has a reaper")
    }

    /// The run itself, behind the supervisor that was started.
    pub fn behind(&self) -> Found {
        let is_behind = |found: &Found| parent(found.pid) == Some(self.child.id() as i32);
        let mut family = self.family().into_iter();
        family.find(is_behind).expect("a supervisor has a run")
    }

    /// Kills the run and its supervisor so that neither sees the other's end.
    pub fn kill_both(&self) {
        let behind = self.behind().pid;
        send("STOP", behind);
        self.signal("KILL");
        send("KILL", behind);
    }

    /// Fails unless everything is gone within `limit`.
    pub fn assert_gone_within(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            let left = self.family();
            if left.is_empty() {
                return;
            }
            assert!(began.elapsed() < limit, "left behind: {left:#?}");
            pause();
        }
    }

    pub fn assert_gone(&self) {
        self.assert_gone_within(GONE_LIMIT);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
        // A test that failed must not leave behind what it found.
        for found in self.family() {
            send("KILL", found.pid);
        }
    }
}

/// The events in the JSON output of a run.
pub fn events(output: &str) -> Vec<Value> {
    let lines = output.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// The first event of that name.
pub fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no event {name} in {events:#?}"))
}

/// How a check ended; null where it has no outcome.
pub fn outcome<'a>(events: &'a [Value], id: &str) -> &'a Value {
    let mut finished = events.iter().filter(|e| e["event"] == "check_finished");
    finished.find(|e| e["id"] == id).unwrap_or(&Value::Null)
}

/// The living processes with this mark in their environment.
fn family(mark: &str) -> Vec<Found> {
    let mark = format!("{MARK}={mark}");
    let marked = |found: &Found| words(found.pid, "environ").contains(&mark);
    processes().filter(marked).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split(' ').nth(2)?.parse().ok()
}

/// A living process with this command line.
pub fn with_words(command_line: &[&str]) -> Option<Found> {
    processes().find(|found| found.arguments == command_line)
}

/// The processes that live: of a zombie nothing can be read.
fn processes() -> impl Iterator<Item = Found> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.map(|pid| Found {
        pid,
        arguments: words(pid, "cmdline"),
    })
}

/// A file of words that each end with a zero.
fn words(pid: i32, name: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let words = text.split_terminator('\0');
    words.map(str::to_owned).collect()
}

/// Sends a signal by name.
pub fn send(name: &str, pid: i32) {
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Whether somebody listens on the port.
pub fn is_held(port: &Value) -> bool {
    let port = port.as_u64().expect("a port") as u16;
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Between two looks at something that happens soon.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The interpreter itself: wrappers such as pyenv's cost more than all that is tested.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("python3");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

fn write_worker(worker: Worker, folder: &Path) -> PathBuf {
    let tests = workspace().join("xtask/tests");
    let path = folder.join("worker");
    let source = match worker {
        Worker::Missing => return path,
        Worker::Good => tests.join("faulty_worker.py"),
        Worker::Stubborn => workspace().join("xtask/src/tasks/worker/self_test/stubborn_worker.py"),
        Worker::Script(text) => {
            let path = folder.join("script.py");
            fs::write(&path, text).unwrap();
            path
        }
    };
    let text = format!(
        "#!/bin/sh\nTESTS='{}' exec '{}' '{}' \"$@\"\n",
        tests.display(),
        python(),
        source.display()
    );
    write_program(&path, &text);
    path
}

/// Through a process of its own: a child that another test is just starting would inherit a file
/// that we have open for writing, and what is open for writing can't be run.
fn write_program(path: &Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]);
    let mut child = command.arg(path).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
