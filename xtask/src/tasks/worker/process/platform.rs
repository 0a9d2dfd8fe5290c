//! What operating systems do each in their own way: process groups, signals, the process table,
//! who listens on a port, what a process uses, what the machine is. Nothing outside this module asks which system it runs on for these.
//!
//! Every system offers the same functions. The `unsafe` of the xtask lives in here and nowhere else.

use std::time::Duration;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use self::linux::{identify, listeners, machine, marks, own_executable, processes, usage};
#[cfg(all(unix, not(target_os = "linux")))]
pub use self::macos::{identify, listeners, machine, marks, own_executable, processes, usage};
#[cfg(unix)]
pub use self::unix::{
    Leash, NEEDS_REAPER, allow_open_files, ask_process_to_stop, become_reaper, describe_exit,
    detach, exit_now, is_member, kill_group, kill_process, on_stop_signal, peek_exit, point_to,
    prepare_leader, tell_group, write_launcher,
};
#[cfg(windows)]
pub use self::windows::{
    Leash, NEEDS_REAPER, allow_open_files, ask_process_to_stop, become_reaper, describe_exit,
    detach, exit_now, identify, is_member, kill_group, kill_process, listeners, machine, marks,
    on_stop_signal, own_executable, peek_exit, point_to, prepare_leader, processes, tell_group,
    usage, write_launcher,
};

/// Whether processes can be sent signals.
pub const HAS_SIGNALS: bool = cfg!(unix);

/// Whether a script whose first line names its interpreter is a program.
pub const STARTS_SCRIPTS: bool = cfg!(unix);

/// What a group can be told besides its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupSignal {
    /// To stop, as an orchestrator asks.
    Terminate,
    /// To stop, as Ctrl-C asks.
    Interrupt,
    /// To stand still. It can't refuse.
    Freeze,
    /// To go on after it stood still.
    Thaw,
}

/// What a process and its children have used at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time so far.
    pub cpu: Duration,
    /// Resident memory, files that are mapped included.
    pub rss_bytes: u64,
    /// Anonymous memory and swap; `None` where the system doesn't tell them apart.
    pub anonymous_bytes: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets; `None` where the system doesn't tell.
    pub open_files: Option<u64>,
}

#[cfg_attr(
    all(unix, not(target_os = "linux")),
    expect(dead_code, reason = "one process at a time is told there")
)]
impl Usage {
    /// Adds what a child has used. What isn't known of one isn't known of all.
    fn add(&mut self, child: &Usage) {
        let both = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
        self.cpu += child.cpu;
        self.rss_bytes += child.rss_bytes;
        self.threads += child.threads;
        self.open_files = both(self.open_files, child.open_files);
        self.anonymous_bytes = both(self.anonymous_bytes, child.anonymous_bytes);
    }
}

/// A living process, as the process table shows it. A zombie is not alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's number.
    pub parent: u32,
    /// The number of its process group.
    pub group: u32,
    /// The number of its session; 0 where the platform doesn't tell.
    pub session: u32,
    /// When it was started, in the platform's own unit: only good for comparing.
    pub started: u64,
    /// The name of its program.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Who listens on a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listeners {
    /// Nobody.
    Nobody,
    /// Somebody, and the platform doesn't tell who.
    Unknown,
    /// These.
    Known(Vec<Process>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_see_ourselves_in_the_process_table() {
        let table = processes();
        let me = table
            .iter()
            .find(|process| process.pid == std::process::id())
            .expect("this process is in the table");
        assert!(me.started > 0, "{me:?}");
        assert!(!me.name.is_empty(), "{me:?}");
    }

    #[test]
    fn the_holder_of_a_port_is_named_until_it_is_gone() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        match listeners(port) {
            Listeners::Known(holders) => {
                let pids: Vec<_> = holders.iter().map(|holder| holder.pid).collect();
                assert_eq!(pids, [std::process::id()]);
            }
            other => assert_ne!(other, Listeners::Nobody),
        }
        drop(listener);
        assert_eq!(listeners(port), Listeners::Nobody);
    }
}
