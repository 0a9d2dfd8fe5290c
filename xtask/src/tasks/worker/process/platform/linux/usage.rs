//! Linux: what processes use, out of a few small files of `/proc`.

use std::fs;
use std::time::Duration;

use crate::tasks::worker::process::platform::kinds::Usage;

/// Four times a second: fine enough for a timeline, and far below 1 % of a core.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// As often as a process can be looked at without disturbing it.
pub const FASTEST: Duration = Duration::from_millis(100);

/// Linux reports to user space in hundredths of a second, whatever its kernel counts in.
const TICKS_PER_S: f64 = 100.0;

/// How many processes are looked at: a worker with more children isn't summed up wholly.
const PROCESSES: usize = 64;

/// The sum over a process and its children; `None` once it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let mut sum = of_one(pid)?;
    let mut left = children(pid);
    let mut seen = 1;
    while let Some(pid) = left.pop() {
        seen += 1;
        if seen > PROCESSES {
            break;
        }
        if let Some(usage) = of_one(pid) {
            sum.add(&usage);
            left.extend(children(pid));
        }
    }
    Some(sum)
}

/// The processor time that the group led by `pid` has used so far; `None` where nobody is in it.
///
/// Processes that have left the group, or have ended and been reaped, are not counted: compare two
/// moments of a group that lives.
pub fn group_time(pid: u32) -> Option<Duration> {
    let ticks_of = |pid| read_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    // Who has ended since it was asked for its group is left out.
    let ticks: Option<u64> = super::in_group(pid)
        .filter_map(ticks_of)
        .reduce(|sum, ticks| sum + ticks);
    ticks.map(|ticks| Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
}

/// How long the process's first thread was ready to run and found no processor free: what a busy
/// machine took from it.
pub fn waited_for_processor(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    Duration::from_nanos(read_schedstat(&text).unwrap_or_default())
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn of_one(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    if fields.first() == Some(&"Z") {
        return None;
    }
    let ticks = number(11)? + number(12)?;
    let open_files = fs::read_dir(format!("/proc/{pid}/fd")).ok();
    Some(Usage {
        cpu: Duration::from_secs_f64(ticks as f64 / TICKS_PER_S),
        rss_bytes: number(21)? * rustix::param::page_size() as u64,
        anonymous_bytes: anonymous_bytes(pid),
        threads: number(17)?,
        open_files: open_files.map(|files| files.count() as u64),
    })
}

/// What is a process's own: a model's file that is mapped isn't.
fn anonymous_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("RssAnon:")? + kib("VmSwap:")?) << 10)
}

/// The second of three numbers: nanoseconds on the processor, waiting for it, and turns on it.
fn read_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

/// The used ticks in a line of `/proc/PID/stat`.
fn read_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (user, system): (u64, u64) = (fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_threads_and_files() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 1 << 20, "{usage:?}");
        let anonymous_bytes = usage.anonymous_bytes.unwrap();
        assert!(
            (64 << 10..usage.rss_bytes + (64 << 20)).contains(&anonymous_bytes),
            "{usage:?}"
        );
        assert!(
            usage.threads >= 1 && usage.open_files.unwrap() >= 3,
            "{usage:?}"
        );
    }

    #[test]
    fn a_process_that_is_gone_uses_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(of(child.id()), None);
    }

    /// Counted in the thread's own processor time, which a busy machine doesn't change.
    #[test]
    fn a_sample_costs_less_than_a_hundredth_of_the_time_until_the_next() {
        let used_ns = || -> u64 {
            let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            text.split_whitespace().next().unwrap().parse().unwrap()
        };
        let samples = 100;
        let before_ns = used_ns();
        for _ in 0..samples {
            std::hint::black_box(of(std::process::id()));
        }
        let each = Duration::from_nanos((used_ns() - before_ns) / samples);
        assert!(each < SAMPLE_INTERVAL / 100, "{each:?} a sample");
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = "7 (a) b) 1 2) S 1 42 42 0 -1 4194560 1 2 3 4 70 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(read_ticks(stat), Some(100));
        assert_eq!(read_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn the_wait_for_a_processor_is_the_second_number() {
        assert_eq!(read_schedstat("98765 4321 7\n"), Some(4321));
        assert_eq!(read_schedstat(""), None);
    }

    #[test]
    fn work_shows_up_in_the_time_of_the_group() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get() as u32;
        let before = group_time(group).unwrap();
        let began = std::time::Instant::now();
        let mut sum = 0u64;
        // Until it is seen; the test's own limit ends it if it never is.
        while group_time(group).unwrap() < before + Duration::from_millis(50) {
            sum = (0..100_000u64).fold(sum, u64::wrapping_add);
            assert!(began.elapsed() < Duration::from_secs(60), "{sum}");
        }
    }
}
