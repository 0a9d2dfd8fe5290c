//! Carries events from whatever runs to whoever reports, in one order.
//!
//! A thread of its own folds the report and feeds the reporters, so that a slow terminal or a full
//! disk never holds a measurement up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::tasks::worker::record::event::{Event, EventKind};
use crate::tasks::worker::record::output::REPORTING_THREAD;
use crate::tasks::worker::record::redact::Redactor;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::Reporter;

/// How long reporters may take to catch up where somebody waits for the report.
const FOLD_LIMIT: Duration = Duration::from_secs(30);

/// How long reporters may hold up the end of a run that was interrupted.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// The writing end: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Journal {
    sender: Sender<JournalMessage>,
    began: Instant,
    numbers: Arc<AtomicU64>,
}

/// The reading end, which knows the report once the run is over.
#[derive(Debug)]
pub struct Keeper {
    report: Receiver<RunReport>,
}

#[derive(Debug)]
enum JournalMessage {
    Happened(Box<Event>),
    /// Somebody wants to know the report so far.
    Asked(Sender<RunReport>),
    Close,
}

impl Journal {
    /// Begins the run's time axis and starts feeding `reporters`, without any secret.
    pub fn open(mut reporters: Vec<Box<dyn Reporter>>, redactor: Redactor) -> (Journal, Keeper) {
        let (sender, receiver) = channel();
        let (finished, report) = channel();
        let thread = std::thread::Builder::new().name(String::from(REPORTING_THREAD));
        let feed = move || {
            let mut report = RunReport::default();
            while let Ok(message) = receiver.recv() {
                let event = match message {
                    JournalMessage::Happened(event) => *event,
                    JournalMessage::Asked(answer) => {
                        // Who asked may have given up.
                        let _ = answer.send(report.clone());
                        continue;
                    }
                    JournalMessage::Close => break,
                };
                let event = without_secrets(event, &redactor);
                report.apply(&event);
                // A reporter that fails is dropped with a word; the others and the verdict go on.
                reporters.retain_mut(|reporter| tell(reporter.as_mut(), &event, &report));
            }
            let _ = finished.send(report);
        };
        // Without this thread nobody would hear of anything; no system refuses the first one.
        thread.spawn(feed).expect("a thread can be started");
        let journal = Journal {
            sender,
            began: Instant::now(),
            numbers: Arc::default(),
        };
        (journal, Keeper { report })
    }

    /// A journal that nobody reads, for what must not show up in the run's own.
    pub fn discard() -> Journal {
        let (sender, _) = channel();
        Journal {
            sender,
            began: Instant::now(),
            numbers: Arc::default(),
        }
    }

    /// The same with this one's clock.
    pub fn unread(&self) -> Journal {
        Journal {
            began: self.began,
            ..Self::discard()
        }
    }

    /// A number that no other request of the run has; from 1.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records a fact, now.
    pub fn emit(&self, kind: EventKind) {
        self.emit_at(Instant::now(), kind);
    }

    /// Records what happened then, and is told only now.
    pub fn emit_at(&self, at: Instant, kind: EventKind) {
        let elapsed_ms = self.elapsed_ms(at) as u64;
        let event = Event { elapsed_ms, kind };
        // The receiver is gone only after the run; what comes then has no reader.
        let _ = self.sender.send(JournalMessage::Happened(Box::new(event)));
    }

    /// The report as it is once every event so far is folded.
    ///
    /// Fails where a reporter can't get rid of its output.
    pub fn so_far(&self) -> anyhow::Result<RunReport> {
        let (sender, answer) = channel();
        let _ = self.sender.send(JournalMessage::Asked(sender));
        let report = answer.recv_timeout(FOLD_LIMIT);
        report.context("nobody reads this run's output, so its figures can't be collected")
    }

    /// The moment at this place of the run's axis.
    pub fn instant(&self, elapsed_ms: f64) -> Instant {
        self.began + Duration::from_secs_f64(elapsed_ms.max(0.0) / 1e3)
    }

    /// Where `instant` lies on the run's axis, in milliseconds; 0 for what was before it.
    pub fn elapsed_ms(&self, instant: Instant) -> f64 {
        instant.saturating_duration_since(self.began).as_secs_f64() * 1e3
    }
}

