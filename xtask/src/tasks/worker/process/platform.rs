//! What operating systems do each in their own way: process groups, signals, the process table,
//! who listens on a port, what a process uses, what the machine is. Nothing outside this module asks which system it runs on for these.
//!
//! Every system offers the same functions. The `unsafe` of the xtask lives in here and nowhere else.

mod kinds;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

pub use self::kinds::{GroupSignal, Listeners, Process};
#[cfg(target_os = "linux")]
pub use self::linux::{
    ADOPTS_ORPHANS, GPU_LISTS, GPU_NODES, HAS_METAL, SHOWS_GPUS, adopt_orphans, identify,
    listeners, machine, marks, own_executable, processes, reap, usage, zombies,
};
#[cfg(all(unix, not(target_os = "linux")))]
pub use self::macos::{
    ADOPTS_ORPHANS, GPU_LISTS, GPU_NODES, HAS_METAL, SHOWS_GPUS, adopt_orphans, identify,
    listeners, machine, marks, own_executable, processes, reap, usage, zombies,
};
#[cfg(unix)]
pub use self::unix::{
    Leash, NEEDS_REAPER, allow_open_files, ask_process_to_stop, await_exit, become_reaper,
    describe_exit, detach, exit_code, exit_now, is_end_by_request, is_member, is_want, kill_group,
    kill_process, lacked_by_machine, members, on_stop_signal, parent_id, pass_on, peek_exit,
    point_to, prepare_leader, prepare_supervised, tell_group, write_launcher,
};
#[cfg(windows)]
pub use self::windows::{
    ADOPTS_ORPHANS, GPU_LISTS, GPU_NODES, HAS_METAL, Leash, NEEDS_REAPER, SHOWS_GPUS,
    adopt_orphans, allow_open_files, ask_process_to_stop, await_exit, become_reaper, describe_exit,
    detach, exit_code, exit_now, identify, is_end_by_request, is_member, is_want, kill_group,
    kill_process, lacked_by_machine, listeners, machine, marks, members, on_stop_signal,
    own_executable, parent_id, pass_on, peek_exit, point_to, prepare_leader, prepare_supervised,
    processes, reap, tell_group, usage, write_launcher, zombies,
};

/// How Python is installed here.
pub const INSTALL_PYTHON: &str = if cfg!(target_os = "windows") {
    "winget install Python.Python.3.13"
} else if cfg!(target_os = "macos") {
    "brew install python3"
} else {
    "sudo apt-get install python3 (Debian, Ubuntu) or sudo dnf install python3 (Fedora)"
};

/// Whether processes can be sent signals.
pub const HAS_SIGNALS: bool = cfg!(unix);

/// Whether a script whose first line names its interpreter is a program.
pub const STARTS_SCRIPTS: bool = cfg!(unix);

/// How pip is installed, where Python has none.
pub const PIP_INSTALL: &str = if cfg!(target_os = "linux") {
    "sudo apt-get install python3-pip (Debian, Ubuntu) or sudo dnf install python3-pip (Fedora)"
} else {
    "python3 -m ensurepip"
};

/// Whether a folder has to be flushed before a new name in it survives a power cut. Windows has no
/// such call, and needs none.
pub const FLUSHES_FOLDERS: bool = cfg!(unix);

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
        // A process that another test is starting holds a copy until it runs its own program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while listeners(port) == Listeners::Unknown && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(listeners(port), Listeners::Nobody);
    }
}
