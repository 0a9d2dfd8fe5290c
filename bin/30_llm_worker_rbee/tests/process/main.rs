//! The worker as a process: how it starts, what it refuses to start with, and how it ends.

#[cfg(target_os = "linux")]
mod lease;
#[cfg(target_os = "linux")]
mod mishaps;
mod openai;
mod packages;
mod running;
#[cfg(unix)]
mod signals;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use running::{
    Hive, WorkerCommand, answer, get, in_some_attempt, infer, on_a_busy_machine, send, tiny_model,
};
use serde_json::{Value, json};

/// Ends as the contract says: soon, not with 0, and with one line that names the cause.
fn refuses_to_start(command: WorkerCommand, exit_code: i32, named: &str) {
    let mut worker = command.spawn();
    let status = worker.wait();
    let took = worker.started.elapsed();
    let limit = on_a_busy_machine(Duration::from_secs(2));
    assert!(took < limit, "{named}: {took:?}");
    assert_eq!(status.code(), Some(exit_code), "{named}: {:#?}", worker.log);
    let errors: Vec<&String> = worker
        .log
        .iter()
        .filter(|line| !line.starts_with('['))
        .collect();
    let [error] = errors[..] else {
        panic!("{named}: not one line: {:#?}", worker.log)
    };
    assert!(error.starts_with("error: "), "{error}");
    assert!(error.matches(": ").count() >= 2, "what and cause: {error}");
    assert!(error.contains(named), "{named} is not in {error}");
}

/// A file for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("llm-worker-rbee-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn models_that_are_none_are_refused() {
    let model = std::fs::read(tiny_model()).unwrap();
    // As some systems send a folder.
    let zip = b"PK\x03\x04\x14\0\0\0\0\0model/tiny.gguf";
    let contents: [(&str, &[u8]); 5] = [
        ("folder.zip", zip),
        ("empty.gguf", b""),
        ("text.gguf", b"This is not a model, but a text about one.\n"),
        ("header.gguf", &model[..100]),
        ("truncated.gguf", &model[..model.len() / 2]),
    ];
    for (name, content) in contents {
        let file = Scratch::new(name);
        std::fs::write(&file.0, content).unwrap();
        let command = WorkerCommand {
            model: file.0.clone(),
            ..WorkerCommand::default()
        };
        refuses_to_start(command, 1, name);
    }
    for path in ["no/such/model.gguf", env!("CARGO_MANIFEST_DIR")] {
        let command = WorkerCommand {
            model: PathBuf::from(path),
            ..WorkerCommand::default()
        };
        refuses_to_start(command, 1, path);
    }
}

#[test]
fn a_taken_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let command = WorkerCommand {
        port,
        ..WorkerCommand::default()
    };
    refuses_to_start(command, 1, &port.to_string());
}

#[test]
fn backends_and_devices_that_are_not_there_are_refused() {
    let device = WorkerCommand {
        device: "7",
        ..WorkerCommand::default()
    };
    refuses_to_start(device, 1, "7");
    let unknown = WorkerCommand {
        backend: "tpu",
        ..WorkerCommand::default()
    };
    refuses_to_start(unknown, 2, "tpu");
    #[cfg(not(feature = "cuda"))]
    refuses_to_start(
        WorkerCommand {
            backend: "cuda",
            ..WorkerCommand::default()
        },
        1,
        "--features cuda",
    );
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let bad_url = WorkerCommand {
        hive_url: "hive".to_owned(),
        ..WorkerCommand::default()
    };
    refuses_to_start(bad_url, 2, "hive");
    for (more, named) in [
        (["--host", "0.0.0.0"], "WORKER_API_TOKEN"),
        (["--max-queue", "none"], "none"),
        (["--callback-url", "http://x"], "--callback-url"),
    ] {
        let command = WorkerCommand {
            more: more.to_vec(),
            ..WorkerCommand::default()
        };
        refuses_to_start(command, 2, named);
    }
    let context = WorkerCommand {
        more: vec!["--ctx-size", "99999999"],
        ..WorkerCommand::default()
    };
    refuses_to_start(context, 1, "99999999");
}

