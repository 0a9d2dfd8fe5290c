//! How far a transfer is: a bar with rate and time left on a terminal, a line now and then
//! otherwise. On standard error, so that standard output keeps what a script wants.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tasks::worker::model::size;

/// How often a line is written where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// Shows one transfer; gone when dropped.
#[derive(Debug)]
pub struct TransferProgress {
    doing: String,
    total: Option<u64>,
    began: Instant,
    began_at: u64,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl TransferProgress {
    /// Begins at `already` bytes of `total`, where that is known.
    pub fn start(doing: &str, total: Option<u64>, already: u64) -> Self {
        let bar = is_shown_as_bar().then(|| bar(doing, total, already));
        Self {
            doing: doing.to_owned(),
            total,
            began: Instant::now(),
            began_at: already,
            last_line: Instant::now(),
            bar,
        }
    }

    /// Whether a line would be written now: for those to whom counting is work.
    pub fn is_due(&self) -> bool {
        self.last_line.elapsed() >= LINE_INTERVAL
    }

    /// So many bytes are there now.
    pub fn at(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        } else if self.is_due() {
            self.last_line = Instant::now();
            let came = bytes.saturating_sub(self.began_at);
            eprintln!(
                "{}",
                line(&self.doing, bytes, self.total, came, self.began.elapsed())
            );
        }
    }
}

impl Drop for TransferProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether there is a terminal that a bar can move on.
pub fn is_shown_as_bar() -> bool {
    stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn bar(doing: &str, total: Option<u64>, already: u64) -> ProgressBar {
    let template = match total {
        Some(_) => {
            "  {msg} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left"
        }
        None => "  {msg} {decimal_bytes}, {decimal_bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar.set_message(doing.to_owned());
    bar.set_position(already);
    bar.reset_eta();
    bar
}

/// "  downloading: 12.0 MB of 98.4 MB (12 %), 4.0 MB/s, 22 s left"
fn line(doing: &str, bytes: u64, total: Option<u64>, came: u64, elapsed: Duration) -> String {
    let rate = came as f64 / elapsed.as_secs_f64().max(1e-3);
    let rate_text = size(rate as u64);
    let Some(total) = total else {
        return format!("  {doing}: {} so far, {rate_text}/s", size(bytes));
    };
    let percent = 100.0 * bytes as f64 / total.max(1) as f64;
    let left = match came {
        0 => String::from("stalled"),
        _ => format!("{:.0} s left", total.saturating_sub(bytes) as f64 / rate),
    };
    format!(
        "  {doing}: {} of {} ({percent:.0} %), {rate_text}/s, {left}",
        size(bytes),
        size(total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_the_rate_from_where_this_run_began() {
        let seconds = Duration::from_secs(4);
        assert_eq!(
            line(
                "downloading",
                60_000_000,
                Some(100_000_000),
                40_000_000,
                seconds
            ),
            "  downloading: 60.0 MB of 100.0 MB (60 %), 10.0 MB/s, 4 s left"
        );
        assert_eq!(
            line("downloading", 0, Some(1000), 0, seconds),
            "  downloading: 0 B of 1.0 kB (0 %), 0 B/s, stalled"
        );
        assert_eq!(
            line("pip", 2500, None, 2500, seconds),
            "  pip: 2.5 kB so far, 625 B/s"
        );
    }
}
