//! Windows: what processes use, by a few calls each.

use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::{FILETIME, INVALID_HANDLE_VALUE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{
    GetProcessHandleCount, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_VM_READ,
};

use crate::tasks::worker::process::platform::kinds::Usage;

/// Four times a second: the calls are cheap, the list of all processes is the dearest of them.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// As often as a process can be looked at without disturbing it.
pub const FASTEST: Duration = Duration::from_millis(100);

/// A row of the process table.
struct ProcessRow {
    pid: u32,
    parent: u32,
    threads: u64,
}

/// The sum over a process and its children; `None` once it is gone.
pub fn of(pid: u32) -> Option<Usage> {
    let table = table();
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
fn table() -> Vec<ProcessRow> {
    // SAFETY: takes numbers; the result is checked before it is owned.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Vec::new();
    }
    // SAFETY: the handle is valid and nobody else owns it.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut entry = PROCESSENTRY32W {
        dwSize: size_of::<PROCESSENTRY32W>() as u32,
        ..Default::default()
    };
    let mut rows = Vec::new();
    // SAFETY: the handle lives here, and the pointer is to a local of the size that it names.
    let mut more = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        rows.push(ProcessRow {
            pid: entry.th32ProcessID,
            parent: entry.th32ParentProcessID,
            threads: u64::from(entry.cntThreads),
        });
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    rows
}

#[allow(unsafe_code)]
fn of_one(row: &ProcessRow) -> Option<Usage> {
    let rights = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_VM_READ;
    // SAFETY: takes numbers; the result is checked before it is owned.
    let handle = unsafe { OpenProcess(rights, 0, row.pid) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: the handle is valid and nobody else owns it.
    let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
    let process = handle.as_raw_handle();
    let (mut kernel, mut user) = (FILETIME::default(), FILETIME::default());
    let (mut created, mut exited) = (FILETIME::default(), FILETIME::default());
    // SAFETY: the handle lives here, and the pointers are to locals.
    let timed = unsafe {
        GetProcessTimes(
            process,
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        )
    };
    let mut memory = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: the handle lives here, and the pointer is to a local of the size that is named.
    let measured = unsafe { K32GetProcessMemoryInfo(process, &raw mut memory, size) };
    if timed == 0 || measured == 0 {
        return None;
    }
    let mut handles = 0;
    // SAFETY: the handle lives here, and the pointer is to a local.
    let counted = unsafe { GetProcessHandleCount(process, &raw mut handles) };
    Some(Usage {
        cpu: duration(kernel) + duration(user),
        rss_bytes: memory.WorkingSetSize as u64,
        // What the process has committed and would go to the page file: no mapped model is in it.
        anonymous_bytes: Some(memory.PagefileUsage as u64),
        threads: row.threads,
        open_files: (counted != 0).then_some(u64::from(handles)),
    })
}

/// In steps of 100 ns, in two halves.
fn duration(time: FILETIME) -> Duration {
    let steps = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(steps.saturating_mul(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_threads_and_handles() {
        let usage = of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 1 << 20, "{usage:?}");
        assert!(
            usage.threads >= 1 && usage.open_files.unwrap() >= 3,
            "{usage:?}"
        );
    }
}
