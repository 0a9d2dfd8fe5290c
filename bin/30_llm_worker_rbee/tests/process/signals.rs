//! How a worker ends when it is asked to.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Scratch;
use crate::running::{Hive, WorkerCommand, WorkerProcess, answer, get, infer, long_streams};

fn ends_within(worker: &mut WorkerProcess, limit: Duration) -> Option<i32> {
    let asked = Instant::now();
    let status = worker.wait();
    let took = asked.elapsed();
    assert!(took < limit, "{took:?}: {:#?}", worker.log);
    status.code()
}

#[test]
fn a_worker_that_is_asked_to_stop_says_goodbye_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let hive = Hive::start(true);
        let command = WorkerCommand {
            hive_url: hive.url.clone(),
            ..WorkerCommand::default()
        };
        let (mut worker, _) = command.serve();
        worker.signal(signal);
        assert_eq!(ends_within(&mut worker, Duration::from_secs(2)), Some(0));
        for state in ["Loading", "Ready", "Draining"] {
            assert_eq!(hive.next()["state"], state);
        }
    }
}

#[test]
fn a_hive_that_hangs_does_not_hold_the_end_up() {
    let hive = Hive::start(false);
    let command = WorkerCommand {
        hive_url: hive.url.clone(),
        ..WorkerCommand::default()
    };
    let (mut worker, _) = command.serve();
    worker.signal("TERM");
    assert_eq!(ends_within(&mut worker, Duration::from_secs(3)), Some(0));
}

/// A pipe that nobody writes to is a model that takes for ever to load.
#[test]
fn while_the_model_loads_it_answers_and_can_be_stopped() {
    let pipe = Scratch::new("pipe.gguf");
    let made = Command::new("mkfifo").arg(&pipe.0).status().unwrap();
    assert!(made.success());
    let command = WorkerCommand {
        model: pipe.0.clone(),
        ..WorkerCommand::default()
    };
    let mut worker = command.spawn();
    let port = worker.port();
    let health = json!({"status": "loading", "model_loaded": false, "worker_id": "w-1"});
    assert_eq!(get(port, "/v1/health"), (200, health));
    assert!(
        worker.started.elapsed() < Duration::from_secs(1),
        "{:?}",
        worker.started.elapsed()
    );
    let reason = json!({"ready": false, "reason": "loading"});
    assert_eq!(get(port, "/v1/ready"), (503, reason));
    let (status, body) = answer(infer(port, &json!({"prompt": "Hello"})));
    assert_eq!(status, 503, "{body}");
    worker.signal("TERM");
    assert_eq!(ends_within(&mut worker, Duration::from_secs(2)), Some(0));
}

#[test]
fn what_runs_is_finished_and_nothing_new_is_taken() {
    let command = WorkerCommand {
        // Longer than the streams take on a machine that does ten other things.
        more: vec!["--drain-timeout", "100"],
        ..WorkerCommand::default()
    };
    let (mut worker, port) = command.serve();
    let streams = long_streams(port);
    worker.signal("TERM");
    worker.until_logged("draining");
    let reason = json!({"ready": false, "reason": "draining"});
    assert_eq!(get(port, "/v1/ready"), (503, reason));
    assert_eq!(get(port, "/v1/health").1["status"], "draining");
    assert_eq!(answer(infer(port, &json!({"prompt": "Hello"}))).0, 503);
    for mut stream in streams {
        let rest = rest_of(&mut stream);
        assert_eq!(rest.matches("event: end").count(), 1, "{rest}");
    }
    assert_eq!(ends_within(&mut worker, Duration::from_secs(2)), Some(0));
}

#[test]
fn what_takes_too_long_is_cut_off_and_told_so() {
    let command = WorkerCommand {
        more: vec!["--drain-timeout", "0.05"],
        ..WorkerCommand::default()
    };
    let (mut worker, port) = command.serve();
    let streams = long_streams(port);
    worker.signal("TERM");
    let mut cut_off = 0;
    for mut stream in streams {
        let rest = rest_of(&mut stream);
        let last = rest.matches("event: end").count() + rest.matches("event: error").count();
        assert_eq!(last, 1, "{rest}");
        cut_off += rest.matches("\"code\":\"interrupted\"").count();
    }
    assert!(cut_off > 0);
    assert_eq!(ends_within(&mut worker, Duration::from_secs(3)), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut worker, port) = WorkerCommand::default().serve();
    let _streams = long_streams(port);
    worker.signal("TERM");
    worker.until_logged("draining");
    worker.signal("INT");
    assert_eq!(ends_within(&mut worker, Duration::from_secs(1)), Some(130));
}

fn rest_of(stream: &mut impl Read) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn a_closed_standard_error_does_not_end_it() {
    let script = "exec \"$0\" \"$@\" 2>&-";
    let port = free_port();
    let mut worker = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_llm-worker-rbee")])
        .args([
            "--worker-id",
            "w-1",
            "--model-ref",
            "r",
            "--backend",
            "cpu",
            "--device",
            "0",
        ])
        .args([
            "--hive-url",
            "http://127.0.0.1:9",
            "--port",
            &port.to_string(),
            "--model",
        ])
        .arg(crate::running::tiny_model())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + crate::running::DEADLINE;
    let ready = loop {
        let connected = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        if connected && get(port, "/v1/ready").0 == 200 {
            break true;
        }
        if Instant::now() > deadline || worker.try_wait().unwrap().is_some() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let _ = worker.kill();
    let _ = worker.wait();
    assert!(ready);
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
