//! `--stress` as whole commands: good workers that pass, also when one of them is killed, and workers
//! of which the second breaks one promise, each caught by the check that guards it.
#![cfg(unix)]

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use scratch::Scratch;
use serde_json::Value;
use xtask::{FAULTY_WORKER, worker_test, xtask};

/// How many faults are tried at a time.
const AT_A_TIME: usize = 2;

/// What the second of two workers does wrong.
struct Fault {
    /// Lines of the shell that start it.
    shell: &'static str,
    options: &'static [&'static str],
    /// The check that has to catch it, and those that may fail with it.
    caught_by: &'static str,
    consequences: &'static [&'static str],
    /// What the check says.
    got: &'static str,
}

const FAULTS: &[Fault] = &[
    Fault {
        shell: "export FAULTY_LEAK_BYTES=400000",
        options: &[],
        caught_by: "stress.leaks",
        consequences: &[],
        got: "was still growing: ",
    },
    Fault {
        shell: "export FAULTY_LEAK_FILES=2",
        options: &[],
        caught_by: "stress.leaks",
        consequences: &[],
        got: "open files",
    },
    Fault {
        shell: "export WORKER_FAULT=crash.after_ten",
        options: &[],
        caught_by: "stress.alive",
        consequences: &[],
        got: "exit status",
    },
    Fault {
        shell: "export WORKER_FAULT=beat.wrong_id",
        options: &[],
        caught_by: "stress.beats",
        consequences: &[],
        got: "somebody-else",
    },
    Fault {
        shell: "export WORKER_FAULT=beat.stops_after_inference",
        options: &[],
        caught_by: "stress.beats",
        consequences: &[],
        got: "none for",
    },
    Fault {
        shell: "export WORKER_FAULT=infer.differs_beside_others",
        options: &[],
        caught_by: "stress.answers",
        consequences: &[],
        got: "went wrong",
    },
    Fault {
        shell: "export FAULTY_TOKEN_MS=25",
        options: &[],
        caught_by: "stress.fair",
        consequences: &[],
        got: "tokens/s against",
    },
    Fault {
        shell: "export WORKER_FAULT=load.health_slow",
        options: &[],
        caught_by: "stress.health",
        consequences: &[],
        got: "that took longer",
    },
    Fault {
        shell: "export WORKER_FAULT=start.never_ready",
        options: &["--timeout", "6"],
        caught_by: "stress.ready",
        consequences: &[],
        got: "not ready",
    },
    Fault {
        shell: "export WORKER_FAULT=stop.exits_nonzero",
        options: &[],
        caught_by: "stress.gone",
        consequences: &[],
        got: "exit status 1",
    },
    Fault {
        // Its second start fails.
        shell: "mkdir \"$0.started\" 2>/dev/null || export WORKER_FAULT=crash.exits_while_loading",
        options: &["--kill-one"],
        caught_by: "stress.killed",
        consequences: &["stress.gone"],
        got: "exit status",
    },
];

impl Scratch {
    /// A worker whose second instance is started after these lines of the shell.
    fn worker(&self, shell: &str) -> PathBuf {
        let script = format!(
            "#!/bin/sh\ncase \"$2\" in *-2)\n{shell}\n;; esac\nexec '{FAULTY_WORKER}' \"$@\"\n"
        );
        self.program("worker", &script)
    }
}

