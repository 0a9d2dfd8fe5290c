//! Windows: a job object ends all that a child started, also when we are killed.

pub mod machine;
mod table;
pub mod usage;

pub use self::table::{identify, listeners, processes};

use std::collections::HashMap;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, OnceLock};

use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, IsProcessInJob, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject, TerminateJobObject,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, PROCESS_QUERY_INFORMATION, WaitForSingleObject,
};
use windows_sys::core::BOOL;

use super::kinds::{GroupSignal, ILLEGAL_INSTRUCTION, MISSING_LIBRARY, Process};

/// Whether the system has Metal.
pub const HAS_METAL: bool = false;

/// Where an NVIDIA driver shows its devices.
pub const GPU_NODES: &[&str] = &[];

/// Folders in which it lists them.
pub const GPU_LISTS: &[&str] = &[];

/// Whether a device that can be used is always shown in one of these places, or by the driver's tool.
pub const SHOWS_GPUS: bool = false;

/// Whether a process that loses its parent can be made ours.
pub const ADOPTS_ORPHANS: bool = false;

/// There is no way to adopt anybody here.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(())
}

/// There is nobody whom we have adopted.
pub fn reap(_pid: u32) {}

/// There is nobody whom we have adopted.
pub fn zombies() -> Vec<u32> {
    Vec::new()
}

/// The kernel closes our handles when we end, and with them the jobs.
pub const NEEDS_REAPER: bool = false;

/// Windows has no limit of open files that would be in the way.
pub fn allow_open_files(_wanted: u64) -> u64 {
    u64::MAX
}

/// What signals are called elsewhere, for exit codes that are the same on every system.
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// A job object that kills its members when its only handle is closed.
#[derive(Debug)]
pub struct Leash {
    job: OwnedHandle,
}

impl Leash {
    /// Ties a child, just after it was started, and all that it will start.
    #[allow(unsafe_code)]
    pub fn tie(child: &Child) -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked before it is owned.
        let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is valid and nobody else owns it.
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        // SAFETY: a structure of numbers, for which zeroes mean "no limit".
        let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { std::mem::zeroed() };
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        // SAFETY: the pointer is to a structure of the class and the size that are named.
        let limited = unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                std::ptr::from_ref(&limits).cast(),
                size_of_val(&limits) as u32,
            )
        };
        check(limited)?;
        // SAFETY: both handles are valid as long as their owners, which live here.
        let tied =
            check(unsafe { AssignProcessToJobObject(job.as_raw_handle(), child.as_raw_handle()) });
        // One that has ended already can't be tied, and needs not.
        // SAFETY: the handle is valid as long as the child, which is borrowed here.
        if unsafe { WaitForSingleObject(child.as_raw_handle(), 0) } != WAIT_OBJECT_0 {
            tied?;
        }
        Ok(Self { job })
    }
}

