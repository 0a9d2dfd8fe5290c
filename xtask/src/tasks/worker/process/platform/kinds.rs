//! What all systems tell of processes, in one form.

use std::time::Duration;

/// What a program lacks that is killed for an unknown instruction.
pub const ILLEGAL_INSTRUCTION: &str = "  it was built for another processor\n  try: a build for this one, \
    without target-cpu=native of another machine";

/// What a program lacks whose loader gives up.
pub const MISSING_LIBRARY: &str = "  a shared library or a command that it needs is missing\n  try: \
    ldd WORKER (Linux), otool -L WORKER (macOS), and see its log";

/// Asks a program of the system a question; `None` where it has no answer.
pub type Ask = fn(&str, &[&str]) -> Option<String>;

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
    pub fn add(&mut self, child: &Usage) {
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
