//! Reads a GGUF file (versions 2 and 3): metadata, tensor table, and one tensor's bytes at a time.
//!
//! The file is not trusted. Every length is held against what is left of the file before anything
//! is allocated for it, so a damaged file ends in an error that names the cause: never in a panic,
//! nor in an allocation beyond the file's own size. Nothing here knows a model's architecture or a
//! tensor library.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

mod metadata;

pub use metadata::{Integers, Metadata, Texts, Value};

/// Where tensors start when the metadata doesn't say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// As many dimensions as the format allows.
const MAX_DIMENSIONS: u32 = 4;
/// No real tensor name or key comes near; a longer one is a damaged length.
const MAX_NAME_BYTES: u64 = 64 * 1024;

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum TensorType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// Number in the file, name, type, numbers in a block, bytes in a block.
const TENSOR_TYPES: [(u32, &str, TensorType, u64, u64); 13] = [
    (0, "F32", TensorType::F32, 1, 4),
    (1, "F16", TensorType::F16, 1, 2),
    (2, "Q4_0", TensorType::Q4_0, 32, 18),
    (3, "Q4_1", TensorType::Q4_1, 32, 20),
    (6, "Q5_0", TensorType::Q5_0, 32, 22),
    (7, "Q5_1", TensorType::Q5_1, 32, 24),
    (8, "Q8_0", TensorType::Q8_0, 32, 34),
    (10, "Q2_K", TensorType::Q2K, 256, 84),
    (11, "Q3_K", TensorType::Q3K, 256, 110),
    (12, "Q4_K", TensorType::Q4K, 256, 144),
    (13, "Q5_K", TensorType::Q5K, 256, 176),
    (14, "Q6_K", TensorType::Q6K, 256, 210),
    (30, "BF16", TensorType::Bf16, 1, 2),
];

/// Types that exist, for a message that names them; this reader doesn't take them.
const OTHER_TYPES: [(u32, &str); 27] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl TensorType {
    fn row(self) -> (u32, &'static str, TensorType, u64, u64) {
        *TENSOR_TYPES
            .iter()
            .find(|row| row.2 == self)
            .expect("the table names every type")
    }

    /// The name that people know it by.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// How many numbers a block holds.
    pub fn block_length(self) -> u64 {
        self.row().3
    }

    /// How many bytes a block takes.
    pub fn block_bytes(self) -> u64 {
        self.row().4
    }

    fn from_number(number: u32) -> Result<Self> {
        if let Some(row) = TENSOR_TYPES.iter().find(|row| row.0 == number) {
            return Ok(row.2);
        }
        let known: Vec<_> = TENSOR_TYPES.iter().map(|row| row.1).collect();
        match OTHER_TYPES.iter().find(|row| row.0 == number) {
            Some((_, name)) => bail!(
                "unsupported quantisation {name}: this worker reads {}",
                known.join(", ")
            ),
            None => bail!("unsupported quantisation: no tensor type has the number {number}"),
        }
    }
}

/// A row of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub kind: TensorType,
    /// Rows first: the reverse of the order in the file.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub start: u64,
    /// How many bytes it takes.
    pub bytes: u64,
}

/// An opened file whose metadata and tensor table were read and found sound.
#[derive(Debug)]
pub struct Gguf<R> {
    reader: R,
    /// What the file says about itself.
    pub metadata: Metadata,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf<BufReader<File>> {
    /// Opens the file and reads everything but the tensors' numbers.
    pub fn open(path: &Path) -> Result<Self> {
        // Before it is opened: opening a pipe waits for whoever writes into it.
        let meta = std::fs::metadata(path).context("cannot be opened")?;
        ensure!(!meta.is_dir(), "is a folder, not a file");
        ensure!(
            meta.is_file(),
            "is not a regular file (a pipe, a socket or a device)"
        );
        let file = File::open(path).context("cannot be opened")?;
        Gguf::read(BufReader::with_capacity(256 * 1024, file))
    }
}

impl<R: Read + Seek> Gguf<R> {
    /// Reads everything but the tensors' numbers.
    pub fn read(mut reader: R) -> Result<Self> {
        let file_bytes = reader.seek(SeekFrom::End(0)).context("cannot be read")?;
        reader.rewind().context("cannot be read")?;
        let mut source = Source {
            reader,
            position: 0,
            file_bytes,
        };

        let (tensor_count, entry_count) = read_header(&mut source)?;
        let metadata = Metadata::read(&mut source, entry_count)?;
        refuse_part(&metadata)?;
        let mut tensors = read_tensor_rows(&mut source, tensor_count)?;
        place_tensors(&mut tensors, &source, alignment(&metadata)?)?;
        Ok(Self {
            reader: source.reader,
            metadata,
            tensors,
        })
    }

