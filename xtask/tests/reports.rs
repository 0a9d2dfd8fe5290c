//! Reports as whole commands: rendered from a recording, opened by other tools and by a browser, and
//! left behind by a run. What a report says in detail is a snapshot beside the reporters.

#[path = "support/asked.rs"]
mod asked;
#[path = "support/python.rs"]
mod python;
#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use asked::{Needs, is_asked_for};
use python::python;
use scratch::Scratch;
use xtask::{FAULTY_WORKER, said, worker_test, xtask};

const RECORDING: &str = include_str!("fixtures/failed-run/events.jsonl");

/// A recorded benchmark.
const BENCHMARK: &str = include_str!("fixtures/benchmark/events.jsonl");

/// Where a browser may be, best first.
const BROWSERS: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
];

/// How long a browser may take to show a page, on a machine that is busy with other tests.
const BROWSER_LIMIT: Duration = Duration::from_secs(120);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Renders a recording as one kind of report.
fn rendered(scratch: &Scratch, recording: &[u8], kind: &str) -> PathBuf {
    let events = scratch.file("events.jsonl");
    fs::write(&events, recording).unwrap();
    let path = scratch.file(&format!("rendered-{kind}"));
    let report = format!("{kind}={}", path.display());
    let mut command = xtask();
    command.args([
        "worker:report",
        events.to_str().unwrap(),
        "--report",
        &report,
    ]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    path
}

/// What a busy worker and one whose clients leave reach beyond what they promise.
#[test]
#[cfg(unix)]
fn a_run_says_how_quickly_state_is_told_and_generation_stops() {
    let scratch = Scratch::new("reached");
    let report = scratch.file("report.json");
    let output = worker_test()
        .args(["--quiet", "--model", "tiny", "--worker-bin", FAULTY_WORKER])
        .args(["--check", "load.health", "--check", "leave.fin"])
        .args(["--report", &format!("json={}", report.display())])
        .arg("--artifacts")
        .arg(&scratch.0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let measures = report["measures"].as_array().unwrap();
    // Beyond these a check would have failed.
    for (name, limit_ms) in [("state_under_load", 1000.0), ("stop_after_leave", 2000.0)] {
        let measure = measures.iter().find(|measure| measure["name"] == name);
        let measure = measure.unwrap_or_else(|| panic!("no {name} in {measures:?}"));
        let worst_ms = measure["max"].as_f64().unwrap();
        assert!(worst_ms > 0.0 && worst_ms <= limit_ms, "{measure}");
        assert_eq!(measure["unit"], "ms");
    }
}

/// The worker of the recording isn't where the script is run, and a proxy that leads nowhere is set.
#[test]
#[cfg(unix)]
fn what_reproduces_a_run_ends_with_its_worker_and_asks_no_proxy() {
    let scratch = Scratch::new("repro");
    let script = rendered(&scratch, RECORDING.as_bytes(), "repro");
    let output = Command::new("sh")
        .arg(&script)
        .current_dir(&scratch.0)
        .env("http_proxy", "http://192.0.2.1:9")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("the worker ended with "),
        "{}",
        said(&output)
    );
    let text = fs::read_to_string(&script).unwrap();
    let asks = text.lines().filter(|line| line.contains("curl "));
    for line in asks {
        assert!(line.contains("--noproxy '*'"), "{line}");
    }
}

#[test]
fn a_recording_that_was_cut_off_is_rendered_and_not_green() {
    let scratch = Scratch::new("cut-off");
    let bytes = RECORDING.as_bytes();
    let path = rendered(&scratch, &bytes[..bytes.len() * 2 / 3], "json");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert!(
        report["troubles"][0]
            .as_str()
            .unwrap()
            .contains("ends before")
    );
    assert_ne!(report["exit_code"], 0);
}

#[test]
fn a_newer_recording_is_refused_by_name() {
    let scratch = Scratch::new("newer");
    let events = scratch.file("events.jsonl");
    let newer = RECORDING.replacen("\"schema_version\":1", "\"schema_version\":7", 1);
    fs::write(&events, newer).unwrap();
    let mut command = xtask();
    command.args([
        "worker:report",
        events.to_str().unwrap(),
        "--report",
        "json",
    ]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        said(&output).contains("schema version 7"),
        "{}",
        said(&output)
    );
    assert!(!scratch.file("report.json").exists());
}

/// Writes an archive's names and texts, and fails where its own checks do.
const READ_ZIP: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    assert archive.testzip() is None
    for name in archive.namelist():
        print(name)
        print(archive.read(name).decode())
"#;

#[test]
fn a_run_is_sent_as_one_file_without_secrets_and_opened_elsewhere() {
    let (here, there) = (Scratch::new("packed"), Scratch::new("opened"));
    let secret = "hf_in_a_log_and_in_an_event";
    let run = here.folder("run");
    let note = format!(r#"{{"elapsed_ms":9,"event":"noted","message":"it is {secret}"}}"#);
    fs::write(run.join("events.jsonl"), format!("{RECORDING}{note}\n")).unwrap();
    fs::write(run.join("worker.log"), format!("token {secret}\n")).unwrap();
    let outside = here.with("outside.log", "not of this run");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&outside, run.join("linked.log")).unwrap();
    fs::write(run.join("report.html"), "an old page").unwrap();
    let report = |arguments: &[&Path]| {
        let mut command = xtask();
        command.arg("worker:report").args(arguments);
        command.env("HF_TOKEN", secret).output().unwrap()
    };
    let packed = report(&[Path::new("pack"), &run]);
    assert!(packed.status.success(), "{}", said(&packed));
    let file = here.file("run.zip");
    let system = if cfg!(windows) { "python" } else { "python3" };
    let read = Command::new(system)
        .args(["-c", READ_ZIP])
        .arg(&file)
        .output()
        .unwrap();
    let text = said(&read);
    assert!(read.status.success(), "{text}");
    assert!(!text.contains(secret), "{text}");
    assert_eq!(text.matches("[redacted]").count(), 3, "{text}");
    assert!(!text.contains(outside.to_str().unwrap()) && !text.contains("linked.log"));

    let sent = there.file("run.zip");
    fs::copy(&file, &sent).unwrap();
    let opened = report(&[Path::new("open"), &sent]);
    assert!(opened.status.success(), "{}", said(&opened));
    let folder = there.file("run");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("inference.answers"), "{page}");
    let log = fs::read_to_string(folder.join("worker.log")).unwrap();
    assert_eq!(log, "token [redacted]\n");
    assert!(said(&opened).contains("report.html"), "{}", said(&opened));

    let again = report(&[Path::new("open"), &sent]);
    assert_eq!(again.status.code(), Some(3));
    assert!(said(&again).contains("FOLDER"), "{}", said(&again));
    let bytes = fs::read(&file).unwrap();
    let half = there.file("half.zip");
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let refused = report(&[Path::new("open"), &half]);
    assert_eq!(refused.status.code(), Some(3));
    let why = said(&refused);
    assert!(why.contains("half.zip") && why.contains("cut off"), "{why}");
    assert!(!there.file("half").exists());
}

