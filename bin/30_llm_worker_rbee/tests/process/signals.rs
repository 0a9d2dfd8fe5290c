//! How a worker ends when it is asked to.

use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

#[cfg(target_os = "linux")]
use crate::lease::Lease;
use crate::running::{
    DEADLINE, Hive, WorkerCommand, WorkerProcess, in_some_attempt, long_streams, on_a_busy_machine,
    tiny_model, try_answer, try_get, try_infer,
};
#[cfg(target_os = "linux")]
use crate::running::{answer, get, infer};

fn ends_within(worker: &mut WorkerProcess, promised: Duration) -> Option<i32> {
    let asked = Instant::now();
    let status = worker.wait();
    let took = asked.elapsed();
    let limit = on_a_busy_machine(promised);
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

#[cfg(target_os = "linux")]
#[test]
fn while_the_model_loads_it_answers_and_can_be_stopped() {
    let lease = Lease::hold();
    let command = WorkerCommand {
        model: lease.model(),
        ..WorkerCommand::default()
    };
    let mut worker = command.spawn();
    let port = worker.port();
    let health = json!({"status": "loading", "model_loaded": false, "worker_id": "w-1"});
    assert_eq!(get(port, "/v1/health"), (200, health));
    let took = worker.started.elapsed();
    assert!(took < on_a_busy_machine(Duration::from_secs(1)), "{took:?}");
    let reason = json!({"ready": false, "reason": "loading"});
    assert_eq!(get(port, "/v1/ready"), (503, reason));
    let (status, body) = answer(infer(port, &json!({"prompt": "Hello"})));
    assert_eq!(status, 503, "{body}");
    worker.signal("TERM");
    assert_eq!(ends_within(&mut worker, Duration::from_secs(2)), Some(0));
    lease.give_back();
}

#[test]
fn what_runs_is_finished_and_nothing_new_is_taken() {
    in_some_attempt(finish_what_runs);
}

/// `None` where the streams were over before everything was asked.
fn finish_what_runs() -> Option<()> {
    let command = WorkerCommand {
        // Longer than the streams take on a machine that does ten other things.
        more: vec!["--drain-timeout", "100"],
        ..WorkerCommand::default()
    };
    let (mut worker, port) = command.serve();
    let streams = long_streams(port);
    worker.signal("TERM");
    worker.until_logged("draining");
    let ready = try_get(port, "/v1/ready");
    let health = try_get(port, "/v1/health");
    let refusal = try_infer(port, &json!({"prompt": "Hello"})).and_then(try_answer);
    for mut stream in streams {
        let rest = rest_of(&mut stream);
        assert_eq!(rest.matches("event: end").count(), 1, "{rest}");
    }
    assert_eq!(ends_within(&mut worker, Duration::from_secs(2)), Some(0));
    let reason = json!({"ready": false, "reason": "draining"});
    assert_eq!(ready?, (503, reason));
    assert_eq!(health?.1["status"], "draining");
    assert_eq!(refusal?.0, 503);
    Some(())
}

#[test]
fn what_takes_too_long_is_cut_off_and_told_so() {
    in_some_attempt(cut_off_what_takes_too_long);
}

/// `None` where the streams were over before the worker was asked to stop.
fn cut_off_what_takes_too_long() -> Option<()> {
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
    assert_eq!(ends_within(&mut worker, Duration::from_secs(3)), Some(0));
    (cut_off > 0).then_some(())
}

#[test]
fn a_second_signal_ends_it_at_once() {
    in_some_attempt(signal_twice);
}

/// `None` where the streams were over, and with them the worker, before the second signal.
fn signal_twice() -> Option<()> {
    let (mut worker, port) = WorkerCommand::default().serve();
    let _streams = long_streams(port);
    worker.signal("TERM");
    worker.until_logged("draining");
    worker.signal("INT");
    match ends_within(&mut worker, Duration::from_secs(1)) {
        Some(0) => None,
        code => {
            assert_eq!(code, Some(130));
            Some(())
        }
    }
}

fn rest_of(stream: &mut impl Read) -> String {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn a_log_that_nobody_takes_and_a_full_disk_do_not_end_it() {
    let is_linux = cfg!(target_os = "linux");
    let redirects = ["2>&-"]
        .into_iter()
        .chain(is_linux.then_some("2>/dev/full"));
    for redirect in redirects {
        let port = free_port();
        let script = format!("exec \"$0\" \"$@\" {redirect}");
        let mut worker = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_llm-worker-rbee")])
            .args(["--worker-id", "w-1", "--model-ref", "r"])
            .args(["--backend", "cpu", "--device", "0"])
            .args(["--hive-url", "http://127.0.0.1:9", "--port"])
            .args([&port.to_string(), "--model"])
            .arg(tiny_model())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + DEADLINE;
        let ready = loop {
            if try_get(port, "/v1/ready").is_some_and(|(status, _)| status == 200) {
                break true;
            }
            if Instant::now() > deadline || worker.try_wait().unwrap().is_some() {
                break false;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let answer = try_infer(port, &json!({"prompt": "Hello", "max_tokens": 1}));
        let answer = answer.and_then(try_answer).map(|(status, _)| status);
        let pid = worker.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let status = worker.wait().unwrap();
        assert!(ready, "{redirect}");
        assert_eq!(answer, Some(200), "{redirect}");
        assert_eq!(status.code(), Some(0), "{redirect}");
    }
}

/// A port that nobody gets by asking for any: those that systems hand out lie above.
fn free_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000).find(is_free).expect("a free port")
}
