//! Linux: everything about processes is a file under `/proc`.

pub mod machine;
pub mod usage;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use super::kinds::{Listeners, Process};

/// Whether a process that loses its parent can be made ours.
pub const ADOPTS_ORPHANS: bool = true;

/// Whether the system has Metal.
pub const HAS_METAL: bool = false;

/// Where an NVIDIA driver shows its devices.
pub const GPU_NODES: &[&str] = &[
    "/dev/nvidiactl",
    "/dev/nvidia0",
    "/dev/nvhost-gpu",
    "/dev/dxg",
];

/// Folders in which it lists them.
pub const GPU_LISTS: &[&str] = &["/proc/driver/nvidia/gpus"];

/// Whether a device that can be used is always shown in one of these places, or by the driver's tool.
pub const SHOWS_GPUS: bool = true;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The binary that runs, even where its file has been replaced by a new build.
pub fn own_executable() -> std::io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}

/// Every living process.
pub fn processes() -> Vec<Process> {
    pids().filter_map(process).collect()
}

/// The living processes of a group.
pub fn members(group: u32) -> Vec<Process> {
    in_group(group).filter_map(process).collect()
}

/// One process, even where it has ended and nobody has reaped it yet.
pub fn identify(pid: u32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|(process, _)| process)
}

/// From now on whoever descends from us and loses its parent becomes our child, whatever it did to
/// its group, its session and its environment.
pub fn adopt_orphans() -> std::io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Lets go of a child of ours, if it has ended.
pub fn reap(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Our children that have ended and that nobody has let go of yet.
pub fn zombies() -> Vec<u32> {
    let us = std::process::id();
    let is_ours = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        parse_stat(&stat).is_some_and(|(process, lives)| process.parent == us && !lives)
    };
    children(us).into_iter().filter(is_ours).collect()
}

/// The children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = threads.into_iter().flatten().flatten();
    let lists = lists.map(|thread| fs::read_to_string(thread.path().join("children")));
    let numbers = |list: String| -> Vec<u32> {
        let words = list.split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    lists.flatten().flat_map(numbers).collect()
}

/// The processes that were started with this variable in their environment, and its values.
pub fn marks(name: &str) -> HashMap<u32, String> {
    let mark = |pid: u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environ.split(|&byte| byte == 0);
        variables.find_map(|variable| {
            let value = variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some((pid, String::from_utf8_lossy(value).into_owned()))
        })
    };
    pids().filter_map(mark).collect()
}

/// Who listens on this TCP port, on any address.
pub fn listeners(port: u16) -> Listeners {
    let sockets: HashSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| File::open(table).ok())
        .flat_map(|table| listening_sockets(BufReader::new(table), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return Listeners::Nobody;
    }
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|target| sockets.contains(target.to_string_lossy().as_ref()))
        })
    };
    let holders: Vec<_> = pids().filter(holds).filter_map(process).collect();
    if holders.is_empty() {
        Listeners::Unknown
    } else {
        Listeners::Known(holders)
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Everybody in a group, zombies too. To ask for each one's group takes a hundredth of the time that
/// reading each one's file does, and a machine may have a thousand processes.
#[allow(unsafe_code)]
fn in_group(group: u32) -> impl Iterator<Item = u32> {
    // SAFETY: it takes a number and gives a number, whoever has it.
    let group_of = |pid: u32| unsafe { libc::getpgid(pid as libc::pid_t) };
    pids().filter(move |&pid| group_of(pid) == group as libc::pid_t)
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat).and_then(|(process, lives)| lives.then_some(process))
}

/// One `/proc/PID/stat`, and whether it lives. The name may contain spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(Process, bool)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let lives = !matches!(*fields.first()?, "Z" | "X");
    // Numbered from 3, the state, as in proc_pid_stat(5).
    let number = |field: usize| -> Option<u64> { fields.get(field - 3)?.parse().ok() };
    let process = Process {
        pid: pid.parse().ok()?,
        parent: number(4)? as u32,
        group: number(5)? as u32,
        session: number(6)? as u32,
        started: number(22)?,
        name: name.to_owned(),
    };
    Some((process, lives))
}

/// The sockets that listen on a port. The kernel lists those that listen first: what follows may be
/// thousands of closed connections, and isn't read.
fn listening_sockets(table: impl BufRead, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let mut sockets = Vec::new();
    for row in table.lines().skip(1).map_while(Result::ok) {
        let fields: Vec<_> = row.split_ascii_whitespace().collect();
        let (Some(address), Some(&LISTEN), Some(inode)) =
            (fields.get(1), fields.get(3), fields.get(9))
        else {
            break;
        };
        if address.ends_with(&port) {
            sockets.push((*inode).to_owned());
        }
    }
    sockets
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "42 (a) b (c)) S 1 42 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987 1 1 1";
        let (process, lives) = parse_stat(stat).unwrap();
        assert!(lives);
        assert_eq!(process.name, "a) b (c)");
        assert_eq!(
            (process.pid, process.parent, process.group, process.session),
            (42, 1, 42, 7)
        );
        assert_eq!(process.started, 987);
        let zombie = parse_stat(&stat.replace(" S ", " Z "));
        assert_eq!(zombie, Some((process, false)));
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
               0: 0100007F:46A1 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
               1: 00000000:46A2 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n\
               2: 0100007F:46A1 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n";
        let sockets = |port| listening_sockets(table.as_bytes(), port);
        assert_eq!(sockets(0x46A1), ["111"]);
        assert_eq!(sockets(0x46A2), ["333"]);
        assert!(sockets(0x46A3).is_empty());
    }

    #[test]
    fn those_that_listen_come_first_in_the_systems_own_list() {
        let earlier = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = earlier.local_addr().unwrap();
        let connection = TcpStream::connect(address).unwrap();
        let accepted = earlier.accept().unwrap();
        let later = TcpListener::bind("127.0.0.1:0").unwrap();
        drop((connection, accepted));
        for listener in [earlier, later] {
            let port = listener.local_addr().unwrap().port();
            assert!(matches!(listeners(port), Listeners::Known(_)), "{port}");
        }
    }
}
