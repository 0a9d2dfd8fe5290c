//! What the worker's process uses: sampled a few times a second on a thread of its own.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::platform::usage;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::record::event::EventKind;
use crate::tasks::worker::record::facts::Vitals;

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
            loop {
                let now = Instant::now();
                let Some(used) = usage::of(pid) else { return };
                if let Some((then, cpu)) = before {
                    let share = used.cpu.saturating_sub(cpu).as_secs_f64()
                        / (now - then).as_secs_f64().max(1e-6);
                    journal.emit(EventKind::Sampled(Vitals {
                        cpu_percent: share * 100.0,
                        rss_bytes: used.rss_bytes,
                        threads: used.threads,
                        open_files: used.open_files,
                    }));
                }
                before = Some((now, used.cpu));
                match stopped.recv_timeout(usage::SAMPLE_INTERVAL) {
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