/// Two workers under stress, on free ports.
fn stress(folder: &Path, options: &[&str]) -> Command {
    let mut command = worker_test();
    command
        .args(["--stress", "2", "--duration", "3s", "--model", "tiny"])
        .args(["--worker-env", "WORKER_FAULT"])
        .arg("--artifacts")
        .arg(folder)
        .args(options);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// The report of the run, which has to be the only one in its folder.
fn report(folder: &Path) -> Value {
    let path = folder.join("latest").join("report.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn outcomes(report: &Value, wanted: &str) -> BTreeSet<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let wanted = checks.filter(|check| check["outcome"] == wanted);
    wanted
        .map(|check| check["id"].as_str().unwrap().to_owned())
        .collect()
}

fn assert_green(output: &Output, folder: &Path) -> Value {
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("Stress test complete - ALL TESTS PASSED!"));
    let report = report(folder);
    assert_eq!(report["run"]["purpose"], "stress");
    report
}

/// Builds the worker as a user's first run does, which is why it takes minutes the first time.
#[test]
fn the_real_worker_stands_it_and_comes_back_when_it_is_killed() {
    let scratch = Scratch::new("real");
    let output = stress(&scratch.0, &["--kill-one"]).output().unwrap();
    let report = assert_green(&output, &scratch.0);
    let passed = outcomes(&report, "passed");
    for check in [
        "ready", "alive", "answers", "health", "beats", "fair", "killed", "leaks", "gone",
    ] {
        assert!(passed.contains(&format!("stress.{check}")), "{passed:?}");
    }
    let workers = report["stress"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    let id = |at: usize| workers[at]["worker_id"].as_str().unwrap();
    assert!(
        id(0).ends_with("-1") && id(1).ends_with("-2"),
        "{workers:#?}"
    );
    for worker in workers {
        assert!(worker["requests"].as_u64().unwrap() >= 12, "{worker:#}");
        assert_eq!(worker["failures"], 0, "{worker:#}");
    }
    assert_eq!(
        (&workers[0]["killed"], &workers[1]["killed"]),
        (&Value::from(false), &Value::from(true))
    );
    let trends = workers[0]["trends"].as_array().unwrap();
    assert!(trends.len() >= 2, "{trends:#?}");
    let shown = text(&output.stdout);
    for line in [
        "is killed, as planned",
        "started again (PID: ",
        "Workers under load",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

/// They mostly wait, so that several are tried at a time.
#[test]
fn each_fault_is_caught_by_the_check_that_guards_its_promise() {
    let good = |shell, options| Fault {
        shell,
        options,
        caught_by: "",
        consequences: &[],
        got: "",
    };
    let innocents = [
        good("true", &["--kill-one"]),
        // A cache that is full soon, and one that is full late.
        good(
            "export FAULTY_LEAK_BYTES=2000000 FAULTY_CACHE_BYTES=60000000",
            &[],
        ),
        good(
            "export FAULTY_LEAK_BYTES=400000 FAULTY_CACHE_BYTES=30000000",
            &[],
        ),
    ];
    let faults: Vec<_> = FAULTS.iter().chain(&innocents).collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    if let Err(miss) = try_fault(fault) {
                        let miss = format!("{}: {miss}", fault.shell);
                        missed.lock().unwrap().push(miss);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

fn try_fault(fault: &Fault) -> Result<(), String> {
    let scratch = Scratch::new("fault");
    let worker = scratch.worker(fault.shell);
    let runs = scratch.0.join("runs");
    // How soon a worker of Python answers on a busy machine is none of this test's matter.
    let mut command = stress(&runs, &["--skip", "start.*"]);
    command.args(fault.options);
    let output = command.arg("--worker-bin").arg(worker).output().unwrap();
    let report = report(&runs);
    let shown = || text(&output.stdout);
    let failed = outcomes(&report, "failed");
    let is_expected =
        |id: &&String| **id == fault.caught_by || fault.consequences.contains(&id.as_str());
    if let Some(blamed) = failed.iter().find(|id| !is_expected(id)) {
        return Err(format!("{blamed} is blamed, too\n{}", shown()));
    }
    let expected = i32::from(!fault.caught_by.is_empty());
    if output.status.code() != Some(expected) {
        return Err(format!("exit {:?}\n{}", output.status, shown()));
    }
    let checks = report["checks"].as_array().unwrap();
    let caught = checks.iter().find(|check| check["id"] == fault.caught_by);
    let got = caught.map_or("", |check| check["got"].as_str().unwrap_or("nothing"));
    if !got.contains(fault.got) {
        return Err(format!("says `{got}`"));
    }
    Ok(())
}

#[test]
fn options_that_do_not_fit_are_refused_by_name() {
    for (options, name) in [
        (&["--stress", "0"][..], "--stress 0"),
        (&["--stress", "1", "--kill-one"], "--stress 2"),
        (&["--streams", "2"], "--stress"),
        (&["--stress", "--benchmark"], "--benchmark"),
        (&["--soak", "1h", "--duration", "3s"], "--soak"),
        (&["--duration", "3s"], "--stress"),
        (&["--stress", "--check", "health.*"], "--check"),
    ] {
        let output = xtask().arg("worker:test").args(options).output().unwrap();
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {shown}");
        assert!(shown.contains(name), "{options:?}: {shown}");
    }
}
