//! What befalls a worker, at each stage of its life: the run ends with the right verdict, names what was
//! seen, and leaves nobody behind. The table is in `docs/mishaps.md`.

#![cfg(unix)]

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

const FAULTY_WORKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faulty_worker.py");

const STAGES: [&str; 5] = ["loading", "idle", "prefill", "decode", "draining"];

/// What befalls the worker, and what the run has to name: how the process ended, or that it answers no
/// more.
const MISHAPS: [(&str, &str); 6] = [
    ("SIGTERM", ""),
    ("SIGKILL", "killed by SIGKILL"),
    ("SIGILL", "killed by SIGILL"),
    ("SIGSTOP", ""),
    ("panic", "exit status 101"),
    ("memory", "killed by SIGABRT"),
];

/// How many runs there are beside each other.
const RUNS_AT_ONCE: usize = 6;

/// How the run ended, what failed with what was seen, and what could not be judged.
struct Seen {
    code: Option<i32>,
    failed: Vec<String>,
    troubles: Vec<String>,
    survivors: usize,
}

fn run(mishap: &str) -> Seen {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mishaps-{mishap}"));
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["worker:test", "--model", "tiny", "--format", "json"])
        .args(["--port", "0", "--hive-port", "0", "--timeout", "5"])
        .args(["--worker-bin", FAULTY_WORKER, "--check", "start.ready"])
        .args([
            "--check",
            "health.*",
            "--check",
            "inference.*",
            "--check",
            "streaming.*",
        ])
        .args([
            "--check",
            "lifecycle.*",
            "--check",
            "shutdown.*",
            "--worker-env",
        ])
        .arg(format!("FAULTY_MISHAP={mishap}"))
        .arg("--artifacts")
        .arg(&folder)
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let events: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let of = |name: &'static str| events.iter().filter(move |event| event["event"] == name);
    let failed = of("check_finished").filter(|check| check["outcome"] == "failed");
    let survivors = of("cleanup_finished").next().expect("a clean-up")["survivors"].clone();
    std::fs::remove_dir_all(&folder).unwrap();
    Seen {
        code: output.status.code(),
        failed: failed
            .map(|check| format!("{}: {}", check["id"], check["got"]))
            .collect(),
        troubles: of("troubled")
            .map(|trouble| trouble["message"].to_string())
            .collect(),
        survivors: survivors.as_array().map_or(1, Vec::len),
    }
}

#[test]
fn whatever_befalls_a_worker_at_whatever_stage_is_the_workers_and_leaves_nobody() {
    let cases = MISHAPS
        .iter()
        .flat_map(|mishap| STAGES.map(|stage| (mishap, stage)));
    let cases: Mutex<Vec<_>> = Mutex::new(cases.collect());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..RUNS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(((what, named), stage)) = cases.lock().unwrap().pop() else {
                        return;
                    };
                    let seen = run(&format!("{what}@{stage}"));
                    let names = |told: &[String]| told.iter().any(|line| line.contains(named));
                    // Before a worker was ready, it shows that the machine can't run it.
                    let judged = match (*what, stage) {
                        ("SIGILL", "loading") => seen.code == Some(3) && names(&seen.troubles),
                        _ => {
                            seen.code == Some(1) && names(&seen.failed) && seen.troubles.is_empty()
                        }
                    };
                    let right = judged && seen.survivors == 0;
                    if !right {
                        let Seen {
                            code,
                            failed,
                            troubles,
                            ..
                        } = seen;
                        let told = format!("{what}@{stage}: {code:?} {failed:?} {troubles:?}");
                        wrong.lock().unwrap().push(told);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