#[test]
fn a_run_leaves_everything_behind_whatever_happens_to_one_report() {
    let scratch = Scratch::new("run");
    let (artifacts, summary) = (scratch.file("runs"), scratch.file("summary.md"));
    let secret = "hf_do_not_tell_anybody";
    let mut command = quick_run(&artifacts);
    command
        .args(["--worker-id", &format!("w-{secret}")])
        .arg("--report")
        .arg(format!("junit={}", scratch.file("elsewhere.xml").display()))
        .env("HF_TOKEN", secret)
        .env("GITHUB_STEP_SUMMARY", &summary);
    if cfg!(target_os = "linux") {
        command.args(["--report", "html=/dev/full"]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    if cfg!(target_os = "linux") {
        assert!(
            said(&output).contains("/dev/full is missing"),
            "{}",
            said(&output)
        );
    }
    let latest = artifacts.join("latest");
    for name in [
        "events.jsonl",
        "worker.log",
        "hive.log",
        "report.json",
        "junit.xml",
        "summary.md",
        "report.html",
        "repro.sh",
    ] {
        let text = fs::read_to_string(latest.join(name)).unwrap();
        assert!(!text.is_empty(), "{name} is empty");
        assert!(!text.contains(secret), "{name} tells a secret");
    }
    assert!(fs::read_to_string(&summary).unwrap().contains("PASSED"));
    assert!(
        fs::read_to_string(scratch.file("elsewhere.xml"))
            .unwrap()
            .contains("health.answers")
    );
    let events = fs::read_to_string(latest.join("events.jsonl")).unwrap();
    assert!(events.contains("\"event\":\"environment_found\""));
    assert!(events.contains("[redacted]"));
}

/// A pipe that nobody reads and that is full already, and a disk without room.
#[test]
#[cfg(target_os = "linux")]
fn output_that_nobody_takes_holds_up_neither_the_run_nor_its_verdict() {
    use std::io::{Write, pipe};
    use std::process::Stdio;

    let scratch = Scratch::new("output");
    let run = |name: &str, stdout: Stdio| {
        let folder = scratch.file(name);
        let mut child = quick_run(&folder)
            .stdout(stdout)
            .stderr(fs::File::create(scratch.file("stderr")).unwrap())
            .spawn()
            .unwrap();
        let status = end_of(&mut child, OUTPUT_LIMIT, name);
        let errors = fs::read_to_string(scratch.file("stderr")).unwrap();
        assert_eq!(status.code(), Some(0), "{name}: {errors}");
        assert!(errors.contains("ends here"), "{name}: {errors}");
        let report = fs::read_to_string(folder.join("latest/report.json")).unwrap();
        assert!(report.contains("\"verdict\": \"passed\""), "{name}");
    };
    let (_reader, mut writer) = pipe().unwrap();
    writer.write_all(&[b'x'; PIPE_BYTES]).unwrap();
    run("a full pipe", writer.into());
    run(
        "a full disk",
        fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .into(),
    );
}

/// What a pipe of Linux holds.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 64 << 10;

/// A run of a second, the 10 s after which output is given up, and what a busy machine adds.
#[cfg(target_os = "linux")]
const OUTPUT_LIMIT: Duration = Duration::from_secs(60);

/// One check of the faulty worker, whose runs are in `artifacts`.
fn quick_run(artifacts: &Path) -> Command {
    let mut command = worker_test();
    command
        .args(["--check", "health.answers", "--model", "tiny"])
        .args(["--worker-bin", FAULTY_WORKER, "--artifacts"])
        .arg(artifacts);
    command
}

#[test]
fn network_report_json_fits_its_schema() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let scratch = Scratch::new("schema");
    let schema = root().join("docs/report.schema.json");
    for recording in [RECORDING, BENCHMARK] {
        let path = rendered(&scratch, recording.as_bytes(), "json");
        let output = python(FITS, &[&schema, &path]);
        assert_eq!(said(&output).trim(), "fits");
    }
}

const FITS: &str = "import json, sys, jsonschema
schema = json.load(open(sys.argv[1])); report = json.load(open(sys.argv[2], encoding='utf-8'))
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.validate(report, schema, cls=jsonschema.Draft202012Validator)
report['surprise'] = 1
try:
    jsonschema.validate(report, schema, cls=jsonschema.Draft202012Validator)
except jsonschema.ValidationError:
    print('fits')";

#[test]
fn network_junit_opens_in_a_second_tool() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let scratch = Scratch::new("junit");
    let path = rendered(&scratch, RECORDING.as_bytes(), "junit");
    let program = "import sys, junitparser
xml = junitparser.JUnitXml.fromfile(sys.argv[1])
suite, = xml
failed = [case.name for case in suite for result in case.result if isinstance(result, junitparser.Failure)]
names = {p.name: p.value for p in suite.properties()}
print(xml.tests, xml.failures, ','.join(failed), names['backend'], 'owned' in suite._elem.find('system-err').text)";
    let output = python(program, &[&path]);
    let expected = "14 2 inference.answers,streaming.answers cpu True";
    assert_eq!(said(&output).trim(), expected);
}

