//! Whether a file is a whole GGUF: magic, version, metadata, tensor table, and that every tensor
//! lies inside the file. What the weights mean is the worker's part.
//!
//! The file is not trusted: no count in it is believed before it fits what is left of the file,
//! and nothing is kept but the few values that are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

const MAGIC: [u8; 4] = *b"GGUF";

/// What begins a zip archive, which browsers and Windows make of a folder.
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Versions whose lengths have 64 bits, which is what everybody writes today.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// Where tensors are aligned unless the metadata says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

const MOST_DIMENSIONS: u32 = 4;

/// Longer strings are read over: those that we ask for are short.
const LONGEST_KEPT_BYTES: u64 = 256;

/// Types of metadata values, by their number.
mod kind {
    pub const U32: u32 = 4;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
}

/// Tensor types: number, name, weights in a block, bytes of a block.
const TENSOR_TYPES: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
];

/// What a whole GGUF says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// `general.architecture`.
    pub architecture: String,
    /// How many weights all tensors have together.
    pub parameters: u64,
    /// The type that most of the weights are stored in.
    pub quantisation: String,
}

/// Reads header and tensor table, and refuses what isn't a whole model.
pub fn check(path: &Path) -> Result<ModelSummary> {
    // Asked first: on Windows a folder can't be opened, and the error doesn't say why.
    ensure!(
        !path.is_dir(),
        "{} is a folder, not a GGUF model",
        path.display()
    );
    let file =
        File::open(path).with_context(|| format!("cannot open the model {}", path.display()))?;
    let size_bytes = file.metadata()?.len();
    summarise(BufReader::new(file), size_bytes)
        .with_context(|| format!("{} is not a usable GGUF model", path.display()))
}

fn summarise(input: impl Read + Seek, size_bytes: u64) -> Result<ModelSummary> {
    let mut reader = Reader {
        input,
        at: 0,
        size_bytes,
    };
    let (tensor_count, value_count) = reader.header()?;
    let mut alignment = DEFAULT_ALIGNMENT;
    let mut architecture = None;
    for _ in 0..value_count {
        let key = reader.string("the metadata")?.unwrap_or_default();
        let kind = reader.u32("the metadata")?;
        match (key.as_str(), kind) {
            ("general.alignment", kind::U32) => alignment = reader.u32("the metadata")?.into(),
            ("general.architecture", kind::STRING) => {
                architecture = reader.string("the metadata")?;
            }
            _ => reader.skip_value(kind)?,
        }
    }
    ensure!(
        alignment.is_power_of_two(),
        "its general.alignment is {alignment}, which is not a power of two"
    );
    let mut table = TensorTable::default();
    for _ in 0..tensor_count {
        table.read_row(&mut reader)?;
    }
    let data_at = reader.at.next_multiple_of(alignment);
    table.ensure_inside(data_at, size_bytes)?;
    Ok(ModelSummary {
        architecture: architecture.context("it has no general.architecture")?,
        parameters: table.parameters,
        quantisation: table.quantisation(),
    })
}

#[derive(Debug, Default)]
struct TensorTable {
    parameters: u64,
    /// How many weights are stored in each type.
    by_type: BTreeMap<&'static str, u64>,
    /// The tensor that ends last: from the start of the data, and its name.
    last: Option<(u64, String)>,
}

impl TensorTable {
    fn read_row(&mut self, reader: &mut Reader<impl Read + Seek>) -> Result<()> {
        let name = reader.string("the tensor table")?.unwrap_or_default();
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let dimensions = reader.u32("the tensor table")?;
        ensure!(
            dimensions <= MOST_DIMENSIONS,
            "tensor `{name}` has {dimensions} dimensions, but at most {MOST_DIMENSIONS} are allowed"
        );
        let mut weights = Some(1_u64);
        for _ in 0..dimensions {
            let length = reader.u64("the tensor table")?;
            weights = weights.and_then(|weights| weights.checked_mul(length));
        }
        let number = reader.u32("the tensor table")?;
        let offset = reader.u64("the tensor table")?;
        let known = TENSOR_TYPES.iter().find(|row| row.0 == number);
        // A type that we don't know takes at least no room: the worker refuses it if it must.
        let bytes = known.map_or(Some(0), |(_, _, block, block_bytes)| {
            weights?.div_ceil(*block).checked_mul(*block_bytes)
        });
        let end = bytes.and_then(|bytes| offset.checked_add(bytes));
        let (Some(weights), Some(end)) = (weights, end) else {
            bail!("tensor `{name}` has an impossible size");
        };
        self.parameters = self.parameters.saturating_add(weights);
        let sum = self
            .by_type
            .entry(known.map_or("unknown", |row| row.1))
            .or_default();
        *sum = sum.saturating_add(weights);
        if self.last.as_ref().is_none_or(|(last, _)| end > *last) {
            self.last = Some((end, name));
        }
        Ok(())
    }

