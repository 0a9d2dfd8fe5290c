//! Every way in which a run can end. After each: no worker, no hive, no child, no reaper, no port.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::{
    GONE_LIMIT, GRACE, Plan, Run, Worker, event, events, is_held, outcome, pause, python, send,
    with_words,
};

/// A run in JSON over the stubborn worker, in the midst of an inference.
fn busy(plan: Plan) -> Run {
    let mut run = plan.args(&["--format", "json"]).start();
    run.wait_until_busy();
    assert!(run.family().len() >= 5, "{:#?}", run.family());
    run
}

fn stubborn() -> Plan {
    Plan::over(Worker::Stubborn)
}

/// The good worker, without the checks that judge its speed: this machine may be a busy one.
fn untimed() -> Plan {
    Plan::over(Worker::Good).args(&["--skip", "start.answers", "--skip", "heartbeat.*"])
}

/// Stops when it is asked to, so that the test doesn't take the grace period.
fn polite() -> Plan {
    stubborn().env("STUBBORN_POLITE", "1")
}

fn assert_ports_free(events: &[Value]) {
    assert!(!is_held(&event(events, "worker_starting")["port"]));
    assert!(!is_held(&event(events, "hive_started")["port"]));
}

#[test]
fn success() {
    let mut run = untimed().args(&["--format", "json"]).start();
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(0), "{output}");
    let events = events(&output);
    assert_eq!(
        outcome(&events, "lifecycle.no_survivors")["outcome"],
        "passed"
    );
    let survivors = &event(&events, "cleanup_finished")["survivors"];
    assert_eq!(survivors.as_array().map(Vec::len), Some(0));
    assert_ports_free(&events);
}

#[test]
fn a_failed_check_because_a_child_was_left() {
    let plan = untimed().env("WORKER_FAULT", "stop.grandchild_left");
    let mut run = plan.args(&["--format", "json"]).start();
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(1), "{output}");
    let events = events(&output);
    let survivors = outcome(&events, "lifecycle.no_survivors");
    assert_eq!(survivors["outcome"], "failed");
    assert!(survivors["got"].as_str().unwrap().contains("(pid "));
    let failed = events.iter().filter(|event| event["outcome"] == "failed");
    assert_eq!(failed.count(), 1, "{output}");
}

#[test]
fn a_stray_in_a_session_of_its_own_is_found_and_told() {
    let mut run = busy(polite().env("STUBBORN_STRAY", "1"));
    run.signal("TERM");
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(143), "{output}");
    let events = events(&output);
    let survivors = outcome(&events, "lifecycle.no_survivors");
    assert_eq!(survivors["outcome"], "failed", "{output}");
    let got = survivors["got"].as_str().unwrap();
    assert!(got.contains("which left the group"), "{got}");
}

/// How long an orphan of a test sleeps: nobody else's does so long, and so it is known.
fn nap(test: u32) -> String {
    format!("{}.{test}", 100_000 + std::process::id())
}

fn sleeps(nap: &str) -> bool {
    with_words(&["sleep", nap]).is_some()
}

#[test]
fn an_orphan_without_an_environment_is_found_and_told() {
    let nap = nap(1);
    let mut run = busy(polite().env("STUBBORN_ORPHAN", &nap));
    assert!(sleeps(&nap));
    run.signal("TERM");
    let (code, output) = run.finish();
    assert!(!sleeps(&nap), "{output}");
    assert_eq!(code, Some(143), "{output}");
    let events = events(&output);
    let got = outcome(&events, "lifecycle.no_survivors")["got"].as_str();
    let got = got.unwrap_or_else(|| panic!("nothing was told: {output}"));
    assert!(
        got.contains("sleep (pid ") && got.contains("which left the group"),
        "{got}"
    );
}

/// When the run is killed its supervisor becomes the parent of what it had adopted.
#[test]
fn a_kill_of_the_run_behind_its_supervisor() {
    let nap = nap(2);
    let mut run = busy(stubborn().env("STUBBORN_ORPHAN", &nap));
    assert!(sleeps(&nap));
    send("KILL", run.behind().pid);
    assert_eq!(run.wait().code(), Some(137));
    assert!(!sleeps(&nap));
    run.assert_gone_within(GRACE + GONE_LIMIT);
}

