//! Carries events from whatever runs to whoever reports, in one order.
//!
//! A thread of its own folds the report and feeds the reporters, so that a slow terminal or a full
//! disk never holds a measurement up.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::record::event::{Event, EventKind};
use super::record::report::RunReport;
use super::reporter::Reporter;

/// The writing end: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Journal {
    sender: Sender<Message>,
    began: Instant,
}

/// The reading end, which knows the report once the run is over.
#[derive(Debug)]
pub struct Keeper {
    thread: JoinHandle<RunReport>,
}

#[derive(Debug)]
enum Message {
    Happened(Event),
    Close,
}

impl Journal {
    /// Begins the run's time axis and starts feeding `reporters`.
    pub fn open(mut reporters: Vec<Box<dyn Reporter>>) -> (Journal, Keeper) {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || {
            let mut report = RunReport::default();
            while let Ok(Message::Happened(event)) = receiver.recv() {
                report.apply(&event);
                // A reporter that fails is dropped with a word; the others and the verdict go on.
                reporters.retain_mut(|reporter| match reporter.report(&event, &report) {
                    Ok(()) => true,
                    Err(error) => {
                        reporter.give_up(&error);
                        false
                    }
                });
            }
            report
        });
        let journal = Journal {
            sender,
            began: Instant::now(),
        };
        (journal, Keeper { thread })
    }

    /// A journal that nobody reads, for what must not show up in the run's own.
    pub fn discard() -> Journal {
        let (sender, _) = channel();
        Journal {
            sender,
            began: Instant::now(),
        }
    }

    /// Records a fact, now.
    pub fn emit(&self, kind: EventKind) {
        let elapsed_ms = self.elapsed_ms(Instant::now()) as u64;
        let event = Event { elapsed_ms, kind };
        // The receiver is gone only after the run; what comes then has no reader.
        let _ = self.sender.send(Message::Happened(event));
    }

    /// Where `instant` lies on the run's axis, in milliseconds; 0 for what was before it.
    pub fn elapsed_ms(&self, instant: Instant) -> f64 {
        instant.saturating_duration_since(self.began).as_secs_f64() * 1e3
    }
}

impl Keeper {
    /// Waits until every event so far has been reported.
    pub fn close(self, journal: &Journal) -> RunReport {
        let _ = journal.sender.send(Message::Close);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
