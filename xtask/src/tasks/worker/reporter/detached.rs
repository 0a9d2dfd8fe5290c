//! Output that somebody else has to take: a pipe that nobody reads, a terminal that is stopped. It is
//! written by a thread of its own, so that it holds up neither the run nor its verdict.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::Reporter;
use crate::tasks::worker::record::event::{Event, Stage};
use crate::tasks::worker::record::output::REPORTING_THREAD;
use crate::tasks::worker::record::report::RunReport;

/// How long output may stand still before it is given up, once the run is over.
pub const OUTPUT_LIMIT: Duration = Duration::from_secs(10);

/// A reporter in a thread of its own, which folds the events for itself.
#[derive(Debug)]
pub struct Detached {
    name: &'static str,
    events: Option<Sender<Event>>,
    /// Hears of each event that was reported.
    reported: Receiver<()>,
}

impl Detached {
    /// Starts feeding `reporter`. `name` says whose output it is.
    pub fn start(name: &'static str, mut reporter: Box<dyn Reporter>) -> Self {
        let (events, inbox) = channel::<Event>();
        let (sender, reported) = channel();
        let feed = move || {
            let mut report = RunReport::default();
            for event in inbox {
                report.apply(&event);
                if let Err(error) = reporter.report(&event, &report) {
                    reporter.give_up(&error);
                    return;
                }
                // Who waits for the end may have given up.
                let _ = sender.send(());
            }
        };
        let thread = std::thread::Builder::new().name(REPORTING_THREAD.to_owned());
        // Without it this output is missing, which changes no verdict.
        let started = thread.spawn(feed).is_ok();
        Self {
            name,
            events: started.then_some(events),
            reported,
        }
    }
}

impl Reporter for Detached {
    fn report(&mut self, event: &Event, _report: &RunReport) -> io::Result<()> {
        let Some(events) = &self.events else {
            return Ok(());
        };
        // A reporter that has given up has said why.
        let _ = events.send(event.clone());
        match event.kind.stage() {
            Stage::UnderWay | Stage::WorkerKnown => Ok(()),
            Stage::Over => {
                self.events = None;
                drained(&self.reported)
            }
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        let warning = format!("warning: {} ends here: {error}", self.name);
        // Standard error may be the same pipe.
        let _ = within_limit(move || {
            eprintln!("{warning}");
            Ok(())
        });
    }
}

/// Waits as long as the output gets on.
fn drained(reported: &Receiver<()>) -> io::Result<()> {
    loop {
        match reported.recv_timeout(OUTPUT_LIMIT) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => return Err(stands_still()),
        }
    }
}

/// Writes something in a thread of its own, and gives it up after [`OUTPUT_LIMIT`].
pub fn within_limit(write: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let (sender, written) = channel();
    let thread = std::thread::Builder::new().name(REPORTING_THREAD.to_owned());
    thread.spawn(move || sender.send(write()))?;
    match written.recv_timeout(OUTPUT_LIMIT) {
        Ok(written) => written,
        Err(_) => Err(stands_still()),
    }
}

fn stands_still() -> io::Error {
    let limit_s = OUTPUT_LIMIT.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("nothing read it for {limit_s} s"),
    )
}
