//! Whole models are summarised; whatever is damaged is refused, without a panic and without
//! believing what it says about itself.

use std::io::Cursor;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Writes a GGUF value by value.
#[derive(Default, Clone)]
struct Writer(Vec<u8>);

impl Writer {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    fn header(tensors: u64, values: u64) -> Self {
        Writer::default()
            .raw(b"GGUF")
            .u32(3)
            .u64(tensors)
            .u64(values)
    }

    fn architecture(self) -> Self {
        self.string("general.architecture")
            .u32(kind::STRING)
            .string("llama")
    }

    fn tensor(self, name: &str, lengths: &[u64], number: u32, offset: u64) -> Self {
        let row = self.string(name).u32(lengths.len() as u32);
        let row = lengths.iter().fold(row, |row, length| row.u64(*length));
        row.u32(number).u64(offset)
    }

    fn summary(&self) -> Result<ModelSummary> {
        summarise(Cursor::new(&self.0), self.0.len() as u64)
    }

    fn refusal(&self) -> String {
        format!("{:#}", self.summary().unwrap_err())
    }
}

/// Every kind of metadata value, two tensors, their data; and where the data begins.
fn whole() -> (Writer, usize) {
    let mut file = Writer::header(2, 7)
        .architecture()
        .string("general.alignment")
        .u32(kind::U32)
        .u32(64)
        .string("words")
        .u32(kind::ARRAY)
        .u32(kind::STRING)
        .u64(2)
        .string("one")
        .string("two")
        .string("numbers")
        .u32(kind::ARRAY)
        .u32(6)
        .u64(3)
        .raw(&[0; 12])
        .string("flag")
        .u32(7)
        .raw(&[1])
        .string("template")
        .u32(kind::STRING)
        .string(&"long ".repeat(100))
        .string("size")
        .u32(10)
        .u64(5)
        .tensor("norm", &[64], 0, 0)
        .tensor("weight", &[64, 32], 8, 256);
    let data_at = file.0.len().next_multiple_of(64);
    file.0.resize(data_at + 256 + 64 * 32 / 32 * 34, 0);
    (file, data_at)
}

#[test]
fn a_whole_model_is_summarised() {
    let summary = ModelSummary {
        architecture: String::from("llama"),
        parameters: 64 + 64 * 32,
        quantisation: String::from("Q8_0"),
    };
    assert_eq!(whole().0.summary().unwrap(), summary);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let (file, data_at) = whole();
    for length in 0..file.0.len() {
        let cut = Writer(file.0[..length].to_vec());
        let error = cut.refusal();
        match length {
            0..4 => assert!(
                error.contains("does not begin with `GGUF`"),
                "{length}: {error}"
            ),
            _ if length < data_at => assert!(error.contains("truncated"), "{length}: {error}"),
            _ => assert!(
                error.contains("tensor `weight` ends at byte"),
                "{length}: {error}"
            ),
        }
    }
}

#[test]
fn flipped_bits_never_panic() {
    let (file, data_at) = whole();
    for index in 0..data_at {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged.0[index] ^= 1 << bit;
            // Some flips are harmless: a letter of a name. What counts is that this returns.
            let _ = damaged.summary();
        }
    }
}

#[test]
fn counts_and_lengths_are_not_believed() {
    let absurd = u64::MAX;
    let start = || Writer::header(1, 1);
    let value = |number: u32| start().string("key").u32(number);
    let row = |lengths: &[u64], number, offset| {
        Writer::header(1, 1)
            .architecture()
            .tensor("big", lengths, number, offset)
    };
    for (file, word) in [
        (Writer::header(1, absurd), "truncated"),
        (Writer::header(absurd, 1).architecture(), "truncated"),
        (start().u64(absurd), "truncated"),
        (value(kind::STRING).u64(absurd), "truncated"),
        (
            value(kind::ARRAY).u32(kind::STRING).u64(absurd),
            "truncated",
        ),
        (value(kind::ARRAY).u32(0).u64(absurd), "truncated"),
        (value(kind::ARRAY).u32(10).u64(absurd), "impossible length"),
        (value(kind::ARRAY).u32(kind::ARRAY).u64(1), "unknown type 9"),
        (value(13), "unknown type 13"),
        (row(&[absurd, 2], 0, 0), "impossible size"),
        (row(&[absurd], 0, 0), "impossible size"),
        (row(&[32], 0, absurd), "impossible size"),
        (row(&[1 << 40], 0, 0), "truncated: tensor `big`"),
        (row(&[1], 0, absurd - 4), "truncated: tensor `big`"),
        (row(&[1, 1, 1, 1, 1], 0, 0), "5 dimensions"),
        (row(&[], 999, 1 << 40), "truncated: tensor `big`"),
    ] {
        let error = file.refusal();
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn other_formats_and_versions_are_named() {
    let refused = |file: Writer| file.refusal();
    let version = |version: u32| Writer::default().raw(b"GGUF").u32(version).u64(0).u64(0);
    assert!(
        refused(Writer::default().raw(b"# A text file")).contains("does not begin with `GGUF`")
    );
    assert!(refused(version(1)).contains("version 1"));
    assert!(refused(version(4)).contains("version 4"));
    assert!(refused(version(3_u32.swap_bytes())).contains("big-endian"));
    assert!(refused(version(3)).contains("no tensors"));
    let nameless = Writer::header(1, 0).tensor("t", &[0], 0, 0);
    let padded = nameless.0.len().next_multiple_of(32);
    let mut nameless = nameless;
    nameless.0.resize(padded, 0);
    assert!(refused(nameless).contains("general.architecture"));
    let odd = Writer::header(0, 1)
        .string("general.alignment")
        .u32(kind::U32)
        .u32(3);
    assert!(refused(odd).contains("power of two"));
}

#[test]
fn a_zip_of_a_folder_is_no_model() {
    let zip = Writer::default().raw(b"PK\x03\x04\x14\0\0\0\0\0model/tiny.gguf");
    let refusal = zip.refusal();
    assert!(
        refusal.contains("zip") && refusal.contains("unpack"),
        "{refusal}"
    );
}

#[test]
fn a_folder_is_no_model() {
    let error = format!("{:#}", check(&std::env::temp_dir()).unwrap_err());
    assert!(error.contains("is a folder"), "{error}");
}

proptest! {
    /// Bytes and whole numbers that aren't what they were, and a file that ends early.
    #[test]
    fn fuzzed_models_are_summarised_or_refused(
        bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        number in prop::option::of((any::<Index>(), prop_oneof![
            Just(u64::MAX), Just(1 << 63), Just(1 << 40), Just(0xFFFF_FFFF), Just(0), any::<u64>(),
        ])),
        end in any::<Index>(),
    ) {
        let (mut file, _) = whole();
        let length = file.0.len();
        for (at, byte) in bytes {
            file.0[at.index(length)] ^= byte;
        }
        if let Some((at, number)) = number {
            let at = at.index(length - 8);
            file.0[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        // Most of them whole: what is cut ends early.
        file.0.truncate(length.min(end.index(length * 4) + 1));
        if let Ok(summary) = file.summary() {
            prop_assert!(summary.architecture.len() <= length);
        }
    }
}
