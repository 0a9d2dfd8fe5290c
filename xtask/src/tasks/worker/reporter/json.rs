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
        let mut line = serde_json::to_string(event)?;
        // CI systems that read our output find commands anywhere in a line. This spells the same.
        if line.contains("##") {
            line = line.replace("##", "#\\u0023");
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }

    fn give_up(&mut self, error: &io::Error) {
        let _ = writeln!(io::stderr(), "warning: the JSON events end here: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::event::EventKind;

    #[test]
    fn a_line_holds_no_command_and_says_the_same() {
        let message = String::from("###[add-mask]x ##vso[y]");
        let kind = EventKind::Noted { message };
        let event = Event {
            elapsed_ms: 1,
            kind,
        };
        let mut json = JsonLines::new(Vec::new());
        json.report(&event, &RunReport::default()).unwrap();
        let line = String::from_utf8(json.out).unwrap();
        assert!(!line.contains("##"), "{line}");
        let read: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(format!("{read:?}"), format!("{event:?}"));
    }
}
