//! What a run leaves to read when it didn't end by itself: everything that was seen until then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::run::{GONE_LIMIT, GRACE, PATIENCE, Plan, Run, Worker, events, outcome, pause};

/// Where a run puts its folder, gone afterwards.
struct Artifacts(PathBuf);

impl Artifacts {
    fn new(name: &str) -> Self {
        let name = format!("artifacts-{name}-{}", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// A run in the midst of an inference, the request for which is on the disk.
    fn busy_run(&self, worker: Plan) -> Run {
        let folder = self.0.to_str().unwrap();
        let mut run = worker.args(&["--artifacts", folder]).start();
        run.wait_until_busy();
        let began = Instant::now();
        while !self.was_asked("inference.answers") {
            assert!(began.elapsed() < PATIENCE, "the request is not written");
            pause();
        }
        run
    }

    fn was_asked(&self, id: &str) -> bool {
        let text = fs::read_to_string(self.file("events.jsonl")).unwrap_or_default();
        text.lines()
            .any(|line| line.contains("\"event\":\"asked\"") && line.contains(id))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("latest").join(name)
    }

    fn read(&self, name: &str) -> String {
        let text = fs::read_to_string(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!text.is_empty(), "{name} is empty");
        text
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn check<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id)
}

#[test]
fn ctrl_c_leaves_every_report_with_all_that_was_seen() {
    let artifacts = Artifacts::new("ctrl-c");
    let polite = Plan::over(Worker::Stubborn).env("STUBBORN_POLITE", "1");
    let mut run = artifacts.busy_run(polite);
    run.signal("INT");
    let (code, output) = run.finish();
    assert_eq!(code, Some(130), "{output}");
    let report: Value = serde_json::from_str(&artifacts.read("report.json")).unwrap();
    assert_eq!(report["exit_code"], 130);
    assert_eq!(
        check(&report, "health.answers").unwrap()["outcome"],
        "passed"
    );
    for name in ["summary.md", "junit.xml", "report.html"] {
        let text = artifacts.read(name);
        for id in ["health.answers", "inference.answers"] {
            assert!(text.contains(id), "{id} is not in {name}:\n{text}");
        }
    }
    let events = events(&artifacts.read("events.jsonl"));
    assert_eq!(events.last().unwrap()["event"], "run_finished");
    assert!(artifacts.read("worker.log").contains("[INFO]"));
    assert!(artifacts.read("repro.sh").contains("/v1/inference"));
    artifacts.read("hive.log");
}

/// Nothing of ours runs after a SIGKILL: what is there was written as the run went.
#[test]
fn a_kill_leaves_all_that_was_seen_and_it_can_be_rendered() {
    let artifacts = Artifacts::new("kill");
    let mut run = artifacts.busy_run(Plan::over(Worker::Stubborn));
    run.kill_both();
    run.wait();
    run.assert_gone_within(GRACE + GONE_LIMIT);
    let seen = events(&artifacts.read("events.jsonl"));
    assert_eq!(outcome(&seen, "health.answers")["outcome"], "passed");
    assert!(artifacts.read("worker.log").contains("[INFO]"));
    assert!(artifacts.read("repro.sh").contains("--worker-id"));
    let html = format!("html={}", artifacts.file("again.html").display());
    let json = format!("json={}", artifacts.file("again.json").display());
    let rendered = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("worker:report")
        .arg(artifacts.file("events.jsonl"))
        .args(["--report", &html, "--report", &json])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&rendered.stderr);
    assert!(rendered.status.success(), "{said}");
    let report: Value = serde_json::from_str(&artifacts.read("again.json")).unwrap();
    assert_eq!(
        check(&report, "health.answers").unwrap()["outcome"],
        "passed"
    );
    assert_eq!(
        check(&report, "inference.answers").unwrap()["outcome"],
        "not_run"
    );
    assert_ne!(report["exit_code"], 0);
    let why = report["troubles"][0].as_str().unwrap();
    assert!(why.contains("ends before"), "{why}");
    assert!(artifacts.read("again.html").contains("health.answers"));
}
