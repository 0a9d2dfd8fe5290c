//! Windows: what processes use, by a few calls each.

use std::os::windows::io::AsRawHandle;
use std::time::Duration;

use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{
    GetProcessHandleCount, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_VM_READ,
};

use super::table::{Row, open, rows, times};
use crate::tasks::worker::process::platform::kinds::Usage;

/// Four times a second: the calls are cheap, the list of all processes is the dearest of them.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// As often as a process can be looked at without disturbing it.
pub const FASTEST: Duration = Duration::from_millis(100);

/// The sum over a process and its children; `None` once it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let table = rows();
    let mut sum = of_one(table.iter().find(|row| row.pid == pid)?)?;
    // A parent's number may be a stranger's by now, so that nobody is visited twice.
    let mut seen = vec![pid];
    let mut next = 0;
    while next < seen.len() {
        let parent = seen[next];
        next += 1;
        for row in table.iter().filter(|row| row.parent == parent) {
            if !seen.contains(&row.pid) {
                seen.push(row.pid);
                if let Some(usage) = of_one(row) {
                    sum.add(&usage);
                }
            }
        }
    }
    Some(sum)
}

/// The processor time that a process and its children have used so far.
pub fn group_time(pid: u32) -> Option<Duration> {
    of(pid).map(|usage| usage.cpu)
}

/// Nothing: the system doesn't tell.
pub fn waited_for_processor(_pid: u32) -> Duration {
    Duration::ZERO
}

#[allow(unsafe_code)]
fn of_one(row: &Row) -> Option<Usage> {
    let process = open(row.pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_VM_READ)?;
    let times = times(&process)?;
    let mut memory = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: the handle lives here, and the pointer is to a local of the size that is named.
    let measured =
        unsafe { K32GetProcessMemoryInfo(process.as_raw_handle(), &raw mut memory, size) };
    let mut handles = 0;
    // SAFETY: the handle lives here, and the pointer is to a local.
    unsafe { GetProcessHandleCount(process.as_raw_handle(), &raw mut handles) };
    (measured != 0).then(|| Usage {
        cpu: Duration::from_nanos(times.used.saturating_mul(100)),
        rss_bytes: memory.WorkingSetSize as u64,
        // What the process has committed and would go to the page file: no mapped model is in it.
        anonymous_bytes: Some(memory.PagefileUsage as u64),
        threads: row.threads,
        // No process has none: where the system says so (Wine 8 does), it doesn't tell.
        open_files: (handles > 0).then_some(u64::from(handles)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_threads_and_handles() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 1 << 20, "{usage:?}");
        assert!(usage.threads >= 1, "{usage:?}");
        assert!(usage.open_files.is_none_or(|files| files >= 3), "{usage:?}");
    }
}
