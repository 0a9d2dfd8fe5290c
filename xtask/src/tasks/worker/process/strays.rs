//! What left its group and its session, found by a mark in its environment.

use std::time::Duration;

use super::platform;
use super::platform::Process;
use super::wait::wait_until;

/// What is put into the environment of everything that a run starts, so that a process which left
/// its group and its session is found too.
pub const MARK: &str = "WORKER_TEST_RUN";

/// How long a process that left its group may take to stop.
pub const STRAY_GRACE: Duration = Duration::from_millis(500);

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How often we look through the process table.
pub const TABLE_INTERVAL: Duration = Duration::from_millis(15);

/// Ends everything that carries the run's mark.
pub fn end_strays(run_id: &str) {
    end(STRAY_GRACE, || strays(run_id));
}

/// Asks what is found to stop, kills it after `grace`, and looks until nothing is found any more.
pub fn end(grace: Duration, find: impl Fn() -> Vec<Process>) {
    for process in find() {
        platform::ask_process_to_stop(process.pid);
    }
    wait_until(grace, TABLE_INTERVAL, || find().is_empty());
    wait_until(KILL_LIMIT, TABLE_INTERVAL, || {
        let left = find();
        for process in &left {
            platform::kill_process(process.pid);
        }
        left.is_empty()
    });
}

/// Living processes that carry the run's mark.
pub fn strays(run_id: &str) -> Vec<Process> {
    let marks = platform::marks(MARK);
    let marked = |process: &Process| marks.get(&process.pid).is_some_and(|mark| mark == run_id);
    platform::processes().into_iter().filter(marked).collect()
}
