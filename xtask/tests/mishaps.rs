//! What befalls a worker, its hive or the run itself, at each stage of the worker's life: the run ends
//! with the right verdict, names what was seen, and leaves nobody behind. The table is in
//! `docs/mishaps.md`.

#![cfg(target_os = "linux")]

#[path = "support/xtask.rs"]
mod xtask;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::{FAULTY_WORKER, worker_test};

const STAGES: [&str; 5] = ["loading", "idle", "prefill", "decode", "draining"];

/// How many runs there are beside each other: they wait more than they compute.
const RUNS_AT_ONCE: usize = 8;

/// How soon after the end of a run nobody of it is left.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// What a run has to make of a mishap.
#[derive(Debug, Clone, Copy)]
enum Right {
    /// The worker broke a promise, and a check names this.
    Blames(&'static str),
    /// Nobody could judge, and a trouble names this.
    Troubled(&'static str),
    /// It ends with one of these, and blames nobody.
    EndsWith(&'static [i32]),
    /// It ends as it would have, and says this beside it.
    Warns(&'static str),
    /// It says this, whether it could go on without or not.
    Lacks(&'static str),
}

use Right::{Blames, EndsWith, Lacks, Troubled, Warns};

/// What happens, and what a run has to make of it.
const MISHAPS: [(&str, Right); 15] = [
    ("SIGTERM", Blames("")),
    ("SIGKILL", Blames("killed by SIGKILL")),
    ("SIGILL", Blames("killed by SIGILL")),
    ("panic", Blames("exit status 101")),
    ("memory", Blames("killed by SIGABRT")),
    ("hive", Troubled("hive")),
    ("run.SIGTERM", EndsWith(&[143])),
    ("run.SIGKILL", EndsWith(&[137])),
    ("run.SIGILL", EndsWith(&[132])),
    ("run.SIGSTOP", EndsWith(&[0, 3])),
    ("run.memory", EndsWith(&[0, 3, 134])),
    ("run.disk", Warns("File too large")),
    ("run.files", Troubled("Too many open files")),
    // Those that take long are begun first, which is from the end.
    ("files", Blames("")),
    ("SIGSTOP", Blames("")),
];

/// Where it is another one.
fn right(what: &str, stage: &str, usual: Right) -> Right {
    match (what, stage) {
        // Before a worker was ready, it shows that the machine can't run it.
        ("SIGILL", "loading") => Troubled("killed by SIGILL"),
        // Who need not be connected to again can still be judged, and only the reports are missing.
        ("run.files", "idle" | "draining") => Lacks("Too many open files"),
        _ => usual,
    }
}

/// How the run ended, what failed with what was seen, what could not be judged, and who is left.
#[derive(Debug)]
struct Seen {
    code: Option<i32>,
    failed: Vec<String>,
    troubles: Vec<String>,
    left: Vec<String>,
    said: String,
}

impl Seen {
    fn is(&self, right: Right) -> bool {
        let names = |told: &[String], what| told.iter().any(|line| line.contains(what));
        let judged = match right {
            Lacks(what) => return self.is(Troubled(what)) || self.is(Warns(what)),
            Blames(what) => {
                self.code == Some(1) && names(&self.failed, what) && self.troubles.is_empty()
            }
            Troubled(what) => {
                self.code == Some(3) && names(&self.troubles, what) && self.failed.is_empty()
            }
            Warns(what) => {
                self.code == Some(0) && self.said.contains(what) && self.failed.is_empty()
            }
            EndsWith(codes) => {
                self.code.is_some_and(|code| codes.contains(&code)) && self.failed.is_empty()
            }
        };
        judged && self.left.is_empty()
    }
}

fn run(what: &str, stage: &str) -> Seen {
    let id = format!("mishap-{what}-{stage}-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&id);
    let checks =
        "start.ready health.* inference.* streaming.* heartbeat.payload lifecycle.* shutdown.*";
    let mut command = worker_test();
    command
        .args(["--model", "tiny", "--format", "json", "--timeout", "20"])
        .args(["--worker-bin", FAULTY_WORKER, "--worker-id", &id])
        .args(checks.split(' ').flat_map(|check| ["--check", check]))
        .arg("--worker-env")
        .arg(format!("FAULTY_MISHAP={what}@{stage}"))
        .arg("--artifacts")
        .arg(&folder);
    let output = command.output().unwrap();
    let began = Instant::now();
    let mut left = who_names(&id);
    while !left.is_empty() && began.elapsed() < GONE_LIMIT {
        std::thread::sleep(Duration::from_millis(20));
        left = who_names(&id);
    }
    // A run that is killed may end within a line.
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let events = shown.lines().map(serde_json::from_str);
    let events: Vec<Value> = events.filter_map(Result::ok).collect();
    let of = |name: &'static str| events.iter().filter(move |event| event["event"] == name);
    let failed = of("check_finished").filter(|check| check["outcome"] == "failed");
    let invalid = of("check_finished").filter(|check| check["outcome"] == "invalid");
    let survivors = of("cleanup_finished").flat_map(|end| end["survivors"].as_array());
    left.extend(survivors.flatten().map(Value::to_string));
    let _ = std::fs::remove_dir_all(&folder);
    Seen {
        code: output.status.code(),
        failed: failed
            .map(|check| format!("{}: {}", check["id"], check["got"]))
            .collect(),
        troubles: of("troubled")
            .map(|trouble| trouble["message"].to_string())
            .chain(invalid.map(|check| check["reason"].to_string()))
            .collect(),
        left,
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The command lines of all processes that name this run: its worker by its id, its hive by its folder.
fn who_names(id: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(id)).collect()
}

#[test]
fn whatever_happens_at_whatever_stage_the_right_one_is_blamed_and_nobody_is_left() {
    let cases = MISHAPS
        .iter()
        .flat_map(|mishap| STAGES.map(|stage| (mishap, stage)));
    let cases: Mutex<Vec<_>> = Mutex::new(cases.collect());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..RUNS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(((what, usual), stage)) = cases.lock().unwrap().pop() else {
                        return;
                    };
                    let right = right(what, stage, *usual);
                    let began = Instant::now();
                    let seen = run(what, stage);
                    let took_s = began.elapsed().as_secs_f64();
                    println!("{what}@{stage}: {took_s:.1} s, {seen:?}");
                    if !seen.is(right) {
                        let told = format!("{what}@{stage}: {right:?}, {seen:#?}");
                        wrong.lock().unwrap().push(told);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
