//! What the worker's process uses: sampled a few times a second on a thread of its own.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::record::event::EventKind;
use crate::tasks::worker::record::facts::Vitals;

/// Four times a second: fine enough for a timeline, and far below 1 % of a core. Where a sample
/// takes a process of its own, once.
const INTERVAL: Duration =
    Duration::from_millis(if cfg!(target_os = "linux") { 250 } else { 1000 });

/// As often as a process can be looked at without disturbing it.
pub const FASTEST: Duration =
    Duration::from_millis(if cfg!(target_os = "linux") { 100 } else { 1000 });

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

/// Samples until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    /// Dropped first: the thread ends when nobody holds the other end.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Samples the process and its children into the journal.
    pub fn start(pid: u32, journal: &Journal) -> Self {
        let (stop, stopped) = channel::<()>();
        let journal = journal.clone();
        let thread = std::thread::spawn(move || {
            let mut before: Option<(Instant, Duration)> = None;
            let mut meter = Meter::new(pid);
            loop {
                let now = Instant::now();
                let Some(usage) = meter.read() else { return };
                if let Some((then, cpu)) = before {
                    let share = usage.cpu.saturating_sub(cpu).as_secs_f64()
                        / (now - then).as_secs_f64().max(1e-6);
                    journal.emit(EventKind::Sampled(Vitals {
                        cpu_percent: share * 100.0,
                        rss_bytes: usage.rss_bytes,
                        threads: usage.threads,
                        open_files: usage.open_files,
                    }));
                }
                before = Some((now, usage.cpu));
                match stopped.recv_timeout(INTERVAL) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(target_os = "linux")]
pub use linux::Meter;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::Meter;

/// Linux: a few small files of `/proc` a sample.
#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::time::Duration;

    use super::Usage;

    /// Linux reports to user space in hundredths of a second, whatever its kernel counts in.
    const TICKS_PER_S: f64 = 100.0;

    /// How many processes are looked at: a worker with more children isn't summed up wholly.
    const PROCESSES: usize = 64;

    /// Reads a process and its children.
    #[derive(Debug)]
    pub struct Meter {
        pid: u32,
    }

    impl Meter {
        /// Of this process.
        pub fn new(pid: u32) -> Self {
            Self { pid }
        }

        /// The sum over the process and its children; `None` once it is gone.
        pub fn read(&mut self) -> Option<Usage> {
            let mut sum = read_one(self.pid)?;
            let mut left = children(self.pid);
            let mut seen = 1;
            while let Some(pid) = left.pop() {
                seen += 1;
                if seen > PROCESSES {
                    break;
                }
                if let Some(usage) = read_one(pid) {
                    sum.cpu += usage.cpu;
                    sum.rss_bytes += usage.rss_bytes;
                    sum.threads += usage.threads;
                    let both = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
                    sum.open_files = both(sum.open_files, usage.open_files);
                    sum.anonymous_bytes = both(sum.anonymous_bytes, usage.anonymous_bytes);
                    left.extend(children(pid));
                }
            }
            Some(sum)
        }
    }

    fn children(pid: u32) -> Vec<u32> {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let list = list.unwrap_or_default();
        list.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    fn read_one(pid: u32) -> Option<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        if fields.first() == Some(&"Z") {
            return None;
        }
        let ticks = number(11)? + number(12)?;
        let open_files = fs::read_dir(format!("/proc/{pid}/fd")).ok();
        Some(Usage {
            cpu: Duration::from_secs_f64(ticks as f64 / TICKS_PER_S),
            rss_bytes: number(21)? * rustix::param::page_size() as u64,
            anonymous_bytes: anonymous_bytes(pid),
            threads: number(17)?,
            open_files: open_files.map(|files| files.count() as u64),
        })
    }

    /// What is a process's own: a model's file that is mapped isn't.
    fn anonymous_bytes(pid: u32) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some((kib("RssAnon:")? + kib("VmSwap:")?) << 10)
    }
}

/// Other systems tell it through `ps`, which is dear, so that it is asked less often; Windows has
/// none, and is not sampled.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::process::Command;
    use std::time::Duration;

    use super::Usage;

    /// Reads one process; its threads and files aren't told cheaply here.
    #[derive(Debug)]
    pub struct Meter {
        pid: u32,
    }

    impl Meter {
        /// Of this process.
        pub fn new(pid: u32) -> Self {
            Self { pid }
        }

        /// What the process uses; `None` once it is gone, or where there is no `ps`.
        pub fn read(&mut self) -> Option<Usage> {
            let pid = self.pid.to_string();
            let mut command = Command::new("ps");
            let output = command
                .args(["-o", "rss=,time=", "-p", &pid])
                .output()
                .ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            let (rss_kib, time) = text.trim().split_once(char::is_whitespace)?;
            let mut cpu_s = 0.0;
            for part in time.trim().split([':', '-']) {
                cpu_s = cpu_s * 60.0 + part.parse::<f64>().ok()?;
            }
            Some(Usage {
                cpu: Duration::from_secs_f64(cpu_s),
                rss_bytes: rss_kib.parse::<u64>().ok()? << 10,
                anonymous_bytes: None,
                threads: 1,
                open_files: None,
            })
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_threads_and_files() {
        let usage = Meter::new(std::process::id()).read().unwrap();
        assert!(usage.rss_bytes > 1 << 20, "{usage:?}");
        let anonymous_bytes = usage.anonymous_bytes.unwrap();
        assert!(
            (64 << 10..usage.rss_bytes + (64 << 20)).contains(&anonymous_bytes),
            "{usage:?}"
        );
        assert!(
            usage.threads >= 1 && usage.open_files.unwrap() >= 3,
            "{usage:?}"
        );
    }

    #[test]
    fn a_process_that_is_gone_ends_the_sampling() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut meter = Meter::new(child.id());
        child.wait().unwrap();
        assert_eq!(meter.read(), None);
    }
}
