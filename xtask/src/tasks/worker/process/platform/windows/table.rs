//! Windows: the process table, and who listens on a port.

use std::ffi::OsString;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{
    ERROR_INSUFFICIENT_BUFFER, FILETIME, INVALID_HANDLE_VALUE, NO_ERROR,
};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCP6ROW_OWNER_PID, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_ACCESS_RIGHTS, PROCESS_QUERY_LIMITED_INFORMATION,
};

use crate::tasks::worker::process::platform::kinds::{Listeners, Process};

/// What the system counts time in is 100 ns.
pub struct Times {
    /// When the process was started.
    pub created: u64,
    /// Its processor time so far.
    pub used: u64,
}

/// A row of the system's table.
pub struct Row {
    pub pid: u32,
    pub parent: u32,
    pub threads: u64,
    pub name: String,
}

/// Every living process. Groups and sessions are the job's business here.
pub fn processes() -> Vec<Process> {
    rows().into_iter().map(process).collect()
}

/// One process.
pub fn identify(pid: u32) -> Option<Process> {
    rows().into_iter().find(|row| row.pid == pid).map(process)
}

fn process(row: Row) -> Process {
    let handle = open(row.pid, PROCESS_QUERY_LIMITED_INFORMATION);
    // Those of the system don't tell when they were started; they aren't given away either.
    let times = handle.as_ref().and_then(times);
    Process {
        pid: row.pid,
        parent: row.parent,
        group: 0,
        session: 0,
        started: times.map_or(1, |times| times.created.max(1)),
        name: row.name,
    }
}

/// Every living process, as the system lists it.
#[allow(unsafe_code)]
pub fn rows() -> Vec<Row> {
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
        let name = entry.szExeFile.split(|&unit| unit == 0).next();
        let name = OsString::from_wide(name.unwrap_or_default());
        rows.push(Row {
            pid: entry.th32ProcessID,
            parent: entry.th32ParentProcessID,
            threads: u64::from(entry.cntThreads),
            name: name.to_string_lossy().into_owned(),
        });
        // SAFETY: as above.
        more = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    rows
}

/// A process, to ask it something; `None` where it is gone, or somebody else's.
#[allow(unsafe_code)]
pub fn open(pid: u32, rights: PROCESS_ACCESS_RIGHTS) -> Option<OwnedHandle> {
    // SAFETY: takes numbers; the result is checked before it is owned.
    let handle = unsafe { OpenProcess(rights, 0, pid) };
    // SAFETY: the handle is valid and nobody else owns it.
    (!handle.is_null()).then(|| unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// When it was started, and how long it has computed.
#[allow(unsafe_code)]
pub fn times(process: &OwnedHandle) -> Option<Times> {
    let (mut kernel, mut user) = (FILETIME::default(), FILETIME::default());
    let (mut created, mut exited) = (FILETIME::default(), FILETIME::default());
    // SAFETY: the handle lives as long as its owner, and the pointers are to locals.
    let told = unsafe {
        GetProcessTimes(
            process.as_raw_handle(),
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        )
    };
    let number =
        |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    (told != 0).then(|| Times {
        created: number(created),
        used: number(kernel).saturating_add(number(user)),
    })
}

/// Who listens on this TCP port, on any address.
pub fn listeners(port: u16) -> Listeners {
    let is_it = |local_port: u32| u16::from_be(local_port as u16) == port;
    let mut pids = Vec::new();
    for row in tcp_rows::<MIB_TCPROW_OWNER_PID>(AF_INET.into()) {
        if is_it(row.dwLocalPort) {
            pids.push(row.dwOwningPid);
        }
    }
    for row in tcp_rows::<MIB_TCP6ROW_OWNER_PID>(AF_INET6.into()) {
        if is_it(row.dwLocalPort) {
            pids.push(row.dwOwningPid);
        }
    }
    if pids.is_empty() {
        return Listeners::Nobody;
    }
    let holders = processes().into_iter();
    let holders: Vec<_> = holders.filter(|it| pids.contains(&it.pid)).collect();
    if holders.is_empty() {
        Listeners::Unknown
    } else {
        Listeners::Known(holders)
    }
}

/// Every socket of this family that listens. `R` is the row of its table.
#[allow(unsafe_code)]
fn tcp_rows<R: Copy>(family: u32) -> Vec<R> {
    // Aligned as the rows are, whose largest fields have 32 bits.
    let mut table: Vec<u32> = Vec::new();
    loop {
        let mut size = size_of_val(table.as_slice()) as u32;
        // SAFETY: the pointer is to as many bytes as are named, or to none.
        let told = unsafe {
            GetExtendedTcpTable(
                table.as_mut_ptr().cast(),
                &raw mut size,
                0,
                family,
                TCP_TABLE_OWNER_PID_LISTENER,
                0,
            )
        };
        match told {
            NO_ERROR => break,
            ERROR_INSUFFICIENT_BUFFER => table.resize((size as usize).div_ceil(4) + 256, 0),
            _ => return Vec::new(),
        }
    }
    // How many rows there are, and then the rows.
    let Some((&count, rows)) = table.split_first() else {
        return Vec::new();
    };
    let room = size_of_val(rows) / size_of::<R>();
    // SAFETY: so many rows of numbers lie within the table, aligned to 32 bits as each field is.
    unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), (count as usize).min(room)) }.to_vec()
}