#[test]
fn browser_shows_the_report_silently_and_fetches_nothing() {
    if !is_asked_for(Needs::Browser) {
        return;
    }
    let scratch = Scratch::new("browser");
    // Whoever fetches what hostile text asks for is heard here.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hostile = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    std::thread::spawn(move || {
        for _hung_up_on in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let recording = RECORDING.replace("hostile.invalid", &hostile);
    assert!(recording.contains(&hostile));
    let rendered = rendered(&scratch, recording.as_bytes(), "html");
    let page = scratch.file("report.html");
    fs::rename(rendered, &page).unwrap();
    let (dom, log) = browse(&scratch, &page);
    assert!(
        dom.contains("id=\"verdict\"") && dom.contains("<h1>FAILED</h1>"),
        "{dom}"
    );
    assert_eq!(dom.matches("<tr class=\"").count(), 14);
    assert!(dom.contains("<svg class=\"timeline\"") && dom.matches("<circle").count() > 5);
    assert!(dom.contains("class=\"curve cpu\"") && dom.contains("<rect class=\"loading\""));
    for owned in ["<img", "<b>", "title>owned"] {
        assert!(!dom.contains(owned), "hostile text became {owned}");
    }
    // The page's own script, which has run.
    assert_eq!(dom.matches("<script").count(), 1);
    assert!(
        dom.contains("<p class=\"find\"><input type=\"search\""),
        "{dom}"
    );
    assert!(!log.contains("CONSOLE"), "the console spoke: {log}");
    assert_eq!(
        fetched.load(Ordering::SeqCst),
        0,
        "the page fetched something"
    );

    // The same eyes see a page that does speak and fetch, else their silence would prove nothing.
    let loud = scratch.file("loud.html");
    let text = format!("<img src=http://{hostile}/x><script>console.error('heard')</script>");
    fs::write(&loud, text).unwrap();
    let (_, log) = browse(&scratch, &loud);
    assert!(log.contains("CONSOLE") && log.contains("heard"), "{log}");
    assert!(
        fetched.load(Ordering::SeqCst) > 0,
        "nothing was fetched where something is"
    );
}

