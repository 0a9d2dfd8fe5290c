//! Keeps this process's secrets out of the logs that are written down for it.

use std::io::{self, Read};

use crate::tasks::worker::record::redact::{Redactor, SECRET_VARIABLES};

/// A line that is longer goes through in parts.
const HELD_BYTES: usize = 64 << 10;

/// Takes out what this process's environment calls a secret.
pub fn redactor() -> Redactor {
    let values = SECRET_VARIABLES
        .iter()
        .filter_map(|name| std::env::var(name).ok());
    Redactor::new(values)
}

/// Reads what another reader gives, without secrets, whole lines at a time.
#[derive(Debug)]
pub struct Redacted<R> {
    inner: R,
    redactor: Redactor,
    /// Read and not yet looked at: the begin of a line.
    held: Vec<u8>,
    buffer: Vec<u8>,
    /// Looked at and not yet handed out.
    ready: Vec<u8>,
    handed_out: usize,
    ended: bool,
}

impl<R: Read> Redacted<R> {
    /// Reads from `inner`.
    pub fn new(inner: R, redactor: Redactor) -> Self {
        Self {
            inner,
            redactor,
            held: Vec::new(),
            buffer: vec![0; HELD_BYTES],
            ready: Vec::new(),
            handed_out: 0,
            ended: false,
        }
    }

    /// Takes in what was read last, and makes whole lines ready: everything where nothing follows or
    /// a line has no end.
    fn release(&mut self, count: usize) {
        let new = &self.buffer[..count];
        let line_end = new.iter().rposition(|&byte| byte == b'\n');
        let before = self.held.len();
        self.held.extend_from_slice(new);
        let end = match line_end {
            _ if self.ended || self.held.len() >= HELD_BYTES => self.held.len(),
            Some(line_end) => before + line_end + 1,
            None => return,
        };
        let rest = self.held.split_off(end);
        let lines = std::mem::replace(&mut self.held, rest);
        self.handed_out = 0;
        // What isn't text can't be searched as text, and stays as it is.
        self.ready = match std::str::from_utf8(&lines) {
            Ok(text) => self.redactor.clean(text).into_owned().into_bytes(),
            Err(_) => {
                let text = String::from_utf8_lossy(&lines);
                match self.redactor.suspects(&text) {
                    true => self.redactor.clean(&text).into_owned().into_bytes(),
                    false => lines,
                }
            }
        };
    }
}

impl<R: Read> Read for Redacted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.handed_out == self.ready.len() {
            if self.ended {
                return Ok(0);
            }
            let count = self.inner.read(&mut self.buffer)?;
            self.ended = count == 0;
            self.ready.clear();
            self.handed_out = 0;
            self.release(count);
        }
        let count = buffer.len().min(self.ready.len() - self.handed_out);
        buffer[..count].copy_from_slice(&self.ready[self.handed_out..self.handed_out + count]);
        self.handed_out += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Dribble<'t>(&'t [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn read(bytes: &[u8]) -> Vec<u8> {
        let redactor = Redactor::new([String::from("hf_secret")]);
        let mut all = Vec::new();
        let mut reader = Redacted::new(Dribble(bytes), redactor);
        reader.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn a_secret_is_taken_out_however_it_arrives() {
        assert_eq!(
            read(b"a hf_secret b\nrest hf_secret"),
            b"a [redacted] b\nrest [redacted]"
        );
        assert_eq!(
            read(b"\xff hf_secret\n"),
            "\u{fffd} [redacted]\n".as_bytes()
        );
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let mut long = b"x".repeat(3 * HELD_BYTES);
        long.extend_from_slice(b"\n\xff\0end");
        assert_eq!(read(&long), long);
        assert_eq!(read(b""), b"");
    }
}