/// Makes the child the leader of a group that Ctrl-Break can be sent to.
pub fn prepare_leader(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// There is no supervisor here.
pub fn prepare_supervised(_command: &mut Command) {}

/// There is no supervisor here.
pub fn parent_id() -> u32 {
    0
}

/// There is no supervisor here.
pub fn pass_on(_pid: u32, _signal: i32) {}

/// Waits for the child's end.
pub fn await_exit(child: &mut Child) -> io::Result<()> {
    child.wait().map(drop)
}

/// The exit code of such an end.
pub fn exit_code(status: ExitStatus) -> u8 {
    status.code().unwrap_or(1) as u8
}

/// There is no reaper that would have to be detached.
pub fn detach(_command: &mut Command) {}

/// There is no reaper to become.
pub fn become_reaper() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The binary that runs.
pub fn own_executable() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Writes a program beside `path` that runs a script, and gives its path.
pub fn write_launcher(path: &Path, interpreter: &Command, script: &Path) -> io::Result<PathBuf> {
    let path = path.with_extension("cmd");
    let mut text = String::from("@");
    let words = [interpreter.get_program()].into_iter();
    for word in words
        .chain(interpreter.get_args())
        .chain([script.as_os_str()])
    {
        text += &format!("\"{}\" ", word.to_string_lossy());
    }
    text += "%*\r\n";
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Makes `name` in this folder stand for its member `target`, in one step: a text file, since links
/// take a privilege here. `beside` is a name that nobody else uses.
pub fn point_to(folder: &Path, name: &str, target: &str, beside: &str) -> io::Result<()> {
    let beside = folder.join(beside);
    std::fs::write(&beside, format!("{target}\n"))?;
    std::fs::rename(&beside, folder.join(name))
}

type Handler = Mutex<Box<dyn FnMut(i32) + Send>>;

static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Calls `handle` when Ctrl-C or Ctrl-Break is pressed, or the console is closed.
#[allow(unsafe_code)]
pub fn on_stop_signal(handle: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let _ = HANDLER.set(Mutex::new(Box::new(handle)));
    // SAFETY: the handler is a plain function that lives for ever.
    check(unsafe { SetConsoleCtrlHandler(Some(on_console_event), 1) })
}

/// Runs on a thread that the system makes for each event.
#[allow(unsafe_code)]
unsafe extern "system" fn on_console_event(event: u32) -> BOOL {
    let pressed = matches!(event, CTRL_C_EVENT | CTRL_BREAK_EVENT);
    if let Some(handler) = HANDLER.get() {
        let mut handle = handler.lock().unwrap_or_else(|p| p.into_inner());
        handle(if pressed { SIGINT } else { SIGTERM });
    }
    if !pressed {
        // A console that closes ends us as soon as this returns; the clean-up needs the time.
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
    1
}

/// Whether it is we who lack something: sockets, memory, a port to connect from.
pub fn is_want(error: &io::Error) -> bool {
    // WSAEMFILE, WSAENOBUFS, WSAEADDRNOTAVAIL.
    matches!(error.raw_os_error(), Some(10024 | 10055 | 10049))
}

/// Ends this process at once.
pub fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

/// How the child ended, if it did. Its handle keeps its number from being given away.
pub fn peek_exit(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    child.try_wait()
}

/// Presses Ctrl-Break for the group, which is all that a group can be told here.
#[allow(unsafe_code)]
pub fn tell_group(group: u32, signal: GroupSignal) {
    if matches!(signal, GroupSignal::Terminate | GroupSignal::Interrupt) {
        // SAFETY: takes numbers only. Fails where there is no console; the kill follows.
        unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group) };
    }
}

/// Kills every member of the job.
#[allow(unsafe_code)]
pub fn kill_group(leash: Option<&Leash>, _group: u32) {
    if let Some(leash) = leash {
        // SAFETY: the handle is valid as long as the leash.
        unsafe { TerminateJobObject(leash.job.as_raw_handle(), 1) };
    }
}

/// Jobs catch every child, so no process has to be looked for one by one.
pub fn ask_process_to_stop(_pid: u32) {}

/// See [`ask_process_to_stop`].
pub fn kill_process(_pid: u32) {}

/// "exit status 1".
pub fn describe_exit(status: ExitStatus) -> String {
    match status.code() {
        // Exceptions such as 0xC0000005, an access violation, are known by their hexadecimal form.
        Some(code) if code < 0 => format!("killed by exception {:#010X}", code as u32),
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

/// Whether it ended by Ctrl-C or Ctrl-Break (STATUS_CONTROL_C_EXIT).
pub fn is_end_by_request(status: ExitStatus) -> bool {
    status.code().map(|code| code as u32) == Some(0xC000_013A)
}

/// What the machine lacks for a program that ended like this, where its end tells.
pub fn lacked_by_machine(status: ExitStatus) -> Option<&'static str> {
    // STATUS_ILLEGAL_INSTRUCTION, STATUS_DLL_NOT_FOUND.
    match status.code().map(|code| code as u32) {
        Some(0xC000_001D) => Some(ILLEGAL_INSTRUCTION),
        Some(0xC000_0135) => Some(MISSING_LIBRARY),
        _ => None,
    }
}

/// Whether the process is in the job.
#[allow(unsafe_code)]
pub fn is_member(leash: &Leash, _group: u32, process: &Process) -> bool {
    let Some(handle) = table::open(process.pid, PROCESS_QUERY_INFORMATION) else {
        return false;
    };
    let mut inside: BOOL = 0;
    let (handle, job) = (handle.as_raw_handle(), leash.job.as_raw_handle());
    // SAFETY: both handles are valid as long as their owners, and the pointer is to a local.
    let told = unsafe { IsProcessInJob(handle, job, &raw mut inside) };
    told != 0 && inside != 0
}

/// The living processes of a job.
pub fn members(leash: &Leash, group: u32) -> Vec<Process> {
    let table = processes().into_iter();
    table
        .filter(|process| is_member(leash, group, process))
        .collect()
}

/// A process can't leave its job, so marks aren't needed.
pub fn marks(_name: &str) -> HashMap<u32, String> {
    HashMap::new()
}

fn check(result: BOOL) -> io::Result<()> {
    if result == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::Stdio;
    use std::time::Duration;

    use super::*;
    use crate::tasks::worker::process::wait::wait_until;

    /// What this very test is when it runs in a process of its own.
    const ROLE: &str = "LEASH_TEST_ROLE";
    const NAME: &str = "tasks::worker::process::platform::windows::tests::all_that_a_child_starts_ends_with_its_job";

    /// This test as another process, which does what its role says once it hears of it.
    fn start(role: &str) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", NAME, "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Tells the process to go on, and reads the numbers of those that it has started.
    fn told(child: &mut Child) -> Vec<u32> {
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pids = lines.find_map(|line| line.unwrap().strip_prefix("pids").map(str::to_owned));
        let pids = pids.expect("the process says whom it has started");
        pids.split_whitespace()
            .map(|it| it.parse().unwrap())
            .collect()
    }

    fn are_gone(pids: &[u32]) -> bool {
        wait_until(Duration::from_secs(30), Duration::from_millis(20), || {
            pids.iter().all(|pid| identify(*pid).is_none())
        })
    }

    fn play(role: &str) {
        // Until it is told, so that it starts nobody before it is in its job.
        std::io::stdin()
            .lock()
            .read_line(&mut String::new())
            .unwrap();
        // Held until the end: whoever is started writes into a pipe of ours.
        let mut children = Vec::new();
        let mut leashes = Vec::new();
        let mut pids = vec![std::process::id()];
        match role {
            "parent" => {
                let sleeper = start("sleeper");
                pids.push(sleeper.id());
                children.push(sleeper);
            }
            "holder" => {
                let mut parent = start("parent");
                leashes.push(Leash::tie(&parent).unwrap());
                pids = told(&mut parent);
                children.push(parent);
            }
            _ => {}
        }
        let shown: Vec<String> = pids.iter().map(u32::to_string).collect();
        println!("\npids {}", shown.join(" "));
        std::thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn all_that_a_child_starts_ends_with_its_job() {
        if let Ok(role) = std::env::var(ROLE) {
            return play(&role);
        }
        // Killed, and closed.
        for close in [false, true] {
            let mut parent = start("parent");
            let leash = Leash::tie(&parent).unwrap();
            let pids = told(&mut parent);
            assert_eq!(pids.len(), 2);
            for pid in &pids {
                let process = identify(*pid).expect("it lives");
                assert!(is_member(&leash, 0, &process), "{process}");
            }
            match close {
                true => drop(leash),
                false => kill_group(Some(&leash), 0),
            }
            assert!(are_gone(&pids), "{pids:?}, closed: {close}");
            parent.wait().unwrap();
        }
        // Whoever holds the job is killed, and nothing of his runs any more.
        let mut holder = start("holder");
        let pids = told(&mut holder);
        assert_eq!(pids.len(), 2);
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(are_gone(&pids), "{pids:?}");
    }

    #[test]
    fn exit_statuses_are_told_as_the_system_knows_them() {
        let cmd = |code: &str| {
            let mut command = Command::new("cmd");
            command.args(["/c", "exit", code]).status().unwrap()
        };
        assert_eq!(describe_exit(cmd("3")), "exit status 3");
        let access_violation = cmd("-1073741819");
        assert_eq!(
            describe_exit(access_violation),
            "killed by exception 0xC0000005"
        );
        assert_eq!(lacked_by_machine(access_violation), None);
        let illegal_instruction = cmd("-1073741795");
        assert!(lacked_by_machine(illegal_instruction).is_some());
    }
}
