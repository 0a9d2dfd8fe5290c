//! What the tests of whole processes share: a worker that cannot outlive its test, a hive that
//! listens, and a client that blocks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing in these tests takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What a promise of the contract comes to on a machine that does ten other things: these tests are
/// about what happens, and `worker:test` judges how fast.
pub fn on_a_busy_machine(promised: Duration) -> Duration {
    promised * 10
}

/// Tries until `attempt` gives something: on a busy machine the moment that a test is about may be
/// over before the test gets there.
pub fn in_some_attempt<T>(attempt: impl Fn() -> Option<T>) -> T {
    (0..20)
        .find_map(|_| attempt())
        .expect("twenty attempts came too late")
}

/// The model that is part of the repository.
pub fn tiny_model() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.test-models/tiny/tiny.gguf"
    ))
}

/// A worker's command line; the defaults serve the tiny model to a hive that isn't there.
pub struct WorkerCommand {
    pub model: PathBuf,
    pub backend: &'static str,
    pub device: &'static str,
    pub port: u16,
    pub hive_url: String,
    pub more: Vec<&'static str>,
    pub token: Option<&'static str>,
    /// As many file descriptors as it may have, where the system can be told.
    pub descriptors: Option<u32>,
}

impl Default for WorkerCommand {
    fn default() -> Self {
        Self {
            model: tiny_model(),
            backend: "cpu",
            device: "0",
            port: 0,
            // Discard: nobody listens there, and nobody else will be asked.
            hive_url: "http://127.0.0.1:9".to_owned(),
            more: Vec::new(),
            token: None,
            descriptors: None,
        }
    }
}

impl WorkerCommand {
    /// Starts it without waiting for anything.
    pub fn spawn(self) -> WorkerProcess {
        let program = env!("CARGO_BIN_EXE_llm-worker-rbee");
        let mut command = match self.descriptors {
            None => Command::new(program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
                shell.args(["-c", &script, program]);
                shell
            }
        };
        command
            .args(["--worker-id", "w-1", "--model-ref", "embedded:tiny"])
            .args(["--backend", self.backend, "--device", self.device])
            .args([
                "--port",
                &self.port.to_string(),
                "--hive-url",
                &self.hive_url,
            ])
            .arg("--model")
            .arg(&self.model)
            .args(self.more)
            .env_remove("WORKER_API_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(token) = self.token {
            command.env("WORKER_API_TOKEN", token);
        }
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        WorkerProcess {
            child,
            lines,
            log: Vec::new(),
            started,
        }
    }

    /// Starts it and waits until it serves.
    pub fn serve(self) -> (WorkerProcess, u16) {
        let mut worker = self.spawn();
        let port = worker.port();
        worker.until_logged("Worker ready, starting HTTP server");
        (worker, port)
    }
}

/// A worker that is killed and reaped at the test's end, if it still runs.
pub struct WorkerProcess {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What it wrote to standard error, as far as a test has waited for it.
    pub log: Vec<String>,
    pub started: Instant,
}

impl WorkerProcess {
    /// Waits for a line that holds the text, and returns it.
    pub fn until_logged(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("no {text:?} in {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The port that it says it listens on.
    pub fn port(&mut self) -> u16 {
        let line = self.until_logged("Listening on");
        let (_, port) = line
            .split_once("127.0.0.1:")
            .or(line.split_once("0.0.0.0:"))
            .unwrap();
        let end = port
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(port.len());
        port[..end].parse().unwrap()
    }

    /// Ends it at once, and waits for that.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The number of its process.
    #[cfg(target_os = "linux")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    #[cfg(target_os = "linux")]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end, and collects the rest of the log.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("still running: {:#?}", self.log),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.log.extend(self.lines.iter());
        status
    }

    /// Sends a signal by its name.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and returns the stream to read the answer from.
pub fn send(port: u16, request: &str) -> TcpStream {
    try_send(port, request).unwrap()
}

fn try_send(port: u16, request: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}

/// The status and the body of an answer.
pub fn answer(stream: TcpStream) -> (u16, String) {
    try_answer(stream).expect("an answer")
}

/// The same; `None` where the worker has hung up instead.
pub fn try_answer(mut stream: TcpStream) -> Option<(u16, String)> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Asks with GET.
pub fn get(port: u16, path: &str) -> (u16, Value) {
    try_get(port, path).expect("an answer")
}

/// The same; `None` where nobody is there any more.
pub fn try_get(port: u16, path: &str) -> Option<(u16, Value)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (status, body) = try_answer(try_send(port, &request).ok()?)?;
    Some((status, serde_json::from_str(&body).unwrap()))
}

/// Starts an inference.
pub fn infer(port: u16, body: &Value) -> TcpStream {
    try_infer(port, body).expect("the worker takes requests")
}

/// The same; `None` where nobody is there any more.
pub fn try_infer(port: u16, body: &Value) -> Option<TcpStream> {
    try_send(port, &posted("/v1/inference", body)).ok()
}

/// Asks with POST.
pub fn post(port: u16, path: &str, body: &Value) -> (u16, String) {
    answer(send(port, &posted(path, body)))
}

fn posted(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Streams of which some go on for a while: so hot that the end token comes at random, and so many
/// that it hardly comes early to all of them. The worker has taken each.
#[cfg(unix)]
pub fn long_streams(port: u16) -> Vec<TcpStream> {
    let stream = |seed| {
        let body = serde_json::json!({"prompt": "Hello", "max_tokens": 1000, "temperature": 2,
                                      "seed": seed, "stream": true});
        infer(port, &body)
    };
    let mut streams: Vec<TcpStream> = (0..8).map(stream).collect();
    streams.iter_mut().for_each(read_head);
    streams
}

/// Reads the head of an answer and not a byte more.
#[cfg(unix)]
fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&head)
    );
}

/// A hive that takes every beat, answers it or not, and hands it on.
pub struct Hive {
    pub url: String,
    pub beats: mpsc::Receiver<Value>,
}

impl Hive {
    /// Starts on a free port. One that doesn't answer keeps its connections open.
    pub fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, beats) = mpsc::channel();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(beat) = read_beat(&mut stream) else {
                    continue;
                };
                if answers {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                } else {
                    open.push(stream);
                }
                if sender.send(beat).is_err() {
                    return;
                }
            }
        });
        Self { url, beats }
    }

    /// The next beat.
    pub fn next(&self) -> Value {
        self.beats.recv_timeout(DEADLINE).expect("a beat comes")
    }
}

fn read_beat(stream: &mut TcpStream) -> Option<Value> {
    let mut request = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&bytes[..length]);
        let text = String::from_utf8_lossy(&request);
        let beat = text
            .split_once("\r\n\r\n")
            .map(|(_, body)| serde_json::from_str(body));
        if let Some(Ok(beat)) = beat {
            return Some(beat);
        }
    }
}
