//! The ways out of a matrix of backends: a run that starts runs. After each: nobody is left.

use std::time::Duration;

use crate::run::{GONE_LIMIT, Plan, Run, Worker, events};

/// A matrix whose first column is in the midst of an inference.
fn busy(polite: bool) -> Run {
    let mut plan = Plan::over(Worker::Stubborn).args(&["--all-backends", "--format", "json"]);
    if polite {
        plan = plan.env("STUBBORN_POLITE", "1");
    }
    let mut run = plan.start();
    run.wait_until_busy();
    // The matrix, its reaper, the run, its reaper, the hive, the worker and its child.
    assert!(run.family().len() >= 7, "{:#?}", run.family());
    run
}

#[test]
fn a_signal_reaches_the_run_which_cleans_up_and_reports() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut run = busy(true);
        run.signal(signal);
        let (ended, output) = run.finish();
        run.assert_gone_within(Duration::ZERO);
        assert_eq!(ended, Some(code), "{output}");
        let events = events(&output);
        let inner = events
            .iter()
            .rev()
            .find(|event| event["event"] == "run_finished");
        assert!(inner.is_some(), "the run did not end orderly: {output}");
        let matrix = events.last().unwrap();
        assert_eq!(matrix["kind"], "matrix", "{output}");
        assert_eq!(matrix["verdict"], "interrupted");
        assert_eq!(matrix["exit_code"], code);
        assert_eq!(matrix["columns"][0]["verdict"], "interrupted");
        assert_eq!(matrix["columns"][1]["verdict"], "skipped");
    }
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut run = busy(false);
    run.signal("TERM");
    // What comes at once is an echo of the first: `timeout` signals a process and its group.
    std::thread::sleep(Duration::from_millis(200));
    run.signal("TERM");
    let (ended, output) = run.finish();
    assert_eq!(ended, Some(143), "{output}");
    run.assert_gone_within(GONE_LIMIT);
}

#[test]
fn a_matrix_that_is_killed_takes_its_run_with_it() {
    let mut run = busy(false);
    run.signal("KILL");
    run.wait();
    run.assert_gone_within(GONE_LIMIT + crate::run::GRACE);
}