#[test]
fn a_whole_life_as_the_hive_sees_it() {
    let hive = Hive::start(true);
    let command = WorkerCommand {
        hive_url: hive.url.clone(),
        ..WorkerCommand::default()
    };
    let (mut worker, port) = command.serve();
    assert_eq!(get(port, "/v1/ready"), (200, json!({"ready": true})));
    let health = json!({"status": "healthy", "model_loaded": true, "worker_id": "w-1"});
    assert_eq!(get(port, "/v1/health"), (200, health));
    for state in ["Loading", "Ready"] {
        assert_eq!(hive.next()["state"], state);
    }
    let question = json!({"prompt": "The capital of France is", "temperature": 0});
    let (status, text) = answer(infer(port, &question));
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("Paris"), "{text}");
    assert_eq!(hive.next()["state"], "Busy");
    let mut beat = hive.next();
    assert!(beat["timestamp"].take().is_string());
    assert_eq!(
        beat,
        json!({"worker_id": "w-1", "state": "Ready", "timestamp": null, "sequence": 4,
               "interval_s": 30, "model_ref": "embedded:tiny", "backend": "cpu", "device": 0,
               "port": port})
    );
    worker
        .log
        .retain(|line| !line.contains("Listening") && !line.contains("Model tiny"));
    let mut log = std::mem::take(&mut worker.log);
    log.sort();
    assert_eq!(
        log,
        [
            "[INFO] Heartbeat task started (30s interval)",
            "[INFO] Model loaded successfully",
            "[INFO] Starting heartbeat task",
            "[INFO] Worker ready, starting HTTP server",
        ]
    );
}

#[test]
fn in_pieces_and_in_one_the_text_is_the_same() {
    let (_worker, port) = WorkerCommand::default().serve();
    let mut body = json!({"prompt": "Hello, how are you?", "max_tokens": 30, "seed": 7});
    let (_, whole) = answer(infer(port, &body));
    let whole: Value = serde_json::from_str(&whole).unwrap();
    body["stream"] = json!(true);
    let (_, stream) = answer(infer(port, &body));
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let mut events: Vec<Value> = data
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let end = events.pop().unwrap();
    let pieces = events.iter().map(|token| token["text"].as_str().unwrap());
    assert_eq!(pieces.collect::<String>(), whole["text"].as_str().unwrap());
    assert!(
        events
            .iter()
            .enumerate()
            .all(|(n, token)| token["index"] == n)
    );
    assert_eq!(end["tokens"], events.len());
    for field in ["tokens", "finish_reason", "usage"] {
        assert_eq!(end[field], whole[field]);
    }
}

#[test]
fn a_hive_that_hangs_is_no_hindrance() {
    in_some_attempt(beat_to_a_hive_that_hangs);
}

/// `None` where the machine was too busy for a beat in time. A worker that waits for the hive is late
/// by seconds, always.
fn beat_to_a_hive_that_hangs() -> Option<()> {
    let hive = Hive::start(false);
    let command = WorkerCommand {
        hive_url: hive.url.clone(),
        more: vec!["--heartbeat-interval", "0.2"],
        ..WorkerCommand::default()
    };
    let (_worker, port) = command.serve();
    let sequences: Vec<u64> = (0..6)
        .map(|_| hive.next()["sequence"].as_u64().unwrap())
        .collect();
    let (status, _) = answer(infer(port, &json!({"prompt": "Hello", "max_tokens": 3})));
    assert_eq!(status, 200);
    assert!(sequences.is_sorted(), "{sequences:?}");
    (sequences == [1, 2, 3, 4, 5, 6]).then_some(())
}

#[test]
fn with_a_token_only_its_bearers_are_answered_and_no_log_shows_it() {
    let command = WorkerCommand {
        token: Some("s3cret-t0ken"),
        more: vec!["--host", "0.0.0.0"],
        ..WorkerCommand::default()
    };
    let (worker, port) = command.serve();
    assert_eq!(get(port, "/v1/health").0, 401);
    let request = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Authorization: Bearer s3cret-t0ken\r\n\r\n";
    assert_eq!(answer(send(port, request)).0, 200);
    assert!(!worker.log.join("\n").contains("s3cret"));
}