/// When the supervisor is killed the run is asked to stop, and cleans up as ever.
#[test]
fn a_kill_of_the_supervisor() {
    let nap = nap(3);
    let mut run = busy(polite().env("STUBBORN_ORPHAN", &nap));
    assert!(sleeps(&nap));
    run.signal("KILL");
    let output = run.rest_of_output();
    run.wait();
    run.assert_gone();
    assert!(!sleeps(&nap), "{output}");
    let events = events(&output);
    assert_eq!(event(&events, "interrupted")["signal"], 15);
    assert_eq!(events.last().unwrap()["event"], "run_finished");
}

#[test]
fn an_error() {
    let mut run = Plan::over(Worker::Missing).start();
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("cannot start the worker"), "{output}");
}

#[test]
fn a_panic_in_the_main_thread() {
    panics("main");
}

#[test]
fn a_panic_in_another_thread() {
    panics("thread");
}

fn panics(place: &str) {
    let plan = polite().env("WORKER_TEST_PANIC", place);
    let mut run = plan.args(&["--format", "json"]).start();
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(3), "{output}");
    let events = events(&output);
    let message = event(&events, "troubled")["message"].as_str().unwrap();
    assert!(message.contains("a bug in it: rehearsed"), "{message}");
    assert_ports_free(&events);
}

#[test]
fn ctrl_c_once_tells_what_was_learnt() {
    let mut run = stubborn().start();
    run.wait_until_busy();
    let pressed = Instant::now();
    run.signal("INT");
    let (code, output) = run.finish();
    let took = pressed.elapsed();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(130), "{output}");
    assert!(took < GRACE + GONE_LIMIT, "{took:?}");
    let at = |text: &str| {
        output
            .find(text)
            .unwrap_or_else(|| panic!("no `{text}` in {output}"))
    };
    let order = [
        at("Interrupted by Ctrl-C"),
        at("Worker logs (last 30 lines)"),
        at("Test Summary"),
        at("Health test passed"),
        at("inference.answers did not run"),
        at("Cleaning up..."),
        at("Cleanup complete"),
        at("interrupted by Ctrl-C"),
    ];
    assert!(order.is_sorted(), "{output}");
}

#[test]
fn ctrl_c_twice_kills_at_once() {
    let mut run = busy(stubborn());
    press_ctrl_c_twice(&mut run);
    run.assert_gone();
}

/// Nobody else could: the reaper is dead, the dying run's own child has the kernel's last signal but
/// its grandchild hasn't, and nothing but its group tells to whom that belongs.
#[test]
fn the_second_ctrl_c_kills_the_groups_itself() {
    let mut run = busy(stubborn().env("STUBBORN_UNMARKED", "1"));
    kill_the_reaper(&run);
    press_ctrl_c_twice(&mut run);
    run.assert_gone();
}

fn press_ctrl_c_twice(run: &mut Run) {
    run.signal("INT");
    // Until the first has been taken: after it the worker is asked to stop, and takes its time.
    while run
        .next_line()
        .is_some_and(|line| !line.contains("cleanup_started"))
    {}
    // What follows within some milliseconds counts as an echo of the first.
    while run.child.try_wait().unwrap().is_none() {
        run.signal("INT");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(run.wait().code(), Some(130));
    let output = run.rest_of_output();
    assert!(
        !output.contains("cleanup_finished"),
        "not at once: {output}"
    );
}

fn kill_the_reaper(run: &Run) {
    let reaper = run.reaper().pid;
    send("KILL", reaper);
    while run.family().iter().any(|found| found.pid == reaper) {
        pause();
    }
}

#[test]
fn termination() {
    ends_with("TERM", 143);
}

#[test]
fn hang_up() {
    ends_with("HUP", 129);
}

/// As `nohup` does it, and a shell for what it starts in the background.
#[test]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let ignoring = ["-c", "trap '' HUP INT; exec \"$0\" \"$@\""];
    let mut run = untimed().through("sh", &ignoring).start();
    assert!(run.next_line().is_some());
    run.signal("HUP");
    run.signal("INT");
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(0), "{output}");
}

