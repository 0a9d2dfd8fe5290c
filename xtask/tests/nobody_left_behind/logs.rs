//! Logs that flood, workers that die, and what is told of both.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::run::{PATIENCE, Plan, Worker, event, events, outcome};

/// What the log may have on disk: the limit, the end that is kept, and a note.
const LARGEST_LOG_BYTES: u64 = (64 << 20) + (3 << 20);

#[test]
fn a_flooded_log_is_capped_and_the_cut_is_told() {
    let plan = Plan::over(Worker::Stubborn)
        .env("STUBBORN_POLITE", "1")
        .env("STUBBORN_FLOOD_MB", "200");
    let mut run = plan.args(&["--format", "json", "--log-lines", "3"]).start();
    run.wait_until_busy();
    let mut peak_kb = 0;
    let mut output = String::new();
    let log = loop {
        let line = run.next_line().unwrap();
        output += &format!("{line}\n");
        let events = events(&line);
        if events[0]["event"] == "run_started" {
            break events[0]["artifacts"].as_str().unwrap().to_owned() + "/worker.log";
        }
    };
    // The flood is over when it is longer than what may be kept, and grows no more.
    let mut before = 0;
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "the flood does not end");
        peak_kb = peak_kb.max(peak_memory_kb(run.behind().pid));
        let now = fs::metadata(&log).unwrap().len();
        if now == before && now >= 64 << 20 {
            break;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(300));
    }
    run.signal("TERM");
    let (code, rest) = run.finish();
    assert_eq!(code, Some(143), "{rest}");
    run.assert_gone();
    if cfg!(target_os = "linux") {
        assert!((1..100_000).contains(&peak_kb), "{peak_kb} kB");
    }
    let size = fs::metadata(&log).unwrap().len();
    assert!(size <= LARGEST_LOG_BYTES, "{size}");
    let bytes = fs::read(&log).unwrap();
    let text = String::from_utf8_lossy(&bytes[64 << 20..]);
    assert!(text.contains("bytes of the log were cut here"), "no note");
    fs::remove_dir_all(Path::new(&log).parent().unwrap()).unwrap();
}

#[test]
fn a_worker_that_dies_ends_the_step_with_its_signal_and_its_last_words() {
    let plan = Plan::over(Worker::Stubborn)
        .env("STUBBORN_POLITE", "1")
        .env("STUBBORN_FLOOD_MB", "0")
        .env("STUBBORN_INFERENCE", "die");
    let mut run = plan.args(&["--format", "json"]).start();
    let (code, output) = run.finish();
    run.assert_gone();
    assert_eq!(code, Some(1), "{output}");
    let events = events(&output);
    let inference = outcome(&events, "inference.answers");
    assert_eq!(inference["outcome"], "failed");
    let got = inference["got"].as_str().unwrap();
    assert!(got.starts_with("killed by SIGSEGV after "), "{got}");
    // At once, and not when the deadline of the request has passed, which is two minutes.
    assert!(
        inference["duration_ms"].as_u64().unwrap() < 60_000,
        "{inference}"
    );
    let exited = event(&events, "worker_exited");
    assert_eq!(exited["status"].as_str().unwrap()[..17], got[..17]);
    let tail = event(&events, "log_tail")["lines"].as_array().unwrap();
    let last_words = tail
        .iter()
        .any(|line| line == "[ERROR] These are my last words");
    assert!(last_words, "{tail:?}");
    assert_eq!(outcome(&events, "streaming.answers")["outcome"], "skipped");
}

/// The most memory that the process has had, while it lives and where the system tells.
fn peak_memory_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| {
        line.trim().trim_end_matches(" kB").parse().unwrap()
    })
}