    /// The tensor of this name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors
            .iter()
            .map(|(name, info)| (name.as_str(), info))
    }

    /// Fills `bytes` with a tensor's, from the one on that `from` counts.
    pub fn read_part(&mut self, info: &TensorInfo, from: u64, bytes: &mut [u8]) -> Result<()> {
        let end = from.checked_add(bytes.len() as u64);
        ensure!(
            end.is_some_and(|end| end <= info.bytes),
            "a part beyond the tensor's end"
        );
        self.reader
            .seek(SeekFrom::Start(info.start + from))
            .context("cannot be read")?;
        self.reader.read_exact(bytes).context("cannot be read")
    }

    /// Reads one tensor's bytes.
    pub fn read_tensor(&mut self, info: &TensorInfo) -> Result<Vec<u8>> {
        // The place was found to be inside the file, so this is no more than the file has.
        let mut bytes = vec![0; usize::try_from(info.bytes)?];
        self.read_part(info, 0, &mut bytes)?;
        Ok(bytes)
    }
}

fn read_header<R: Read + Seek>(source: &mut Source<R>) -> Result<(u64, u64)> {
    let mut magic = [0; 4];
    let available = source.remaining().min(4) as usize;
    source.read_into(&mut magic[..available], "magic")?;
    if magic != *b"GGUF" {
        if available == 0 {
            bail!("not a GGUF file (it is empty)");
        }
        bail!(
            "not a GGUF file (it starts with `{}`, a GGUF file starts with `GGUF`)",
            magic[..available].escape_ascii()
        );
    }
    let version = source.u32("version")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 2 | 3) => {
            bail!("a big-endian GGUF file: this worker reads little-endian ones")
        }
        _ => bail!("GGUF version {version} is not supported: this worker reads 2 and 3"),
    }
    let tensor_count = source.u64("tensor count")?;
    let entry_count = source.u64("metadata count")?;
    // A name's length, number of dimensions, type and offset; a key's length, a type and a value.
    let least_bytes = tensor_count
        .saturating_mul(8 + 4 + 4 + 8)
        .saturating_add(entry_count.saturating_mul(13));
    ensure!(
        least_bytes <= source.remaining(),
        "damaged or truncated: it claims {entry_count} metadata entries and {tensor_count} \
         tensors, which don't fit into its {} bytes",
        source.file_bytes
    );
    Ok((tensor_count, entry_count))
}

/// A model in several files can't be served from one of them.
fn refuse_part(metadata: &Metadata) -> Result<()> {
    let count = metadata.u64("split.count")?.unwrap_or(1);
    let number = metadata.u64("split.no")?.unwrap_or(0).saturating_add(1);
    ensure!(
        count <= 1,
        "is part {number} of {count} of a split model: join the parts into one file first"
    );
    Ok(())
}

/// The table as the file gives it: `start` still counts from where tensors begin.
fn read_tensor_rows<R: Read + Seek>(
    source: &mut Source<R>,
    count: u64,
) -> Result<BTreeMap<String, TensorInfo>> {
    let mut rows = BTreeMap::new();
    for number in 0..count {
        let name = source
            .string(MAX_NAME_BYTES)
            .with_context(|| format!("the name of tensor {number} of {count}"))?;
        let row =
            read_tensor_row(source).with_context(|| format!("tensor `{}`", name.escape_debug()))?;
        if rows.insert(name.clone(), row).is_some() {
            bail!("tensor `{}` is there twice", name.escape_debug());
        }
    }
    Ok(rows)
}