impl Keeper {
    /// Waits until every event so far has been reported.
    ///
    /// `None` where the run was interrupted and a reporter still can't get rid of its output: a
    /// terminal that is stopped, a pipe that nobody reads.
    pub fn close(self, journal: &Journal, is_stopped: impl Fn() -> bool) -> Option<RunReport> {
        let _ = journal.sender.send(JournalMessage::Close);
        let mut interrupted: Option<Instant> = None;
        loop {
            match self.report.recv_timeout(Duration::from_millis(20)) {
                Ok(report) => return Some(report),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if !is_stopped() => {}
                Err(RecvTimeoutError::Timeout) => {
                    let since = interrupted.get_or_insert_with(Instant::now);
                    if since.elapsed() >= OUTPUT_LIMIT {
                        return None;
                    }
                }
            }
        }
    }
}

/// Whether the reporter goes on. One that panics is given up like one that fails.
fn tell(reporter: &mut dyn Reporter, event: &Event, report: &RunReport) -> bool {
    let told = catch_unwind(AssertUnwindSafe(|| reporter.report(event, report)));
    match told {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            reporter.give_up(&error);
            false
        }
        // The panic hook has had its word.
        Err(_) => false,
    }
}

/// The event as it may be written down. Only what looks suspicious is taken apart.
fn without_secrets(event: Event, redactor: &Redactor) -> Event {
    let is_suspect = serde_json::to_string(&event).is_ok_and(|json| redactor.suspects(&json));
    if !is_suspect {
        return event;
    }
    let clean = || {
        let mut value = serde_json::to_value(&event).ok()?;
        redactor.clean_value(&mut value);
        serde_json::from_value(value).ok()
    };
    clean().unwrap_or_else(|| Event {
        elapsed_ms: event.elapsed_ms,
        kind: EventKind::Noted {
            message: String::from("an event was dropped: its secret could not be redacted"),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    struct Fails(fn() -> io::Result<()>);

    struct Counts(Arc<Mutex<u32>>);

    struct Remembers(Arc<Mutex<Vec<String>>>);

    impl Reporter for Remembers {
        fn report(&mut self, event: &Event, _: &RunReport) -> io::Result<()> {
            let told = serde_json::to_string(event)?;
            self.0.lock().unwrap().push(told);
            Ok(())
        }

        fn give_up(&mut self, _: &io::Error) {}
    }

    impl Reporter for Fails {
        fn report(&mut self, _: &Event, _: &RunReport) -> io::Result<()> {
            (self.0)()
        }

        fn give_up(&mut self, _: &io::Error) {}
    }

    impl Reporter for Counts {
        fn report(&mut self, _: &Event, _: &RunReport) -> io::Result<()> {
            *self.0.lock().unwrap() += 1;
            Ok(())
        }

        fn give_up(&mut self, _: &io::Error) {}
    }

    #[test]
    fn a_reporter_that_fails_or_panics_silences_nobody() {
        let count = Arc::new(Mutex::new(0));
        let (journal, keeper) = Journal::open(
            vec![
                Box::new(Fails(|| Err(io::ErrorKind::BrokenPipe.into()))),
                Box::new(Fails(|| panic!("rehearsed"))),
                Box::new(Counts(Arc::clone(&count))),
            ],
            Redactor::default(),
        );
        journal.emit(EventKind::ModelChecking);
        journal.emit(EventKind::Interrupted { signal: 2 });
        let report = keeper.close(&journal, || false).unwrap();
        assert_eq!(report.interrupted_by, Some(2));
        assert_eq!(*count.lock().unwrap(), 2);
    }

    #[test]
    fn a_blocked_reporter_does_not_hold_up_an_interrupted_run() {
        let blocked = || {
            std::thread::park_timeout(Duration::from_secs(60));
            Ok(())
        };
        let (journal, keeper) = Journal::open(vec![Box::new(Fails(blocked))], Redactor::default());
        journal.emit(EventKind::ModelChecking);
        let began = Instant::now();
        assert_eq!(keeper.close(&journal, || true), None);
        assert!(began.elapsed() >= OUTPUT_LIMIT);
    }

    #[test]
    fn no_reporter_and_no_report_ever_sees_a_secret() {
        let told = Arc::default();
        let witness = Box::new(Remembers(Arc::clone(&told)));
        let redactor = Redactor::new([String::from("hf_secret")]);
        let (journal, keeper) = Journal::open(vec![witness], redactor);
        journal.emit(EventKind::Noted {
            message: String::from("HF_TOKEN=hf_secret, Authorization: Bearer abcdef"),
        });
        let report = keeper.close(&journal, || false).unwrap();
        let all = format!("{:?} {:?}", told.lock().unwrap(), report);
        assert!(all.contains("HF_TOKEN=[redacted]"), "{all}");
        assert!(
            !all.contains("hf_secret") && !all.contains("abcdef"),
            "{all}"
        );
    }
}
