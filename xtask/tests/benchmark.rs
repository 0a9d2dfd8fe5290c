//! `--benchmark` and `--calibrate` as whole commands: figures over workers of known pace, comparisons, and
//! what becomes of a run whose worker fails under load.
#![cfg(unix)]

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use scratch::Scratch;
use serde_json::Value;
use xtask::{FAULTY_WORKER, worker_test, xtask};

/// Nothing in here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

impl Scratch {
    /// A worker that takes so many milliseconds for each token.
    fn worker(&self, token_ms: u32) -> PathBuf {
        let script = format!(
            "#!/bin/sh\nFAULTY_TOKEN_MS={token_ms} FAULTY_PREFILL_MS=10 FAULTY_SLOTS=4 \
             exec {FAULTY_WORKER} \"$@\"\n"
        );
        self.program(&format!("worker-{token_ms}"), &script)
    }

    fn benchmark(&self, worker: &Path, options: &[&str]) -> Command {
        let mut command = worker_test();
        command
            .args(["--benchmark", "--model", "tiny", "--max-tokens", "8"])
            .args(["--warmup", "50ms", "--worker-env", "WORKER_FAULT"])
            .arg("--worker-bin")
            .arg(worker)
            .arg("--artifacts")
            .arg(&self.0)
            .args(options)
            .args(
                if options
                    .iter()
                    .any(|option| ["--duration", "--requests"].contains(option))
                {
                    [].as_slice()
                } else {
                    ["--duration", "200ms"].as_slice()
                },
            );
        command
    }

    /// A file of prompts: with it there is no prefill to measure, and nothing to learn before.
    fn prompts(&self) -> String {
        let path = self.0.join("prompts.jsonl");
        fs::write(
            &path,
            "\"Hello there\"\n{\"prompt\": \"Once upon a time\"}\n",
        )
        .unwrap();
        path.display().to_string()
    }

    fn report(&self) -> Value {
        let path = self.0.join("latest/report.json");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }
}

fn shown(output: &Output) -> String {
    let bytes = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(bytes).expect("output is UTF-8")
}

fn run(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let shown = shown(&output);
    assert_eq!(output.status.code(), Some(code), "{shown}");
    shown
}

