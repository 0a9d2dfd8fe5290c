//! Follows a process's output: into a file of bounded size, and the last of it in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::lock::lock;

/// How much of the output goes to disk from its beginning; what is beyond is cut, but for the end.
const FILE_LIMIT_BYTES: u64 = 64 << 20;

/// How much of the end of the output is kept in memory.
const TAIL_BYTES: usize = 1 << 20;

/// How many of the last lines can be asked for.
const TAIL_LINES: usize = 1000;

/// Longer lines are cut when they are shown.
const SHOWN_LINE_CHARS: usize = 2000;

/// Of how many reads the times are kept.
const READS: usize = 10_000;

/// How much is read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A log that is being written.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    shared: Arc<SharedLog>,
}

#[derive(Debug, Default)]
struct SharedLog {
    state: Mutex<LogState>,
    ended: Condvar,
}

/// What is known of the output so far.
#[derive(Debug, Default)]
struct LogState {
    /// Its end: at least [`TAIL_BYTES`] of it, where there was so much.
    tail: Vec<u8>,
    /// How much was read in all.
    total_bytes: usize,
    /// How much was there after each of the last reads, and when.
    reads: VecDeque<(usize, Instant)>,
    /// Whether `tail` lacks the beginning.
    cut: bool,
    /// Whether everything was read.
    ended: bool,
}

impl Log {
    /// Copies `output` to a file at `path` until its end.
    pub fn follow(output: impl Read + Send + 'static, path: &Path) -> Result<Log> {
        let file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let log = Log {
            path: path.to_owned(),
            shared: Arc::default(),
        };
        let shared = Arc::clone(&log.shared);
        std::thread::spawn(move || shared.copy(output, CappedFile::new(file, FILE_LIMIT_BYTES)));
        Ok(log)
    }

    /// The last `count` lines, safe to print.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let state = lock(&self.shared.state);
        let mut lines: Vec<&[u8]> = state.tail.split(|&byte| byte == b'\n').collect();
        if lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        if state.cut && lines.len() > 1 {
            // The first is only the rest of a line.
            lines.remove(0);
        }
        let skipped = lines.len().saturating_sub(count.min(TAIL_LINES));
        lines[skipped..]
            .iter()
            .map(|line| printable(line))
            .collect()
    }

    /// The last lines, each with the time of its end.
    pub fn timed_lines(&self) -> Vec<(Instant, String)> {
        let state = lock(&self.shared.state);
        let mut end = state.total_bytes - state.tail.len();
        let mut lines = Vec::new();
        for line in state.tail.split_inclusive(|&byte| byte == b'\n') {
            end += line.len();
            let read = state.reads.iter().find(|(until, _)| *until >= end);
            if let Some((_, at)) = read {
                lines.push((*at, printable(line.trim_ascii_end())));
            }
        }
        lines
    }

    /// Waits until everything that was written has been read, for at most `limit`. To be called
    /// when whoever writes has ended.
    pub fn settle(&self, limit: Duration) {
        let waiting = |state: &mut LogState| !state.ended;
        let _ = self
            .shared
            .ended
            .wait_timeout_while(lock(&self.shared.state), limit, waiting);
    }

    /// Where the whole log is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl SharedLog {
    fn copy(&self, mut output: impl Read, mut file: CappedFile<impl Write>) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    file.write(&buffer[..count]);
                    lock(&self.state).take(&buffer[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let mut state = lock(&self.state);
        file.finish(&state.tail);
        state.ended = true;
        self.ended.notify_all();
    }
}

impl LogState {
    fn take(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.total_bytes += bytes.len();
        self.reads.push_back((self.total_bytes, Instant::now()));
        if self.reads.len() > READS {
            self.reads.pop_front();
        }
        // Not with each read: moving the tail costs as much as the tail is long.
        if self.tail.len() > 2 * TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
            self.cut = true;
        }
    }
}

/// A file that takes so many bytes; then a note of how many were cut, and the end.
#[derive(Debug)]
pub struct CappedFile<W> {
    file: W,
    room_bytes: u64,
    cut_bytes: u64,
}

impl<W: Write> CappedFile<W> {
    /// A file that takes so many bytes.
    pub fn new(file: W, limit_bytes: u64) -> Self {
        Self {
            file,
            room_bytes: limit_bytes,
            cut_bytes: 0,
        }
    }

    /// Writes as much of these as there is room for.
    pub fn write(&mut self, bytes: &[u8]) {
        let fits = self.room_bytes.min(bytes.len() as u64) as usize;
        self.room_bytes -= fits as u64;
        self.cut_bytes += (bytes.len() - fits) as u64;
        // A full disk takes the file from us, not the run.
        if fits > 0 && self.file.write_all(&bytes[..fits]).is_err() {
            self.room_bytes = 0;
        }
    }

