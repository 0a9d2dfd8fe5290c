//! Lists of integers and of texts, kept as the file has them: no item takes more memory than it
//! has bytes in the file.

use std::io::Read;

use anyhow::{Context, Result, ensure};

use super::super::Source;
use super::ScalarType;

/// A list of integers of one width.
#[derive(Debug, Clone, PartialEq)]
pub struct Integers {
    kind: ScalarType,
    bytes: Vec<u8>,
}

impl Integers {
    /// `count` was held against what is left of the file.
    pub(super) fn read<R: Read>(
        source: &mut Source<R>,
        kind: ScalarType,
        count: u64,
    ) -> Result<Self> {
        let bytes = count
            .checked_mul(kind.least_bytes())
            .context("damaged: an absurdly long list")?;
        let mut list = Self {
            kind,
            bytes: vec![0; usize::try_from(bytes)?],
        };
        source.read_into(&mut list.bytes, "a list")?;
        if kind == ScalarType::U64 {
            let all_fit = list.bytes.chunks_exact(8).all(|bytes| bytes[7] < 0x80);
            ensure!(all_fit, "an integer beyond 64 signed bits");
        }
        Ok(list)
    }

    fn width(&self) -> usize {
        self.kind.least_bytes() as usize
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One after another, widened.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.bytes.chunks_exact(self.width()).map(|bytes| {
            let unsigned = bytes
                .iter()
                .rev()
                .fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
            match self.kind {
                ScalarType::I8 => i64::from(unsigned as i8),
                ScalarType::I16 => i64::from(unsigned as i16),
                ScalarType::I32 => i64::from(unsigned as i32),
                _ => unsigned as i64,
            }
        })
    }
}

/// A list of texts, not necessarily UTF-8, one behind the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each text ends in `bytes`.
    ends: Vec<u32>,
}

impl Texts {
    /// `count` was held against what is left of the file.
    pub(super) fn read<R: Read>(source: &mut Source<R>, count: u64) -> Result<Self> {
        let mut list = Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(usize::try_from(count)?),
        };
        for _ in 0..count {
            let length = source.u64("a string's length")?;
            source.ensure_remaining(length, "a string")?;
            let start = list.bytes.len();
            let end = start + length as usize;
            list.make_room(end, source.remaining() as usize);
            list.bytes.resize(end, 0);
            source.read_into(&mut list.bytes[start..], "a string")?;
            let end = u32::try_from(end).context("a list of more than 4 GiB of text")?;
            list.ends.push(end);
        }
        list.bytes.shrink_to_fit();
        Ok(list)
    }

    /// Doubles, as a vector does, but never beyond what the rest of the file could fill.
    fn make_room(&mut self, end: usize, remaining: usize) {
        let length = self.bytes.len();
        if end > self.bytes.capacity() {
            let wanted = (self.bytes.capacity() * 2).clamp(end, length + remaining);
            self.bytes.reserve_exact(wanted - length);
        }
    }

    /// Adds one at the end.
    ///
    /// # Panics
    ///
    /// Beyond 4 GiB of text.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        let end = u32::try_from(self.bytes.len());
        self.ends
            .push(end.expect("lists of texts stay under 4 GiB"));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text with this number.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn get(&self, number: usize) -> &[u8] {
        let start = match number {
            0 => 0,
            _ => self.ends[number - 1] as usize,
        };
        &self.bytes[start..self.ends[number] as usize]
    }

    /// One after another.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|number| self.get(number))
    }
}
