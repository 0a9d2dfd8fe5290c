//! What left its group and its session: known by a mark in its environment or, where that was dropped
//! too, by whose child it became when it lost its parent.

use std::time::Duration;

use super::platform;
use super::platform::Process;
use super::wait::wait_until;

/// What is put into the environment of everything that a run starts, so that a process which left
/// its group and its session is found too.
pub const MARK: &str = "WORKER_TEST_RUN";

/// Tells a run who its supervisor is, by a value that workers don't get: what carries it was started by
/// us and for us.
pub const SUPERVISOR: &str = "WORKER_TEST_SUPERVISOR";

/// How long a process that left its group may take to stop.
pub const STRAY_GRACE: Duration = Duration::from_millis(500);

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How often we look through the process table.
pub const TABLE_INTERVAL: Duration = Duration::from_millis(15);

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
pub fn marked(run_id: &str) -> Vec<Process> {
    let marks = platform::marks(MARK);
    let marked = |process: &Process| marks.get(&process.pid).is_some_and(|mark| mark == run_id);
    platform::processes().into_iter().filter(marked).collect()
}

/// Living processes that lost their parent and so became ours, with all that they have started since;
/// `started` are the children that we started ourselves. What a tool of ours leaves running (a compiler
/// cache, say) is its own, and is known by the supervisor's `secret`, which workers aren't told.
pub fn adopted(secret: &str, started: &[u32]) -> Vec<Process> {
    let us = std::process::id();
    let table = platform::processes();
    let is_orphan = |process: &&Process| process.parent == us && !started.contains(&process.pid);
    let orphans: Vec<Process> = table.iter().filter(is_orphan).cloned().collect();
    let mut family = with_descendants(orphans, &table);
    if !family.is_empty() {
        let trusted = platform::marks(SUPERVISOR);
        family.retain(|process| trusted.get(&process.pid).is_none_or(|told| told != secret));
    }
    family
}

/// This process and all that descends from it.
pub fn family_of(pid: u32) -> Vec<Process> {
    let table = platform::processes();
    let itself = table.iter().filter(|process| process.pid == pid);
    with_descendants(itself.cloned().collect(), &table)
}

/// Those that live: what has the number of another one by now was started later.
pub fn living(family: &[Process]) -> Vec<Process> {
    let table = platform::processes();
    let lives = |process: &&Process| {
        let same = |other: &Process| (other.pid, other.started) == (process.pid, process.started);
        table.iter().any(same)
    };
    family.iter().filter(lives).cloned().collect()
}

/// These and all that descends from them.
fn with_descendants(mut family: Vec<Process>, table: &[Process]) -> Vec<Process> {
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|process| process.pid) {
        let children = table.iter().filter(|process| process.parent == parent);
        let new: Vec<Process> = children
            .filter(|child| !family.contains(child))
            .cloned()
            .collect();
        family.extend(new);
        at += 1;
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_all_that_descends() {
        let process = |pid: u32, parent: u32| Process {
            pid,
            parent,
            group: pid,
            session: pid,
            started: 1,
            name: String::from("x"),
        };
        let table = [(10, 1), (11, 10), (12, 11), (13, 1), (14, 13), (10, 12)];
        let table: Vec<Process> = table.map(|(pid, parent)| process(pid, parent)).into();
        let family = with_descendants(vec![process(10, 1)], &table[..5]);
        let pids: Vec<u32> = family.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [10, 11, 12]);
    }
}
