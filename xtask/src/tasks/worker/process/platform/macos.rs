//! macOS, and any Unix that isn't Linux: `ps` and `lsof` tell about processes.

pub mod machine;
pub mod usage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::kinds::{Listeners, Process};

/// Whether the system has Metal.
pub const HAS_METAL: bool = true;

/// Where an NVIDIA driver shows its devices.
pub const GPU_NODES: &[&str] = &[];

/// Folders in which it lists them.
pub const GPU_LISTS: &[&str] = &[];

/// Whether a device that can be used is always shown in one of these places, or by the driver's tool.
pub const SHOWS_GPUS: bool = true;

/// Whether a process that loses its parent can be made ours.
pub const ADOPTS_ORPHANS: bool = false;

/// There is no way to adopt anybody here.
pub fn adopt_orphans() -> std::io::Result<()> {
    Ok(())
}

/// There is nobody whom we have adopted.
pub fn reap(_pid: u32) {}

/// There is nobody whom we have adopted.
pub fn zombies() -> Vec<u32> {
    Vec::new()
}

/// The binary that runs.
pub fn own_executable() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// What `ps` is asked for; see [`parse_row`].
const COLUMNS: [&str; 6] = ["pid=", "ppid=", "pgid=", "stat=", "lstart=", "comm="];

/// The living processes of a group.
pub fn members(group: u32) -> Vec<Process> {
    let table = processes().into_iter();
    table.filter(|process| process.group == group).collect()
}

/// Every living process.
pub fn processes() -> Vec<Process> {
    let table = ps(&["-ax"], &COLUMNS);
    let rows = table.lines().filter_map(parse_row);
    rows.filter_map(|(process, lives)| lives.then_some(process))
        .collect()
}

/// One process, even where it has ended and nobody has reaped it yet.
pub fn identify(pid: u32) -> Option<Process> {
    let row = ps(&["-p", &pid.to_string()], &COLUMNS);
    parse_row(&row).map(|(process, _)| process)
}

/// The processes that were started with this variable in their environment, and its values. The system
/// keeps the environment of its own programs (`/bin/sleep`) to itself.
pub fn marks(name: &str) -> HashMap<u32, String> {
    let table = ps(&["-axE"], &["pid=", "command="]);
    let mark = |row: &str| {
        let mut words = row.split_ascii_whitespace();
        let pid = words.next()?.parse().ok()?;
        let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        Some((pid, value.to_owned()))
    };
    table.lines().filter_map(mark).collect()
}

/// Who listens on this TCP port, on any address.
pub fn listeners(port: u16) -> Listeners {
    let address = format!("-iTCP:{port}");
    let found = output("lsof", &["-nP", &address, "-sTCP:LISTEN", "-Fp"]);
    let pids: Vec<u32> = found
        .lines()
        .filter_map(|line| line.strip_prefix('p')?.parse().ok())
        .collect();
    if pids.is_empty() {
        // `lsof` shows only our own user's processes; whoever else is there answers a knock.
        let taken = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        return if taken {
            Listeners::Unknown
        } else {
            Listeners::Nobody
        };
    }
    let table = processes();
    let holders = table.into_iter().filter(|p| pids.contains(&p.pid));
    Listeners::Known(holders.collect())
}

/// What `ps` says about those whom it is asked for, in these columns, whole and without a header.
fn ps(whom: &[&str], columns: &[&str]) -> String {
    // Without "ww" rows end after 79 characters. What follows a column's "=" is its header, commas
    // included, on every system but macOS: each column is an option of its own.
    let columns = columns.iter().flat_map(|column| ["-o", column]);
    let arguments: Vec<&str> = whom.iter().copied().chain(["-ww"]).chain(columns).collect();
    output("ps", &arguments)
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// `PID PPID PGID STAT Sat Jan 31 10:54:23 2026 NAME`, and whether it lives.
fn parse_row(row: &str) -> Option<(Process, bool)> {
    let mut words = row.split_ascii_whitespace();
    let mut number = || words.next()?.parse().ok();
    let (pid, parent, group) = (number()?, number()?, number()?);
    let lives = !words.next()?.starts_with('Z');
    let clock: Vec<_> = words.by_ref().take(5).collect();
    let started = chrono::NaiveDateTime::parse_from_str(&clock.join(" "), "%a %b %d %H:%M:%S %Y");
    let path = words.collect::<Vec<_>>().join(" ");
    let process = Process {
        pid,
        parent,
        group,
        session: 0,
        started: started.ok()?.and_utc().timestamp() as u64,
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    Some((process, lives))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_ps_is_read() {
        let row = "  501   1   500 S+   Sat Jan  3 10:54:23 2026     /usr/bin/my tool";
        let (process, lives) = parse_row(row).unwrap();
        assert!(lives);
        assert_eq!((process.pid, process.parent, process.group), (501, 1, 500));
        assert_eq!(process.name, "my tool");
        let zombie = parse_row(&row.replace("S+", "Z "));
        assert_eq!(zombie, Some((process, false)));
    }
}
