//! Who tells people and machines about a run. Knows the record and nothing else.

pub mod human;
pub mod json;

use std::io;

use super::record::event::Event;
use super::record::report::RunReport;

/// Hears of every event, in order.
pub trait Reporter: Send {
    /// One more event. `report` already contains it.
    fn report(&mut self, event: &Event, report: &RunReport) -> io::Result<()>;

    /// Called once after [`Reporter::report`] failed; nothing follows.
    fn give_up(&mut self, error: &io::Error);
}