    fn ensure_inside(&self, data_at: u64, size_bytes: u64) -> Result<()> {
        let Some((end, name)) = &self.last else {
            bail!("it has no tensors");
        };
        let end = data_at.saturating_add(*end);
        ensure!(
            end <= size_bytes,
            "it is truncated: tensor `{name}` ends at byte {end}, and the file at byte {size_bytes}"
        );
        Ok(())
    }

    fn quantisation(&self) -> String {
        let most = self.by_type.iter().max_by_key(|(_, weights)| **weights);
        most.map_or("unknown", |(name, _)| *name).to_owned()
    }
}

/// Reads little-endian values and never beyond the end of the file.
#[derive(Debug)]
struct Reader<R> {
    input: R,
    at: u64,
    size_bytes: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Gives the counts of tensors and of metadata values.
    fn header(&mut self) -> Result<(u64, u64)> {
        let magic: [u8; 4] = self.bytes("the header").unwrap_or_default();
        ensure!(
            magic != ZIP,
            "it is a zip archive\n  try: unpack it, and give the .gguf file that is in it"
        );
        ensure!(magic == MAGIC, "it does not begin with `GGUF`");
        let version = self.u32("the header")?;
        ensure!(
            !VERSIONS.contains(&version.swap_bytes()),
            "it is a big-endian GGUF, but must be little-endian"
        );
        ensure!(
            VERSIONS.contains(&version),
            "it has GGUF version {version}, but only versions {} and {} can be read",
            VERSIONS.start(),
            VERSIONS.end()
        );
        Ok((self.u64("the header")?, self.u64("the header")?))
    }

    fn bytes<const N: usize>(&mut self, place: &str) -> Result<[u8; N]> {
        self.ensure_left(N as u64, place)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, place: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(place)?))
    }

    fn u64(&mut self, place: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes(place)?))
    }

    /// The string, or none where it is longer than any that we ask for.
    fn string(&mut self, place: &str) -> Result<Option<String>> {
        let length = self.u64(place)?;
        if length > LONGEST_KEPT_BYTES {
            self.skip(length, place)?;
            return Ok(None);
        }
        self.ensure_left(length, place)?;
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes)?;
        self.at += length;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn skip_value(&mut self, kind: u32) -> Result<()> {
        const PLACE: &str = "the metadata";
        match kind {
            kind::STRING => self.string(PLACE).map(drop),
            kind::ARRAY => {
                let (kind, count) = (self.u32(PLACE)?, self.u64(PLACE)?);
                if kind == kind::STRING {
                    return (0..count).try_for_each(|_| self.string(PLACE).map(drop));
                }
                let bytes = count.checked_mul(bytes_of(kind)?);
                self.skip(
                    bytes.context("it has an array of impossible length")?,
                    PLACE,
                )
            }
            _ => self.skip(bytes_of(kind)?, PLACE),
        }
    }

    fn skip(&mut self, count: u64, place: &str) -> Result<()> {
        self.ensure_left(count, place)?;
        self.input.seek_relative(i64::try_from(count)?)?;
        self.at += count;
        Ok(())
    }

    fn ensure_left(&self, count: u64, place: &str) -> Result<()> {
        ensure!(
            count <= self.size_bytes - self.at,
            "it is truncated or damaged: the file ends at byte {}, inside {place}",
            self.size_bytes
        );
        Ok(())
    }
}

/// The size of a metadata value of fixed size.
fn bytes_of(kind: u32) -> Result<u64> {
    Ok(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => bail!("its metadata has a value of the unknown type {kind}"),
    })
}

#[cfg(test)]
mod tests;
