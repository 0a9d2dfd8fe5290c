//! How much processor time a process and all that it started have used, and waited for.

use std::time::Duration;

/// What the group led by `pid` has used so far; `None` where the system doesn't tell.
///
/// Processes that have left the group, or have ended and been reaped, are not counted: compare two
/// moments of a group that lives.
#[cfg(target_os = "linux")]
pub fn group_time(pid: u32) -> Option<Duration> {
    /// Every Linux reports to user space in hundredths of a second, whatever its kernel counts in.
    const TICKS_PER_S: f64 = 100.0;
    let mut ticks = None;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let is_process = entry
            .file_name()
            .to_str()?
            .starts_with(|c: char| c.is_ascii_digit());
        if !is_process {
            continue;
        }
        // It may have ended since the folder was listed.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if let Some((group, used)) = read_stat(&stat)
            && group == pid
        {
            ticks = Some(ticks.unwrap_or(0) + used);
        }
    }
    ticks.map(|ticks: u64| Duration::from_secs_f64(ticks as f64 / TICKS_PER_S))
}

/// What the group led by `pid` has used so far; `None` where the system doesn't tell.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn group_time(pid: u32) -> Option<Duration> {
    let output = std::process::Command::new("ps")
        .args(["-A", "-o", "pgid=,time="])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut total = None;
    for line in text.lines() {
        let (group, time) = line.trim().split_once(' ')?;
        if group.parse() == Ok(pid) {
            total = Some(total.unwrap_or(Duration::ZERO) + read_clock(time.trim())?);
        }
    }
    total
}

/// What the group led by `pid` has used so far; `None` where the system doesn't tell.
#[cfg(not(unix))]
pub fn group_time(_pid: u32) -> Option<Duration> {
    None
}

/// How long the process's first thread was ready to run and found no processor free: what a busy
/// machine took from it. Nothing where the system doesn't tell.
#[cfg(target_os = "linux")]
pub fn waited_for_processor(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    Duration::from_nanos(read_schedstat(&text).unwrap_or_default())
}

/// Nothing: the system doesn't tell.
#[cfg(not(target_os = "linux"))]
pub fn waited_for_processor(_pid: u32) -> Duration {
    Duration::ZERO
}

/// The second of three numbers: nanoseconds on the processor, waiting for it, and turns on it.
#[cfg(target_os = "linux")]
fn read_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

/// The process group and the used ticks in a line of `/proc/PID/stat`.
#[cfg(target_os = "linux")]
fn read_stat(stat: &str) -> Option<(u32, u64)> {
    // The second field is the program's name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (user, system): (u64, u64) = (fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?);
    Some((fields.get(2)?.parse().ok()?, user + system))
}

/// `MM:SS.cc` or `HH:MM:SS`, as `ps` prints them.
#[cfg(all(unix, not(target_os = "linux")))]
fn read_clock(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    for part in text.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(Duration::from_secs_f64(seconds))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = "7 (a) b) 1 2) S 1 42 42 0 -1 4194560 1 2 3 4 70 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(read_stat(stat), Some((42, 100)));
        assert_eq!(read_stat("7 (a) S 1"), None);
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
