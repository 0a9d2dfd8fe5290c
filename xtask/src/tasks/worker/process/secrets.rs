//! Keeps this process's secrets out of the logs that are written down for it.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use super::inheritance;
use crate::tasks::worker::record::redact::{Redactor, ends_word, names_secret};

/// A line that is longer goes through in parts.
const HELD_BYTES: usize = 64 << 10;

/// Secrets whose variables aren't named like one.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on this is a secret, too.
pub fn keep(secret: &str) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(secret.to_owned());
}

/// Takes out what this process's environment, or what the worker was given of it, calls a secret, and
/// what was said to be one.
pub fn redactor() -> Redactor {
    let given = inheritance::given().into_iter();
    let variables = std::env::vars_os().chain(given);
    let text = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let secrets = text.filter(|(name, _)| names_secret(name));
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    Redactor::new(secrets.map(|(_, value)| value).chain(kept.iter().cloned()))
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
    /// Whether what comes belongs to a secret, up to the end of its word.
    within_secret: bool,
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
            within_secret: false,
            ended: false,
        }
    }

    /// Takes in what was read last, and makes whole lines ready; where a line has no end, as much of it
    /// as no secret can begin in.
    fn release(&mut self, count: usize) {
        let mut new = &self.buffer[..count];
        if self.within_secret {
            let end = new.iter().position(|&byte| ends_word(byte));
            self.within_secret = end.is_none();
            new = &new[end.unwrap_or(count)..];
        }
        let line_end = new.iter().rposition(|&byte| byte == b'\n');
        let before = self.held.len();
        self.held.extend_from_slice(new);
        let end = match line_end {
            _ if self.ended => self.held.len(),
            Some(line_end) => before + line_end + 1,
            None if self.held.len() >= HELD_BYTES => {
                let part = self.redactor.clean_part(&self.held);
                self.held.drain(..part.taken);
                self.within_secret = part.within_secret;
                self.ready = part.cleaned;
                return;
            }
            None => return,
        };
        let rest = self.held.split_off(end);
        let lines = std::mem::replace(&mut self.held, rest);
        self.ready = self.redactor.clean_bytes(&lines).into_owned();
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

    fn read_whole(bytes: &[u8]) -> Vec<u8> {
        let redactor = Redactor::new([String::from("hf_secret")]);
        let mut all = Vec::new();
        let mut reader = Redacted::new(bytes, redactor);
        reader.read_to_end(&mut all).unwrap();
        all
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
        assert_eq!(read(b"\xff hf_secret\n"), b"\xff [redacted]\n");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let mut long = b"x".repeat(3 * HELD_BYTES);
        long.extend_from_slice(b"\n\xff\0end");
        assert_eq!(read(&long), long);
        assert_eq!(read(b""), b"");
    }

    #[test]
    fn a_secret_across_the_border_of_two_parts_is_taken_out() {
        for before in (HELD_BYTES - 300)..(HELD_BYTES + 20) {
            let filler = b"x".repeat(before);
            for secret in ["hf_secret", "aGZfc2VjcmV0", "bearer abcdef"] {
                let line = [&filler, b" ".as_slice(), secret.as_bytes(), b" end"].concat();
                let told = read_whole(&line);
                let end = String::from_utf8_lossy(&told[before..]).into_owned();
                let bearer = secret.split_once(' ').map_or("", |_| "bearer ");
                assert_eq!(end, format!(" {bearer}[redacted] end"), "{before} {secret}");
            }
        }
    }

    #[test]
    fn a_secret_longer_than_a_part_is_taken_out() {
        let line = ["bearer ".as_bytes(), &b"x".repeat(5 * HELD_BYTES), b" end"].concat();
        assert_eq!(read_whole(&line), b"bearer [redacted] end");
    }

    /// What needs time by the square of the length takes minutes for these.
    #[test]
    fn time_grows_with_the_length_and_no_faster() {
        let redactor = Redactor::new([String::from("hf_aBcD+/x9z")]);
        for unit in [
            "bearer ",
            "authorization:",
            "\nauthorization: ",
            "'authorization': '",
            "://",
            "://@",
            "hf_aBcD+/",
            "x-api-key \" ",
        ] {
            let text = unit.repeat((2 << 20) / unit.len());
            let began = std::time::Instant::now();
            redactor.clean(&text);
            redactor.clean_part(text.as_bytes());
            let took = began.elapsed();
            assert!(took.as_secs() < 20, "{unit:?}: {took:?}");
        }
    }
}
