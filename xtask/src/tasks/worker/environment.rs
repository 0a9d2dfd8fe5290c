//! What machine this is: asked of the system on a thread of its own, so that nothing waits for it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::process::platform::machine;
use crate::tasks::worker::process::tool::answer;
use crate::tasks::worker::process::wait::wait_until;
use crate::tasks::worker::process::{git, gpu};
use crate::tasks::worker::record::event::EventKind;
use crate::tasks::worker::record::facts::{Environment, Gpu};

/// How long the end of a run may wait for the model's hash.
const HASH_PATIENCE: Duration = Duration::from_secs(2);

/// How long one question to git may take.
const GIT_LIMIT: Duration = Duration::from_secs(5);

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
            journal.emit(EventKind::EnvironmentFound(here(&root)));
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
        wait_until(HASH_PATIENCE, POLL_INTERVAL, || {
            self.threads.iter().all(JoinHandle::is_finished)
        });
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

/// What this machine is; asks its tools, which takes a moment.
pub fn here(root: &Path) -> Environment {
    let is_kept = git::keeps(root, GIT_LIMIT);
    // Without locks: a run that is killed must not leave one in somebody's repository.
    let git = |arguments: &[&str]| {
        let arguments = [&["--no-optional-locks"], arguments].concat();
        let asked = is_kept.then(|| git::ask(root, &arguments, GIT_LIMIT))?;
        let (status, answer) = asked.ok()?;
        status.success().then_some(answer)
    };
    Environment {
        host: machine::host(answer),
        os: machine::os(answer).unwrap_or_else(|| std::env::consts::OS.to_owned()),
        kernel: machine::kernel(answer),
        architecture: std::env::consts::ARCH.to_owned(),
        cpu: machine::cpu(answer),
        cores: std::thread::available_parallelism().ok().map(usize::from),
        memory_bytes: machine::memory_bytes(answer),
        gpus: gpus(),
        xtask: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: answer("rustc", &["--version"]),
        git_revision: git(&["rev-parse", "HEAD"]),
        git_dirty: git(&["status", "--porcelain", "--untracked-files=no"])
            .map(|changes| !changes.is_empty()),
    }
}

fn gpus() -> Vec<Gpu> {
    let devices = gpu::devices().unwrap_or_default().into_iter();
    let gpu = |device: gpu::Device| Gpu {
        name: device.name,
        memory: device.memory,
        driver: device.driver,
    };
    devices.map(gpu).collect()
}
