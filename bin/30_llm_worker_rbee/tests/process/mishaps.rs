//! What befalls a worker from outside at each stage of its life, and what comes of what it was doing.
//! The table is in `docs/mishaps.md`.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lease::Lease;
use crate::running::{
    DEADLINE, WorkerCommand, WorkerProcess, get, infer, long_streams, on_a_busy_machine,
    try_answer, try_get, try_infer,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Loading,
    Idle,
    Prefill,
    Decode,
    Draining,
}

const STAGES: [Stage; 5] = [
    Stage::Loading,
    Stage::Idle,
    Stage::Prefill,
    Stage::Decode,
    Stage::Draining,
];

/// For how long something is out of order.
const SPELL: Duration = Duration::from_millis(500);

/// What was asked of a worker has to end within this, with a stated error, when it can't go on.
const ENDS: Duration = Duration::from_secs(2);

/// A worker at a stage, with what it is doing.
struct Patient {
    worker: WorkerProcess,
    port: u16,
    streams: Vec<TcpStream>,
    /// Keeps it from loading.
    lease: Option<Lease>,
}

impl Patient {
    fn at(stage: Stage) -> Self {
        let command = WorkerCommand {
            // Longer than the streams take on a machine that does ten other things.
            more: vec!["--drain-timeout", "100"],
            ..WorkerCommand::default()
        };
        if stage == Stage::Loading {
            return Self::loading(command);
        }
        let (mut worker, port) = command.serve();
        let streams = match stage {
            Stage::Loading | Stage::Idle => Vec::new(),
            Stage::Prefill => (0..8).map(|number| ask_long(port, number)).collect(),
            Stage::Decode | Stage::Draining => long_streams(port),
        };
        if stage == Stage::Draining {
            worker.signal("TERM");
            worker.until_logged("draining");
        }
        Self {
            worker,
            port,
            streams,
            lease: None,
        }
    }

    fn loading(command: WorkerCommand) -> Self {
        let mut lease = Lease::hold();
        let mut worker = WorkerCommand {
            model: lease.model(),
            ..command
        }
        .spawn();
        let port = worker.port();
        lease.until_wanted();
        Self {
            worker,
            port,
            streams: Vec::new(),
            lease: Some(lease),
        }
    }

    /// Lets it load, where it was kept from it.
    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
            self.worker
                .until_logged("Worker ready, starting HTTP server");
        }
    }

    /// How all that it was doing ended: the last word of each stream.
    fn last_words(&mut self) -> Vec<String> {
        let streams = std::mem::take(&mut self.streams);
        let rest = |mut stream: TcpStream| {
            let mut rest = Vec::new();
            // A connection that is reset has said what it had to say.
            let _ = stream.read_to_end(&mut rest);
            let rest = String::from_utf8_lossy(&rest).into_owned();
            let last = rest.rfind("event: ").map(|at| &rest[at + 7..]);
            let last = last.and_then(|last| last.lines().next());
            last.unwrap_or("nothing").to_owned()
        };
        streams.into_iter().map(rest).collect()
    }

    /// What was going on is finished, and it serves as before, or ends as it was asked to.
    fn goes_on(mut self, stage: Stage) {
        self.release();
        let words = self.last_words();
        assert!(
            words.iter().all(|word| word == "end"),
            "{stage:?}: {words:?}"
        );
        if stage == Stage::Draining {
            assert_eq!(self.worker.wait().code(), Some(0));
            return;
        }
        assert_eq!(get(self.port, "/v1/health").1["status"], "healthy");
        let answer = try_answer(infer(
            self.port,
            &json!({"prompt": "Hello", "max_tokens": 1}),
        ));
        assert_eq!(answer.map(|(status, _)| status), Some(200), "{stage:?}");
    }

    fn limit(&self, limit: &str) {
        let pid = self.worker.pid().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &pid, limit])
            .status();
        assert!(status.unwrap().success(), "{limit}");
    }
}

/// A stream whose prompt takes a while to read.
fn ask_long(port: u16, number: usize) -> TcpStream {
    let prompt = format!(
        "{number} {}",
        "Once upon a time there was a cup. ".repeat(120)
    );
    infer(
        port,
        &json!({"prompt": prompt, "max_tokens": 4, "stream": true}),
    )
}

#[test]
fn one_that_stood_still_goes_on_where_it_was() {
    for stage in STAGES {
        let patient = Patient::at(stage);
        patient.worker.signal("STOP");
        std::thread::sleep(SPELL);
        patient.worker.signal("CONT");
        patient.goes_on(stage);
    }
}

#[test]
fn one_without_descriptors_finishes_what_it_has_and_answers_again_when_it_has_some() {
    for stage in STAGES {
        let patient = Patient::at(stage);
        patient.limit("--nofile=0:");
        // Nobody can be answered now, and nobody is sent away.
        let waiting = TcpStream::connect(("127.0.0.1", patient.port));
        std::thread::sleep(SPELL);
        patient.limit("--nofile=1024:");
        drop(waiting);
        patient.goes_on(stage);
    }
}

/// It may do without more memory, or end: but not hang, and not say that it is well when it isn't.
#[test]
fn one_without_memory_serves_or_ends() {
    for stage in STAGES {
        let mut patient = Patient::at(stage);
        let statm = format!("/proc/{}/statm", patient.worker.pid());
        let statm = std::fs::read_to_string(statm).unwrap();
        let pages: Vec<u64> = statm
            .split(' ')
            .map(|it| it.trim().parse().unwrap())
            .collect();
        patient.limit(&format!("--as={}:", pages[0] * 4096));
        patient.limit(&format!("--data={}:", pages[5] * 4096));
        if let Some(lease) = patient.lease.take() {
            lease.give_back();
        }
        let began = Instant::now();
        let is_over = loop {
            if patient.worker.ended().is_some() {
                break true;
            }
            let request = json!({"prompt": "Hello", "max_tokens": 1});
            let answer = try_infer(patient.port, &request).and_then(try_answer);
            match (stage, answer) {
                (Stage::Draining, _) => {}
                (_, Some((200, _))) => break false,
                _ => {}
            }
            assert!(
                began.elapsed() < DEADLINE,
                "{stage:?}: {:#?}",
                patient.worker.log
            );
        };
        let words = patient.last_words();
        let is_stated = |word: &String| ["end", "error"].contains(&word.as_str());
        assert!(
            is_over || words.iter().all(is_stated),
            "{stage:?}: {words:?}"
        );
        if is_over && stage != Stage::Draining {
            let status = patient.worker.wait();
            assert_ne!(
                status.code(),
                Some(0),
                "{stage:?}: {:#?}",
                patient.worker.log
            );
        }
    }
}

#[test]
fn one_that_is_killed_leaves_nobody_waiting() {
    for signal in ["KILL", "ILL"] {
        for stage in STAGES {
            let mut patient = Patient::at(stage);
            patient.worker.signal(signal);
            let killed = Instant::now();
            let words = patient.last_words();
            let took = killed.elapsed();
            assert!(took < on_a_busy_machine(ENDS), "{stage:?}: {took:?}");
            assert!(words.iter().all(|word| word != "error"), "{words:?}");
            assert_eq!(patient.worker.wait().code(), None);
            assert_eq!(try_get(patient.port, "/v1/health"), None);
        }
    }
}