/// The page's elements after it was loaded, and what the browser logged.
fn browse(scratch: &Scratch, page: &Path) -> (String, String) {
    let profile = scratch.file("profile");
    let (dom, log) = (scratch.file("dom.html"), scratch.file("browser.log"));
    let mut child = Command::new(browser())
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--timeout=30000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .stdout(fs::File::create(&dom).unwrap())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let status = end_of(&mut child, BROWSER_LIMIT, "the browser");
    let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let (dom, log) = (text(dom), text(log));
    assert!(status.success(), "{log}");
    (dom, log)
}

/// How a process ended; one that hasn't within the limit is killed.
fn end_of(child: &mut Child, limit: Duration, name: &str) -> ExitStatus {
    let began = Instant::now();
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if began.elapsed() < limit => std::thread::sleep(Duration::from_millis(20)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{name}: not over within {} s", limit.as_secs());
            }
        }
    }
}

fn browser() -> String {
    let asked_for = std::env::var("CHROMIUM").ok();
    let runs = |program: &String| Command::new(program).arg("--version").output().is_ok();
    let known = BROWSERS.iter().map(|&program| program.to_owned());
    asked_for.into_iter().chain(known).find(runs).expect(
        "no browser: install the package `chromium` (Debian: apt-get install chromium), name one in \
         CHROMIUM, or leave TEST_BROWSER unset",
    )
}
