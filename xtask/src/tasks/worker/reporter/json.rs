//! One event a line, as JSON, for machines.

use std::io::{self, Write};

use super::Reporter;
use crate::tasks::worker::record::event::Event;
use crate::tasks::worker::record::report::RunReport;

/// Writes each event as a line of JSON.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `out`, and flushes after each line.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Reporter for JsonLines<W> {
    fn report(&mut self, event: &Event, _report: &RunReport) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, event)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    fn give_up(&mut self, error: &io::Error) {
        let _ = writeln!(io::stderr(), "warning: the JSON events end here: {error}");
    }
}