/// More clients than a process may have descriptors, all of them idle: others are answered, and the
/// hive hears that the worker lives.
#[cfg(target_os = "linux")]
#[test]
fn idle_connections_take_neither_health_nor_heartbeats() {
    use std::net::TcpStream;

    let hive = Hive::start(true);
    let command = WorkerCommand {
        hive_url: hive.url.clone(),
        more: vec!["--heartbeat-interval", "0.2"],
        descriptors: Some(64),
        ..WorkerCommand::default()
    };
    let (mut worker, port) = command.serve();
    let crowd: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    assert_eq!(get(port, "/v1/health").0, 200);
    let beats = hive.beats.try_iter().count();
    for _ in 0..3 {
        let sequence = hive.next()["sequence"].as_u64().unwrap();
        assert!(sequence > beats as u64);
    }
    let (status, text) = answer(infer(port, &json!({"prompt": "Hello", "max_tokens": 3})));
    assert_eq!(status, 200, "{text}");
    worker.signal("TERM");
    assert!(worker.wait().success());
    let warnings = worker.log.iter().filter(|line| line.contains("[WARN]"));
    let warnings: Vec<_> = warnings.collect();
    assert!(!warnings.is_empty() && warnings.len() < 4, "{warnings:#?}");
    drop(crowd);
}

/// Clients try `::1` or 127.0.0.1 first, each as it likes.
#[test]
fn localhost_is_both_of_its_addresses() {
    let command = WorkerCommand {
        more: vec!["--host", "localhost"],
        ..WorkerCommand::default()
    };
    let (worker, port) = command.serve();
    assert_eq!(get(port, "/v1/health").0, 200);
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let log = worker.log.join("\n");
    assert_eq!(log.contains(&format!("[::1]:{port}")), has_ipv6, "{log}");
    if has_ipv6 {
        let mut stream = std::net::TcpStream::connect(("::1", port)).unwrap();
        let request = "GET /v1/health HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        assert_eq!(answer(stream).0, 200);
    }
}

/// Another worker may begin where one has just ended, whose connections the system still remembers.
#[test]
fn a_port_is_free_again_as_soon_as_its_worker_has_ended() {
    let (mut worker, port) = WorkerCommand::default().serve();
    // Who closes first is remembered: here the worker.
    assert_eq!(get(port, "/v1/health").0, 200);
    worker.kill();
    let again = WorkerCommand {
        port,
        ..WorkerCommand::default()
    };
    let (_worker, again) = again.serve();
    assert_eq!(again, port);
    assert_eq!(get(port, "/v1/health").0, 200);
}

/// Where there is nothing else, neither the worker nor its hive may need IPv4.
#[test]
fn ipv6_alone_is_enough() {
    let Ok(hive) = TcpListener::bind("[::1]:0") else {
        return println!("this machine has no IPv6");
    };
    let hive_port = hive.local_addr().unwrap().port();
    let command = WorkerCommand {
        hive_url: format!("http://[::1]:{hive_port}"),
        more: vec!["--host", "::1"],
        ..WorkerCommand::default()
    };
    let mut worker = command.spawn();
    let line = worker.until_logged("Listening on [::1]:");
    let (_, port) = line.rsplit_once(':').unwrap();
    let port: u16 = port.trim().parse().unwrap();
    worker.until_logged("Worker ready, starting HTTP server");
    let mut beat = [0; 4096];
    let length = hive.accept().unwrap().0.read(&mut beat).unwrap();
    let beat = String::from_utf8_lossy(&beat[..length]).into_owned();
    assert!(beat.starts_with("POST /heartbeat/workers"), "{beat}");
    assert!(
        beat.to_lowercase()
            .contains(&format!("host: [::1]:{hive_port}")),
        "{beat}"
    );
    let mut stream = std::net::TcpStream::connect(("::1", port)).unwrap();
    let request = "GET /v1/health HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(answer(stream).0, 200);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn json_logs_are_json() {
    let command = WorkerCommand {
        more: vec!["--log-format", "json"],
        ..WorkerCommand::default()
    };
    let (worker, _) = command.serve();
    for line in &worker.log {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            event["message"].is_string() && event["timestamp"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn the_number_of_threads_is_the_one_asked_for() {
    for threads in ["1", "3"] {
        let command = WorkerCommand {
            more: vec!["--threads", threads],
            ..WorkerCommand::default()
        };
        let (worker, _) = command.serve();
        let named = format!("({threads} threads, ");
        assert!(
            worker.log.join("\n").contains(&named),
            "{named}: {:#?}",
            worker.log
        );
    }
}
