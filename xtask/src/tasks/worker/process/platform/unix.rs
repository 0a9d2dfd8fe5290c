//! What Linux and macOS have in common: process groups, sessions, signals, exit states.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getpid, getppid, getrlimit,
    kill_process as send_signal, kill_process_group, setrlimit, setsid, waitid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::kinds::{GroupSignal, ILLEGAL_INSTRUCTION, MISSING_LIBRARY, Process};
#[cfg(target_os = "linux")]
use super::linux as system;
#[cfg(not(target_os = "linux"))]
use super::macos as system;

/// The kernel doesn't end a group when we do, so a process that outlives us has to.
pub const NEEDS_REAPER: bool = true;

/// Allows this process so many open files, as far as it may decide that itself, and gives how many it
/// may have. What it starts later inherits it.
pub fn allow_open_files(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let most = limit.maximum.unwrap_or(wanted);
        let current = Some(wanted.min(most));
        // Where it is refused, opening a file too many says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What ties a group to us beyond its number: nothing, on Unix.
#[derive(Debug)]
pub struct Leash;

impl Leash {
    /// Ties a child, just after it was started.
    pub fn tie(_child: &Child) -> io::Result<Self> {
        Ok(Self)
    }
}

/// Makes the child the leader of a group of its own which, on Linux, dies with the thread that
/// starts it: that has to be one that lives as long as we do.
pub fn prepare_leader(command: &mut Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = getpid();
        in_child(command, move || die_with(parent, Signal::KILL));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (getpid, getppid);
}

/// Makes the child a run that we supervise. It is asked to stop when we end, and a terminal's keys
/// reach it through us alone: as the leader of a group of its own it gets each of them once.
pub fn prepare_supervised(command: &mut Command) {
    command.process_group(0);
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    #[cfg(target_os = "linux")]
    {
        let parent = getpid();
        in_child(command, move || die_with(parent, Signal::TERM));
    }
}

/// Has the kernel send this signal to a fresh child when its parent ends.
#[cfg(target_os = "linux")]
fn die_with(parent: Pid, signal: Signal) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    // Who died before the line above can't send the signal any more.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Makes the child the leader of a session of its own: no terminal and no group signal reaches it.
pub fn detach(command: &mut Command) {
    command.arg0("xtask");
    in_child(command, || Ok(setsid().map(|_| ())?));
}

/// Runs `step` in the child between fork and exec.
#[allow(unsafe_code)]
fn in_child(command: &mut Command, step: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. Both callers make
    // plain system calls (prctl, getppid, setsid): no allocation, no lock, no panic.
    unsafe { command.pre_exec(step) };
}

/// Frees a fresh process of what it inherited: signals don't end it, and it holds no file of
/// whoever started it except its standard ones. Has to be called before anything is opened.
#[allow(unsafe_code)]
pub fn become_reaper() -> io::Result<()> {
    let inherited: Vec<i32> = std::fs::read_dir("/dev/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    // The listing's own file is closed already, and nothing may be closed twice.
    let is_open = |fd: &i32| std::fs::symlink_metadata(format!("/dev/fd/{fd}")).is_ok();
    for fd in inherited.into_iter().filter(is_open) {
        // SAFETY: this process has just begun and owns no file beyond the standard ones, so
        // nothing in it can use this number.
        unsafe { rustix::io::close(fd) };
    }
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // A handler that only sets a flag that nobody reads: the signal is without effect.
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    std::env::set_current_dir("/")
}

/// Writes a program at `path` that runs a script, and gives its path.
pub fn write_launcher(path: &Path, interpreter: &Command, script: &Path) -> io::Result<PathBuf> {
    let mut text = String::from("#!/bin/sh\nexec");
    let words = [interpreter.get_program()].into_iter();
    for word in words
        .chain(interpreter.get_args())
        .chain([script.as_os_str()])
    {
        let quoted = word.to_string_lossy().replace('\'', r"'\''");
        text += &format!(" '{quoted}'");
    }
    text += " \"$@\"\n";
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))?;
    Ok(path.to_owned())
}

/// Makes `name` in this folder stand for its member `target`, in one step, so that nobody ever finds
/// it missing or half made. `beside` is a name that nobody else uses.
pub fn point_to(folder: &Path, name: &str, target: &str, beside: &str) -> io::Result<()> {
    let beside = folder.join(beside);
    std::os::unix::fs::symlink(target, &beside)?;
    std::fs::rename(&beside, folder.join(name))
}

/// Calls `handle` with the number of each signal that asks us to end. One that was ignored when we
/// were started, as by `nohup`, stays ignored.
pub fn on_stop_signal(mut handle: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter();
    let mut signals = Signals::new(heeded.filter(|signal| !is_ignored(*signal)))?;
    // Beyond the limit for files a write fails and says so, where the signal would end us. What we
    // start doesn't inherit this.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    std::thread::Builder::new()
        .name(String::from("signals"))
        .spawn(move || signals.forever().for_each(&mut handle))?;
    Ok(())
}

/// Whether this process ignores a signal.
#[allow(unsafe_code)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: a structure of numbers, an address and a mask, for which zeroes are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and what is set now is written to a local of the right type.
    let told = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    told == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Whether it is we who lack something: descriptors, memory, a port to connect from.
pub fn is_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    code.is_some_and(|code| wants.contains(&code))
}

