//! What machine this is: asked of the system on a thread of its own, so that nothing waits for it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::journal::Journal;
use super::record::event::EventKind;
use super::record::facts::{Environment, Gpu};
use super::subject::tool;

/// The longest that one question to the system may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// How long the end of a run may wait for the model's hash.
const HASH_PATIENCE: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Facts that are still being gathered.
#[derive(Debug)]
pub struct Gathering {
    threads: Vec<JoinHandle<()>>,
    give_up: Arc<AtomicBool>,
}

impl Gathering {
    /// Begins to ask about the machine and the workspace.
    pub fn begin(root: &Path, journal: &Journal) -> Self {
        let (root, journal) = (root.to_owned(), journal.clone());
        let thread = std::thread::spawn(move || {
            journal.emit(EventKind::EnvironmentFound(environment(&root)));
        });
        Self {
            threads: vec![thread],
            give_up: Arc::default(),
        }
    }

    /// Begins to hash the model's file.
    pub fn hash_model(&mut self, path: &Path, journal: &Journal) {
        let (path, journal, give_up) = (path.to_owned(), journal.clone(), self.give_up.clone());
        self.threads.push(std::thread::spawn(move || {
            if let Some(sha256) = hash(&path, &give_up) {
                journal.emit(EventKind::ModelHashed { sha256 });
            }
        }));
    }

    /// Waits a little for what is still missing.
    pub fn wait(&self) {
        let began = Instant::now();
        let is_busy = || self.threads.iter().any(|thread| !thread.is_finished());
        while began.elapsed() < HASH_PATIENCE && is_busy() {
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits a little for what is still missing, and then goes without.
    pub fn finish(self) {
        self.wait();
        self.give_up.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn hash(path: &Path, give_up: &AtomicBool) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if give_up.load(Ordering::Relaxed) {
            return None;
        }
        match file.read(&mut buffer).ok()? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let digest = hasher.finalize();
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn environment(root: &Path) -> Environment {
    let root = root.to_string_lossy();
    // Without locks: a run that is killed must not leave one in somebody's repository.
    let git = |arguments: &[&str]| {
        let where_and_how = ["--no-optional-locks", "-C", &root];
        ask("git", &[&where_and_how, arguments].concat())
    };
    Environment {
        host: system::host(),
        os: system::os().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        kernel: system::kernel(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpu: system::cpu(),
        cores: std::thread::available_parallelism().ok().map(usize::from),
        memory_bytes: system::memory_bytes(),
        gpus: gpus(),
        xtask: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: ask("rustc", &["--version"]),
        git_revision: git(&["rev-parse", "HEAD"]),
        git_dirty: git(&["status", "--porcelain", "--untracked-files=no"])
            .map(|changes| !changes.is_empty()),
    }
}

fn gpus() -> Vec<Gpu> {
    let query = "--query-gpu=name,memory.total,driver_version";
    let answer = ask("nvidia-smi", &[query, "--format=csv,noheader"]);
    let answer = answer.unwrap_or_default();
    let gpu = |line: &str| {
        let mut fields = line.split(',').map(|field| field.trim().to_owned());
        Some(Gpu {
            name: fields.next()?,
            memory: fields.next()?,
            driver: fields.next()?,
        })
    };
    answer.lines().filter_map(gpu).collect()
}

/// What a short-lived program says; `None` where it isn't there, fails or takes too long.
fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let (status, answer) = tool::ask(command, QUESTION_LIMIT).ok()?;
    status.success().then_some(answer)
}

/// Where Linux keeps it: in files.
#[cfg(target_os = "linux")]
mod system {
    use std::fs::read_to_string;

    pub fn host() -> Option<String> {
        trimmed("/proc/sys/kernel/hostname")
    }

    pub fn kernel() -> Option<String> {
        trimmed("/proc/sys/kernel/osrelease")
    }

    pub fn os() -> Option<String> {
        let release = read_to_string("/etc/os-release").ok()?;
        let name = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(name.trim_matches('"').to_owned())
    }

    pub fn cpu() -> Option<String> {
        let info = read_to_string("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }

    pub fn memory_bytes() -> Option<u64> {
        let info = read_to_string("/proc/meminfo").ok()?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib << 10)
    }

    fn trimmed(path: &str) -> Option<String> {
        Some(read_to_string(path).ok()?.trim().to_owned())
    }
}

/// macOS: asked of its own programs.
#[cfg(target_os = "macos")]
mod system {
    use super::ask;

    pub fn host() -> Option<String> {
        ask("hostname", &[])
    }

    pub fn kernel() -> Option<String> {
        ask("uname", &["-r"])
    }

    pub fn os() -> Option<String> {
        let version = ask("sw_vers", &["-productVersion"])?;
        Some(format!("macOS {version}"))
    }

    pub fn cpu() -> Option<String> {
        ask("sysctl", &["-n", "machdep.cpu.brand_string"])
    }

    pub fn memory_bytes() -> Option<u64> {
        ask("sysctl", &["-n", "hw.memsize"])?.parse().ok()
    }
}

/// Everything else, Windows above all: what the environment tells.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod system {
    pub fn host() -> Option<String> {
        std::env::var("COMPUTERNAME").ok()
    }

    pub fn kernel() -> Option<String> {
        None
    }

    pub fn os() -> Option<String> {
        std::env::var("OS").ok()
    }

    pub fn cpu() -> Option<String> {
        std::env::var("PROCESSOR_IDENTIFIER").ok()
    }

    pub fn memory_bytes() -> Option<u64> {
        None
    }
}
