//! A child process and all that it starts, as one thing that can be stopped as a whole.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often we look whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

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

/// Owns a process group. Dropping it stops and reaps whatever is left of it.
#[derive(Debug)]
pub struct ProcessGroup {
    pid: u32,
    started: Instant,
    grace: Duration,
    child: Mutex<Child>,
}

impl ProcessGroup {
    /// Starts `command` as the leader of a group of its own.
    ///
    /// `grace` is how long it may take to stop when it is asked to.
    pub fn spawn(mut command: Command, grace: Duration) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        Ok(Self {
            pid: child.id(),
            started: Instant::now(),
            grace,
            child: Mutex::new(child),
        })
    }

    /// The leader's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The leader's standard input and output, where they were piped; once.
    pub fn take_pipes(&self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        let mut child = self.lock();
        (child.stdin.take(), child.stdout.take())
    }

    /// The leader's standard error, where it was piped; once.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.lock().stderr.take()
    }

    /// Just after the leader was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How the leader ended, if it did.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.lock().try_wait()
    }

    /// Sends the group a signal.
    pub fn tell(&self, signal: GroupSignal) {
        self.signal(match signal {
            GroupSignal::Terminate => Signal::TERM,
            GroupSignal::Interrupt => Signal::INT,
            GroupSignal::Freeze => Signal::STOP,
            GroupSignal::Thaw => Signal::CONT,
        });
    }

    /// Asks the group to stop, as an orchestrator would.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks the group to stop, kills what hasn't after the grace period, and reaps the leader.
    pub fn terminate(&self) {
        self.ask_to_stop();
        let asked = Instant::now();
        while asked.elapsed() < self.grace && matches!(self.try_wait(), Ok(None)) {
            std::thread::sleep(POLL_INTERVAL);
        }
        self.signal(Signal::KILL);
        let _ = self.lock().wait();
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.pid as i32) {
            // It fails when nobody is left, which is what we want.
            let _ = kill_process_group(group, signal);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// "exit status 1" or "killed by signal 11".
pub fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => format!("{status}"),
    }
}