fn scenario<'report>(report: &'report Value, name: &str) -> &'report Value {
    let scenarios = report["scenarios"].as_array().unwrap();
    let found = scenarios
        .iter()
        .find(|scenario| scenario["plan"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

fn median(scenario: &Value, measure: &str) -> f64 {
    let measures = scenario["measures"].as_array().unwrap();
    let found = measures.iter().find(|found| found["name"] == measure);
    found.unwrap_or_else(|| panic!("no {measure} in {scenario:#}"))["p50"]
        .as_f64()
        .unwrap()
}

#[test]
fn a_worker_of_known_pace_is_measured_as_it_is() {
    let scratch = Scratch::new("pace");
    let export = scratch.0.join("bencher.json");
    let report = format!("bencher={}", export.display());
    let options = [
        "--concurrency",
        "1,2",
        "--goodput",
        "ttft:60s,tpot:10ms",
        "--report",
        &report,
    ];
    let shown = run(scratch.benchmark(&scratch.worker(20), &options), 0);
    assert!(shown.contains("🧪 Worker Benchmark"), "{shown}");
    assert!(
        shown.contains("✅ Benchmark complete - ALL TESTS PASSED!"),
        "{shown}"
    );
    let report = scratch.report();
    for load in [
        "prefill_32",
        "prefill_128",
        "prefill_512",
        "decode",
        "sweep_1",
        "sweep_2",
    ] {
        assert!(shown.contains(load), "{shown}");
        let scenario = scenario(&report, load);
        assert!(scenario["valid"].as_u64().unwrap() >= 1, "{scenario:#}");
        assert_eq!(
            (&scenario["failed"], &scenario["invalid"]),
            (&0.into(), &0.into())
        );
        // A token takes twice as long as the objective allows; prefill has one token and no pace.
        let good = match load.starts_with("prefill") {
            true => scenario["requests_per_s"].clone(),
            false => Value::from(0.0),
        };
        assert_eq!(scenario["goodput_per_s"], good, "{scenario:#}");
    }
    assert_eq!(
        scenario(&report, "prefill_128")["plan"]["prompt_tokens"],
        128
    );
    // The worker's own clock paces it: tokens are due every 20 ms after a prefill of 10 ms, so that
    // a machine that holds one up doesn't move the others. What is late makes the median late only
    // where it happens to half of the requests.
    let decode = scenario(&report, "decode");
    let (tpot, ttft) = (median(decode, "tpot"), median(decode, "ttft"));
    assert!((18.0..24.0).contains(&tpot), "{decode:#}");
    assert!((10.0..80.0).contains(&ttft), "{decode:#}");
    assert!(
        (150.0..260.0).contains(&median(decode, "e2e")),
        "{decode:#}"
    );
    // The client is measured at the rate of the load, and beside it.
    let sweep = scenario(&report, "sweep_2");
    let calibrated = &sweep["client"]["calibrated"];
    assert_eq!(calibrated["streams"], 2, "{sweep:#}");
    let gap_ms = calibrated["gap_ms"].as_f64().unwrap();
    assert!((18.0..50.1).contains(&gap_ms), "{sweep:#}");
    assert!(
        sweep["client"]["error_ms"]["n"].as_u64().unwrap() > 0,
        "{sweep:#}"
    );
    assert!(sweep["reached"].as_f64().unwrap() > 0.5, "{sweep:#}");
    assert!(shown.contains("2 x "), "{shown}");
    let calibration = &report["calibration"];
    let error_ms = calibration["error_ms"]["p50"].as_f64().unwrap();
    assert!(error_ms > 0.0 && error_ms < 20.0, "{calibration:#}");
    let metrics: Value = serde_json::from_str(&fs::read_to_string(export).unwrap()).unwrap();
    assert_eq!(metrics["decode"]["tpot-ms"]["value"], tpot);
}

#[test]
fn an_open_loop_takes_its_prompts_from_a_file() {
    let scratch = Scratch::new("open");
    let prompts = scratch.prompts();
    let options = ["--rate", "20", "--duration", "1s", "--prompts", &prompts];
    run(scratch.benchmark(&scratch.worker(2), &options), 0);
    let report = scratch.report();
    let open = scenario(&report, "open_20");
    assert_eq!(open["plan"]["prompt_tokens"], Value::Null);
    // Chance is the same in every run: about twenty a second.
    let sent = open["late_ms"]["n"].as_u64().unwrap();
    assert!((10..=40).contains(&sent), "{open:#}");
    let waited_ms = median(open, "ttft_from_intended_start") - median(open, "ttft");
    assert!((0.0..50.0).contains(&waited_ms), "{open:#}");
    fs::write(&prompts, "{}").unwrap();
    let shown = run(scratch.benchmark(&scratch.worker(2), &options), 3);
    assert!(shown.contains("line 1 is neither"), "{shown}");
}

#[test]
fn a_trace_is_replayed_and_starts_are_timed() {
    let scratch = Scratch::new("trace");
    let path = scratch.0.join("trace.jsonl");
    let line = |ms: u32, tokens: u32| {
        format!(
            "{{\"text_input\": \"At {ms}\", \"timestamp\": {ms}, \"output_length\": {tokens}}}\n"
        )
    };
    fs::write(&path, [line(900, 3), line(500, 2), line(520, 4)].concat()).unwrap();
    let trace = path.to_str().unwrap();
    let options = ["--prompts", trace, "--replay", "--startups", "2"];
    let shown = run(scratch.benchmark(&scratch.worker(2), &options), 0);
    assert!(shown.contains("when the trace says so"), "{shown}");
    assert!(shown.contains("ready after"), "{shown}");
    let report = scratch.report();
    let replay = scenario(&report, "replay");
    assert_eq!(replay["plan"]["load"]["requests"], 3);
    assert_eq!(replay["valid"], 3, "{replay:#}");
    // Each answer is as long as the trace asks for.
    let tokens: Vec<_> = replay["spans"].as_array().unwrap().iter().collect();
    let tokens: Vec<_> = tokens
        .iter()
        .map(|span| span["tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(tokens, [2, 4, 3], "{replay:#}");
    let starts = report["measures"].as_array().unwrap().iter();
    let starts = starts
        .clone()
        .find(|found| found["name"] == "time_to_ready")
        .unwrap();
    assert_eq!(starts["n"], 3, "{starts:#}");
}

#[test]
fn starts_are_measured_alone() {
    let scratch = Scratch::new("startup");
    let mut command = worker_test();
    command
        .args([
            "--benchmark",
            "startup",
            "--startups",
            "2",
            "--model",
            "tiny",
        ])
        .arg("--worker-bin")
        .arg(scratch.worker(2))
        .arg("--artifacts")
        .arg(&scratch.0);
    run(command, 0);
    let report = scratch.report();
    assert!(report["scenarios"].as_array().is_none_or(Vec::is_empty));
    let mut starts = report["measures"].as_array().unwrap().iter();
    let starts = starts.find(|found| found["name"] == "time_to_ready");
    assert_eq!(starts.unwrap()["n"], 3, "{starts:#?}");
}

#[test]
fn sessions_go_on_from_what_they_said_and_bursts_are_named() {
    let scratch = Scratch::new("sessions");
    let options = ["--turns", "3", "--context-depth", "64", "--ramp", "1..2"];
    run(scratch.benchmark(&scratch.worker(2), &options), 0);
    let report = scratch.report();
    let sweep = scenario(&report, "sweep_2");
    let plan = &sweep["plan"];
    assert_eq!(
        (
            &plan["turns"],
            &plan["context_depth"],
            &plan["prompt_tokens"]
        ),
        (&3.into(), &64.into(), &96.into())
    );
    let events = fs::read_to_string(scratch.0.join("latest/events.jsonl")).unwrap();
    let events = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lengths: std::collections::BTreeSet<u64> = events
        .filter(|event| event["event"] == "request_measured" && event["scenario"] == "sweep_2")
        .map(|event| event["prompt_tokens"].as_u64().unwrap())
        .collect();
    // As the faulty worker counts: some pairs of words are one token less to it. A session's turns are
    // 96, 136 and 176 tokens long, as each answer has 8 and what is said after it has 32.
    let turn_of = |length: &u64| (length - 84) / 40;
    assert!(
        lengths.iter().all(|length| (84..=180).contains(length)),
        "{lengths:?}"
    );
    let turns: std::collections::BTreeSet<u64> = lengths.iter().map(turn_of).collect();
    assert_eq!(
        turns.into_iter().collect::<Vec<_>>(),
        [0, 1, 2],
        "{lengths:?}"
    );
    let prompts = scratch.prompts();
    let options = ["--rate", "40", "--burstiness", "0.5", "--prompts", &prompts];
    let shown = run(scratch.benchmark(&scratch.worker(2), &options), 0);
    assert!(shown.contains("at 40.0/s with burstiness 0.50"), "{shown}");
}

#[test]
fn the_highest_rate_that_keeps_the_objectives_is_enclosed() {
    let scratch = Scratch::new("rate");
    let prompts = scratch.prompts();
    // Four at once, each of which takes 170 ms: about 23 a second.
    let options = [
        "--find-max-rate",
        "--slo",
        "ttft:150ms",
        "--prompts",
        &prompts,
    ];
    let shown = run(scratch.benchmark(&scratch.worker(20), &options), 0);
    let report = scratch.report();
    let checks = report["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|check| check["id"] == "bench.max_rate")
        .unwrap();
    let detail = found.to_string();
    assert!(
        detail.contains("kept at") && detail.contains("not at"),
        "{shown}"
    );
    let rate = detail
        .split("kept at ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let rate: f64 = rate.unwrap().parse().unwrap();
    assert!((1.0..40.0).contains(&rate), "{shown}");
}

#[test]
fn a_run_in_which_requests_fail_is_not_green() {
    let scratch = Scratch::new("fails");
    let prompts = scratch.prompts();
    for (fault, got) in [
        ("stream.index_gap", "index"),
        ("stream.truncated", "no end"),
        ("stream.end_count_wrong", "`tokens`"),
        ("stream.wrong_content_type", "text/event-stream"),
        ("stream.tokens_after_end", "another event"),
        ("stream.cut_off", "tokens, then"),
    ] {
        let mut command = scratch.benchmark(
            Path::new(FAULTY_WORKER),
            &["--concurrency", "1", "--prompts", &prompts],
        );
        command.env("WORKER_FAULT", fault);
        let shown = run(command, 1);
        assert!(
            shown.contains("expected: an answer to every request"),
            "{fault}: {shown}"
        );
        let report = scratch.report();
        let decode = scenario(&report, "decode");
        assert_eq!(decode["valid"], 0, "{fault}: {decode:#}");
        let broken = decode["invalid"].as_u64().unwrap() + decode["failed"].as_u64().unwrap();
        assert!(broken > 0, "{fault}: {decode:#}");
        assert!(
            decode["reasons"].to_string().contains(got),
            "{fault}: {decode:#}"
        );
        assert_eq!(decode["output_tokens_per_s"], 0.0, "{fault}: {decode:#}");
    }
    // Loads can't be chosen, so all of them are run again.
    let mut again = xtask();
    again.args(["worker:test", "--rerun"]);
    again.arg(scratch.0.join("latest"));
    again.env("WORKER_FAULT", "stream.cut_off");
    let shown = run(again, 1);
    assert!(shown.contains("bench.decode"), "{shown}");
}

#[test]
fn a_slower_worker_is_a_regression_and_a_quicker_one_is_none() {
    let scratch = Scratch::new("against");
    let (quick, slow) = (scratch.worker(3), scratch.worker(12));
    let prompts = scratch.prompts();
    let compare = |worker: &Path, other: &Path, code: i32| {
        let other = other.to_str().unwrap();
        // The floor keeps out what a busy machine does to one of them.
        let floor = ["--floor", "50", "--concurrency", "1"];
        let options = [&floor[..], &["--prompts", &prompts, "--against", other]].concat();
        let shown = run(scratch.benchmark(worker, &options), code);
        let report = scratch.report();
        let comparisons = report["comparisons"].as_array().unwrap().clone();
        let tpot = comparisons
            .into_iter()
            .find(|found| found["name"] == "decode tpot");
        tpot.unwrap_or_else(|| panic!("{shown}"))
    };
    let worse = compare(&slow, &quick, 1);
    assert_eq!(
        (&worse["judgement"], &worse["n"]),
        (&"worse".into(), &12.into()),
        "{worse:#}"
    );
    assert!(worse["interval"][0].as_f64().unwrap() > 1.0, "{worse:#}");
    let better = compare(&quick, &slow, 0);
    assert_eq!(better["judgement"], "better", "{better:#}");
    let nobody = scratch.benchmark(&quick, &["--against", "no-such-thing"]);
    assert!(run(nobody, 3).contains("neither a file nor a revision"));
}

#[test]
fn a_baseline_is_kept_compared_with_and_refused_where_it_means_nothing() {
    let scratch = Scratch::new("baseline");
    let worker = scratch.worker(5);
    let prompts = scratch.prompts();
    let options = |more: &'static str| {
        [
            "--concurrency",
            "1",
            "--prompts",
            prompts.as_str(),
            more,
            "mine",
        ]
    };
    let missing = run(scratch.benchmark(&worker, &options("--baseline")), 3);
    assert!(missing.contains("there is no baseline mine"), "{missing}");
    let kept = run(scratch.benchmark(&worker, &options("--save-baseline")), 0);
    let path = scratch.0.join("baselines/mine.json");
    assert!(
        kept.contains(&format!("kept as {}", path.display())),
        "{kept}"
    );

    let mut baseline: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for scenario in baseline["scenarios"].as_array_mut().unwrap() {
        for measure in scenario["measures"].as_array_mut().unwrap() {
            for part in ["min", "p50"] {
                measure[part] = (measure[part].as_f64().unwrap() / 100.0).into();
            }
            if !measure["p50_interval"].is_null() {
                measure["p50_interval"] = serde_json::json!([measure["min"], measure["p50"]]);
            }
        }
    }
    fs::write(&path, baseline.to_string()).unwrap();
    let worse = run(scratch.benchmark(&worker, &options("--baseline")), 1);
    assert!(worse.contains("bench.baseline"), "{worse}");
    assert!(
        worse.contains("no figure worse by more than 3 %"),
        "{worse}"
    );

    baseline["fingerprint"]["cores"] = "999".into();
    fs::write(&path, baseline.to_string()).unwrap();
    let refused = run(scratch.benchmark(&worker, &options("--baseline")), 3);
    assert!(refused.contains("cores: 999 there"), "{refused}");
}

#[test]
fn interrupted_it_ends_at_once_and_leaves_nobody() {
    let scratch = Scratch::new("interrupted");
    let prompts = scratch.prompts();
    let mut command = scratch.benchmark(
        &scratch.worker(20),
        &["--duration", "60s", "--prompts", &prompts],
    );
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let events = || {
        let events = fs::read_to_string(scratch.0.join("latest/events.jsonl"));
        events.unwrap_or_default()
    };
    let began = Instant::now();
    while !events().contains("\"event\":\"scenario_started\"") {
        assert!(began.elapsed() < PATIENCE, "{}", events());
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    let interrupted = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", shown(&output));
    // A load goes on for a minute, and one request is limited to five.
    assert!(interrupted.elapsed() < Duration::from_secs(30));
    assert_eq!(scratch.report()["survivors"], Value::Array(Vec::new()));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let scratch = Scratch::new("options");
    for (options, part) in [
        (["--concurrency", "0"], "--concurrency 0"),
        (["--rate", "0"], "--rate"),
        (["--requests", "3"], "--requests 3"),
        (["--goodput", "speed:1s"], "speed"),
        (["--ramp", "4..1"], "ramp"),
        (["--turns", "0"], "--turns"),
        (["--burstiness", "2"], "--rate"),
        (["--floor", "100"], "--floor"),
        (["--save-baseline", "a/b"], "--save-baseline"),
    ] {
        let shown = run(scratch.benchmark(Path::new(FAULTY_WORKER), &options), 2);
        assert!(shown.contains(part), "{shown}");
    }
    let mut alone = xtask();
    alone.args(["worker:test", "--rate", "1"]);
    assert!(run(alone, 2).contains("--benchmark"));
}

#[test]
fn the_client_measures_itself() {
    let mut command = xtask();
    command.args(["worker:test", "--tare"]);
    let shown = run(command, 0);
    assert!(shown.contains("512 x 60.0 ms  10240"), "{shown}");
    assert!(shown.contains("events a second"), "{shown}");
}