fn ends_with(signal: &str, expected: i32) {
    let mut run = busy(polite());
    run.signal(signal);
    let (code, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(code, Some(expected), "{output}");
    let events = events(&output);
    assert_eq!(event(&events, "interrupted")["signal"], expected - 128);
    assert_eq!(outcome(&events, "health.answers")["outcome"], "passed");
    assert_eq!(outcome(&events, "inference.answers"), &Value::Null);
    assert_eq!(events.last().unwrap()["event"], "run_finished");
    assert_ports_free(&events);
}

#[test]
fn a_closed_terminal() {
    // Gives the rest of the command line a terminal and closes it when its own input ends.
    let terminal = "
import os, pty, select, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while 0 not in select.select([0, terminal], [], [])[0]:
    os.read(terminal, 65536)
os.close(terminal)
_, status = os.waitpid(child, 0)
print('exit', os.waitstatus_to_exitcode(status))
";
    let (closing, close) = std::io::pipe().unwrap();
    let plan = stubborn().through(python(), &["-c", terminal]);
    let mut run = plan.stdin(closing).start();
    run.wait_until_busy();
    drop(close);
    let (_, output) = run.finish();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(output, "exit 129\n");
}

#[test]
fn a_closed_standard_output() {
    let mut run = untimed().start();
    assert!(run.next_line().is_some());
    run.close_output();
    let status = run.wait();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(status.code(), Some(0), "{}", run.errors());
}

#[test]
fn a_standard_output_that_nobody_reads() {
    // More than a pipe holds, so that the run's output is stuck for good.
    let plan = polite().args(&["--log-lines", "1000"]);
    let mut run = plan.start();
    run.wait_until_busy();
    run.signal("INT");
    let status = run.wait();
    run.assert_gone_within(Duration::ZERO);
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_kill_that_nothing_can_catch() {
    let mut run = busy(stubborn().env("STUBBORN_STRAY", "1"));
    let killed = Instant::now();
    run.kill_both();
    run.wait();
    run.assert_gone_within(GRACE + GONE_LIMIT);
    let output = run.rest_of_output();
    assert!(killed.elapsed() < GRACE + GONE_LIMIT);
    assert_ports_free(&events(&output));
}

/// A grandchild that only its group tells of, and that ignores what can be ignored: the kernel ends
/// nobody but the run's own children, so this is the reaper's work alone.
#[test]
fn a_kill_with_a_grandchild_that_only_the_reaper_can_find() {
    let mut run = busy(stubborn().env("STUBBORN_UNMARKED", "1"));
    run.kill_both();
    run.wait();
    run.assert_gone_within(GRACE + GONE_LIMIT);
}

#[test]
fn a_kill_while_everything_starts() {
    for delay_ms in (0..300).step_by(60) {
        let mut run = polite().start();
        std::thread::sleep(Duration::from_millis(delay_ms));
        run.signal("KILL");
        run.wait();
        run.assert_gone_within(GRACE + GONE_LIMIT);
    }
}

#[test]
fn a_kill_of_the_reaper_and_then_of_the_run() {
    // The second layer alone: the kernel ends the worker, the end of its input the hive.
    let mut run = busy(stubborn());
    kill_the_reaper(&run);
    let output = {
        run.kill_both();
        run.wait();
        run.rest_of_output()
    };
    let events = events(&output);
    let worker = event(&events, "worker_started")["pid"].as_i64();
    let hive = event(&events, "hive_started")["pid"].as_i64();
    let began = Instant::now();
    loop {
        let family = run.family();
        let lives = |pid: Option<i64>| family.iter().any(|f| Some(i64::from(f.pid)) == pid);
        if !lives(worker) && !lives(hive) {
            break;
        }
        assert!(began.elapsed() < GONE_LIMIT, "{family:#?}");
        pause();
    }
    // Its child has nobody left who would end it: what the reaper is for.
    assert_eq!(run.family().len(), 1);
}

#[test]
fn the_self_test_shows_it_to_users() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command
        .args(["worker:test", "--self-test", "--python", python()])
        .output();
    let output = output.unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for role in [
        "its supervisor",
        "the run",
        "the mock hive",
        "the worker's child",
        "an orphan without an environment",
        "the reaper",
    ] {
        assert!(shown.contains(role), "no {role}: {shown}");
    }
    let passed = "PASSED: 7 processes gone and 2 ports free";
    assert!(shown.contains(passed), "{shown}");
}
