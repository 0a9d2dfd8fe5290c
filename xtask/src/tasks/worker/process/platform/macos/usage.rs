//! macOS, and any Unix that isn't Linux: what processes use, as `ps` tells it. That takes a process
//! each time, so that it is asked less often.

use std::time::Duration;

use crate::tasks::worker::process::platform::kinds::Usage;

/// Once a second.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// As often as a process can be looked at without disturbing it.
pub const FASTEST: Duration = Duration::from_secs(1);

/// What a process uses; its children, threads and files aren't told cheaply here. `None` once it is
/// gone.
pub fn of(pid: u32) -> Option<Usage> {
    read_row(&super::ps(&["-p", &pid.to_string()], &["rss=", "time="]))
}

/// The processor time that the group led by `pid` has used so far; `None` where nobody is in it.
pub fn group_time(pid: u32) -> Option<Duration> {
    let table = super::ps(&["-ax"], &["pgid=", "time="]);
    let mut total = None;
    for line in table.lines() {
        let (group, time) = line.trim().split_once(char::is_whitespace)?;
        if group.parse() == Ok(pid) {
            total = Some(total.unwrap_or(Duration::ZERO) + read_clock(time)?);
        }
    }
    total
}

/// Nothing: the system doesn't tell.
pub fn waited_for_processor(_pid: u32) -> Duration {
    Duration::ZERO
}

/// `KIB TIME`, as `ps` prints them.
fn read_row(row: &str) -> Option<Usage> {
    let (rss_kib, time) = row.trim().split_once(char::is_whitespace)?;
    Some(Usage {
        cpu: read_clock(time)?,
        rss_bytes: rss_kib.parse::<u64>().ok()? << 10,
        anonymous_bytes: None,
        threads: 1,
        open_files: None,
    })
}

/// `MM:SS.cc`, `HH:MM:SS` or `DD-HH:MM:SS`.
fn read_clock(text: &str) -> Option<Duration> {
    let (days, clock) = text.trim().split_once('-').unwrap_or(("0", text.trim()));
    let mut seconds = 0.0;
    for part in clock.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(Duration::from_secs_f64(
        seconds + days.parse::<f64>().ok()? * 86_400.0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_clock_is_read() {
        assert_eq!(read_clock("1:02.50"), Some(Duration::from_millis(62_500)));
        assert_eq!(read_clock("01:00:01"), Some(Duration::from_secs(3601)));
        assert_eq!(read_clock("2-00:00:03"), Some(Duration::from_secs(172_803)));
        assert_eq!(read_clock("soon"), None);
    }

    #[test]
    fn a_row_is_read() {
        let usage = read_row(" 2048   0:01.00\n").unwrap();
        assert_eq!((usage.rss_bytes, usage.cpu.as_secs()), (2 << 20, 1));
        assert_eq!(read_row(""), None);
    }
}