    /// Says what was cut. `tail` is the end of all that there was to write.
    pub fn finish(&mut self, tail: &[u8]) {
        if self.cut_bytes == 0 {
            return;
        }
        let kept = (tail.len() as u64).min(self.cut_bytes);
        let tail = &tail[tail.len() - kept as usize..];
        let cut = self.cut_bytes - kept;
        let note = format!("\n[... {cut} bytes of the log were cut here; this is its end:]\n");
        let _ = self.file.write_all(note.as_bytes());
        let _ = self.file.write_all(tail);
    }
}

/// The line without anything that a terminal would obey.
fn printable(line: &[u8]) -> String {
    // No character is longer than four bytes, so this is enough for what is shown, escapes aside.
    let head = &line[..line.len().min(SHOWN_LINE_CHARS * 8)];
    let plain = without_escapes(&String::from_utf8_lossy(head));
    let plain = plain.trim_end_matches('\r');
    let safe = plain.chars().map(|c| match c {
        '\t' => c,
        c if c.is_control() || is_direction(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    });
    let mut shown: String = safe.take(SHOWN_LINE_CHARS).collect();
    if head.len() < line.len() || plain.chars().nth(SHOWN_LINE_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a character changes the direction of the text around it.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text without colours, cursor movements and titles (CSI and OSC sequences).
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('\u{1b}', Some('[')) => {
                rest.next();
                // Parameters, then one final character.
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(|c| matches!(c, '@'..='~'));
            }
            ('\u{1b}', Some(']')) => {
                rest.next();
                while rest.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}')).is_some() {}
                if rest.next() == Some('\u{1b}') {
                    rest.next_if_eq(&'\\');
                }
            }
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_lines_print_safely() {
        assert_eq!(printable(b"\x1b[31mred\x1b[0m\r"), "red");
        assert_eq!(printable(b"\x1b]0;title\x07text\x1b]8;;x\x1b\\."), "text.");
        assert_eq!(printable(b"a\0b\x1b"), "a\u{fffd}b\u{fffd}");
        assert_eq!(printable(b"\xff\xfe ok"), "\u{fffd}\u{fffd} ok");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\u{fffd}b");
    }

    #[test]
    fn a_line_without_an_end_is_cut_when_it_is_shown() {
        let shown = printable(&vec![b'x'; 10 << 20]);
        assert_eq!(shown.chars().count(), SHOWN_LINE_CHARS + 1);
        assert!(shown.ends_with('…'));
        assert!(!printable(&vec![b'x'; SHOWN_LINE_CHARS]).ends_with('…'));
    }

    #[test]
    fn memory_stays_bounded_and_the_last_lines_are_the_last() {
        let mut state = LogState::default();
        for number in 0..1_000_000 {
            state.take(format!("line {number}\n").as_bytes());
        }
        assert!(state.tail.len() <= 2 * TAIL_BYTES);
        let log = Log {
            path: PathBuf::new(),
            shared: Arc::new(SharedLog {
                state: Mutex::new(state),
                ended: Condvar::new(),
            }),
        };
        assert_eq!(log.tail(2), ["line 999998", "line 999999"]);
        assert_eq!(log.tail(usize::MAX).len(), TAIL_LINES);
    }

    #[test]
    fn a_file_says_how_much_was_cut_and_keeps_the_end() {
        let mut written = Vec::new();
        let mut file = CappedFile::new(&mut written, 10);
        file.write(b"0123456");
        file.write(b"789abcdefghij");
        file.finish(b"ghij");
        let text = String::from_utf8(written).unwrap();
        let note = "\n[... 6 bytes of the log were cut here; this is its end:]\n";
        assert_eq!(text, format!("0123456789{note}ghij"));
    }

    #[test]
    fn a_file_that_is_not_full_holds_everything_once() {
        let mut written = Vec::new();
        let mut file = CappedFile::new(&mut written, 10);
        file.write(b"0123456789");
        file.finish(b"456789");
        assert_eq!(written, b"0123456789");
    }

    #[test]
    fn an_ended_log_is_whole() {
        let folder = std::env::temp_dir().join(format!("log-{}", uuid::Uuid::new_v4()));
        let log = Log::follow(&b"one\ntwo"[..], &folder).unwrap();
        log.settle(Duration::from_secs(60));
        assert_eq!(log.tail(9), ["one", "two"]);
        assert_eq!(std::fs::read(&folder).unwrap(), b"one\ntwo");
        std::fs::remove_file(&folder).unwrap();
    }
}
