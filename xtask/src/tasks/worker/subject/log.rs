//! Follows a process's output: into a file, and the last lines in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

/// How many of the last lines are kept in memory.
const KEPT_LINES: usize = 1000;

/// Longer lines are cut when they are shown.
const SHOWN_LINE_BYTES: usize = 2000;

/// A log that is being written.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Log {
    /// Copies `output` to a file at `path` until its end.
    pub fn follow(output: impl Read + Send + 'static, path: &Path) -> Result<Log> {
        let mut file =
            File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let log = Log {
            path: path.to_owned(),
            tail: Arc::default(),
        };
        let tail = Arc::clone(&log.tail);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let _ = file.write_all(&line);
                let mut tail = tail.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if tail.len() == KEPT_LINES {
                    tail.pop_front();
                }
                tail.push_back(printable(&line));
                line.clear();
            }
        });
        Ok(log)
    }

    /// The last `count` lines, safe to print.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let tail = self
            .tail
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        tail.iter()
            .skip(tail.len().saturating_sub(count))
            .cloned()
            .collect()
    }

    /// Where the whole log is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The line without its end and without anything that a terminal would obey.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown: String = text
        .trim_end_matches(['\n', '\r'])
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .take(SHOWN_LINE_BYTES)
        .collect();
    if shown.len() < text.trim_end().len() && text.chars().count() > SHOWN_LINE_BYTES {
        shown.push('…');
    }
    shown
}