/// Ends this process at once: nothing is flushed, and nothing can hold it up.
pub fn exit_now(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

/// How the child ended, if it did. It stays a zombie, so that nobody else gets its number.
pub fn peek_exit(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    look_at_exit(child, WaitIdOptions::NOHANG)
}

/// Waits for the child's end. It stays a zombie, so that nobody else gets its number.
pub fn await_exit(child: &mut Child) -> io::Result<()> {
    look_at_exit(child, WaitIdOptions::empty()).map(drop)
}

fn look_at_exit(child: &Child, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
    let Some(pid) = Pid::from_raw(child.id() as i32) else {
        return Ok(None);
    };
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let waited = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options));
    let Some(status) = waited? else {
        return Ok(None);
    };
    // As wait(2) packs them.
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, Some(signal)) => signal,
        (None, None) => return Ok(None),
    };
    Ok(Some(ExitStatus::from_raw(raw)))
}

/// Whether the process is in the group.
pub fn is_member(_leash: &Leash, group: u32, process: &Process) -> bool {
    process.group == group
}

/// The living processes of a group.
pub fn members(_leash: &Leash, group: u32) -> Vec<Process> {
    system::members(group)
}

/// Sends every member of the group a signal.
pub fn tell_group(group: u32, signal: GroupSignal) {
    let signal = match signal {
        GroupSignal::Terminate => Signal::TERM,
        GroupSignal::Interrupt => Signal::INT,
        GroupSignal::Freeze => Signal::STOP,
        GroupSignal::Thaw => Signal::CONT,
    };
    signal_group(group, signal);
}

/// Kills every member of the group.
pub fn kill_group(_leash: Option<&Leash>, group: u32) {
    signal_group(group, Signal::KILL);
}

/// Asks one process to stop.
pub fn ask_process_to_stop(pid: u32) {
    signal_process(pid, Signal::TERM);
}

/// Kills one process.
pub fn kill_process(pid: u32) {
    signal_process(pid, Signal::KILL);
}

/// "exit status 1" or "killed by SIGSEGV".
pub fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => status.to_string(),
    }
}

/// Whether it ended by the signal that asked it to stop: one that it raised again when it was done, as
/// many servers do, and told on by a shell or not.
pub fn is_end_by_request(status: ExitStatus) -> bool {
    [Signal::TERM, Signal::INT]
        .map(Signal::as_raw)
        .into_iter()
        .any(|signal| status.signal() == Some(signal) || status.code() == Some(128 + signal))
}

/// What the machine lacks for a program that ended like this, where its end tells.
pub fn lacked_by_machine(status: ExitStatus) -> Option<&'static str> {
    match (status.code(), status.signal()) {
        (None, Some(signal)) if signal == Signal::ILL.as_raw() => Some(ILLEGAL_INSTRUCTION),
        // By the dynamic loader as well as by shells.
        (Some(127), _) => Some(MISSING_LIBRARY),
        _ => None,
    }
}

fn signal_name(number: i32) -> String {
    let named = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::SYS, "SIGSYS"),
    ];
    let found = named.iter().find(|(signal, _)| signal.as_raw() == number);
    found.map_or_else(
        || format!("signal {number}"),
        |(_, name)| (*name).to_owned(),
    )
}

/// Fails when nobody is left, which is what we want.
fn signal_group(group: u32, signal: Signal) {
    // The numbers 0 and 1 would mean ourselves and everybody.
    if let Some(group) = Pid::from_raw(group as i32).filter(|_| group > 1) {
        let _ = kill_process_group(group, signal);
    }
}

/// Whose child we are.
pub fn parent_id() -> u32 {
    std::os::unix::process::parent_id()
}

/// Hands a signal on.
pub fn pass_on(pid: u32, signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        signal_process(pid, signal);
    }
}

/// The exit code that a shell gives for such an end.
pub fn exit_code(status: ExitStatus) -> u8 {
    let killed = status.signal().map(|signal| 128 + signal);
    status.code().or(killed).unwrap_or(1) as u8
}

fn signal_process(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32).filter(|_| pid > 1) {
        let _ = send_signal(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_known() {
        // Rust ignores SIGPIPE before `main`, and nobody has asked for SIGUSR2.
        assert!(is_ignored(signal_hook::consts::SIGPIPE));
        assert!(!is_ignored(signal_hook::consts::SIGUSR2));
    }

    #[test]
    fn an_end_is_told_by_name() {
        assert_eq!(describe_exit(ExitStatus::from_raw(11)), "killed by SIGSEGV");
        assert_eq!(describe_exit(ExitStatus::from_raw(3 << 8)), "exit status 3");
    }

    #[test]
    fn an_end_by_the_signal_that_asked_is_known() {
        for (raw, is_end_by) in [
            (15, true),
            (2, true),
            (143 << 8, true),
            (9, false),
            (0, false),
        ] {
            assert_eq!(
                is_end_by_request(ExitStatus::from_raw(raw)),
                is_end_by,
                "{raw}"
            );
        }
    }

    #[test]
    fn an_end_can_be_seen_without_giving_the_number_away() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let began = std::time::Instant::now();
        let status = loop {
            if let Some(status) = peek_exit(&mut child).unwrap() {
                break status;
            }
            assert!(began.elapsed().as_secs() < 60, "sh did not end");
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(7));
        assert_eq!(peek_exit(&mut child).unwrap(), Some(status));
        assert_eq!(child.wait().unwrap(), status);
    }
}