fn read_tensor_row<R: Read + Seek>(source: &mut Source<R>) -> Result<TensorInfo> {
    let dimensions = source.u32("dimensions")?;
    ensure!(
        (1..=MAX_DIMENSIONS).contains(&dimensions),
        "has {dimensions} dimensions, from 1 to {MAX_DIMENSIONS} are possible"
    );
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(source.u64("dimensions")?);
    }
    let kind = TensorType::from_number(source.u32("type")?)?;
    let start = source.u64("offset")?;

    ensure!(!shape.contains(&0), "has an empty dimension: {shape:?}");
    let numbers = shape
        .iter()
        .try_fold(1_u64, |product, &length| product.checked_mul(length))
        .filter(|&product| product <= i64::MAX as u64)
        .with_context(|| format!("has absurd dimensions: {shape:?}"))?;
    ensure!(
        shape[0].is_multiple_of(kind.block_length()),
        "has rows of {} numbers, which is no multiple of the {} in a block of {}",
        shape[0],
        kind.block_length(),
        kind.name()
    );
    let bytes = (numbers / kind.block_length())
        .checked_mul(kind.block_bytes())
        .with_context(|| format!("has absurd dimensions: {shape:?}"))?;
    let shape = shape
        .iter()
        .rev()
        .map(|&length| usize::try_from(length).context("has absurd dimensions"))
        .collect::<Result<_>>()?;
    Ok(TensorInfo {
        kind,
        shape,
        start,
        bytes,
    })
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let alignment = metadata
        .u64("general.alignment")?
        .unwrap_or(DEFAULT_ALIGNMENT);
    ensure!(
        alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment),
        "`general.alignment` is {alignment}, a power of two from 8 to 1048576 is possible"
    );
    Ok(alignment)
}

/// Turns offsets into places in the file, all inside it and none over another.
fn place_tensors<R>(
    tensors: &mut BTreeMap<String, TensorInfo>,
    source: &Source<R>,
    alignment: u64,
) -> Result<()> {
    let data_start = source.position.next_multiple_of(alignment);
    let mut by_start: BTreeMap<u64, (&str, u64)> = BTreeMap::new();
    for (name, info) in tensors {
        let name = name.as_str();
        ensure!(
            info.start.is_multiple_of(alignment),
            "tensor `{name}` starts at offset {}, which is no multiple of the alignment {alignment}",
            info.start
        );
        let start = data_start.checked_add(info.start);
        let end = start.and_then(|start| start.checked_add(info.bytes));
        let (Some(start), Some(end)) = (start, end) else {
            bail!("tensor `{name}` has the absurd offset {}", info.start);
        };
        ensure!(
            end <= source.file_bytes,
            "truncated: tensor `{name}` ends at byte {end}, but the file has {}",
            source.file_bytes
        );
        if let Some((other, _)) = by_start.insert(start, (name, end)) {
            bail!("tensors `{other}` and `{name}` overlap");
        }
        info.start = start;
    }
    let mut last: Option<(&str, u64)> = None;
    for (start, (name, end)) in by_start {
        if let Some((other, other_end)) = last
            && other_end > start
        {
            bail!("tensors `{other}` and `{name}` overlap");
        }
        last = Some((name, end));
    }
    Ok(())
}

/// A reader that knows where it is and how much is left.
struct Source<R> {
    reader: R,
    position: u64,
    file_bytes: u64,
}

impl<R: Read> Source<R> {
    fn remaining(&self) -> u64 {
        self.file_bytes - self.position
    }

    fn read_into(&mut self, bytes: &mut [u8], what: &str) -> Result<()> {
        self.ensure_remaining(bytes.len() as u64, what)?;
        self.reader.read_exact(bytes).context("cannot be read")?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn ensure_remaining(&self, bytes: u64, what: &str) -> Result<()> {
        ensure!(
            bytes <= self.remaining(),
            "truncated or damaged: {what} needs {bytes} bytes at byte {}, but the file has {}",
            self.position,
            self.file_bytes
        );
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(&mut bytes, what)?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn bytes(&mut self, most: u64) -> Result<Vec<u8>> {
        let length = self.u64("a string's length")?;
        ensure!(length <= most, "damaged: a name of {length} bytes");
        self.ensure_remaining(length, "a string")?;
        let mut bytes = vec![0; length as usize];
        self.read_into(&mut bytes, "a string")?;
        Ok(bytes)
    }

    fn string(&mut self, most: u64) -> Result<String> {
        String::from_utf8(self.bytes(most)?)
            .ok()
            .context("damaged: a name is not UTF-8")
    }
}

#[cfg(test)]
mod tests;
