//! Models that a worker has to refuse, made from a good one.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tasks::worker::net::framing::find;

/// No model's metadata and tensor table are longer. Weights that nobody reads need not be copied.
const HEADER_LIMIT_BYTES: u64 = 32 << 20;

/// More than any padding at the end.
const LEAST_CUT_BYTES: u64 = 4096;

/// A tensor that every model of the llama family has.
const TENSOR: &[u8] = b"token_embd.weight";

/// A number that stands for no way to store weights.
const NO_TENSOR_TYPE: u32 = 4242;

/// The type number of strings in a GGUF's metadata.
const STRING: u32 = 8;

/// A file that is no model at all.
pub fn text_file(folder: &Path) -> Result<PathBuf> {
    write(folder, "text.gguf", b"This is not a model.\n", 21)
}

/// A file without a byte.
pub fn empty_file(folder: &Path) -> Result<PathBuf> {
    write(folder, "empty.gguf", b"", 0)
}

/// The model's first half, or what of it holds more than its tensor table.
pub fn half(model: &Path, folder: &Path) -> Result<PathBuf> {
    let (header, size) = read(model)?;
    let length = (size / 2).min(HEADER_LIMIT_BYTES) as usize;
    let kept = &header[..length.min(header.len())];
    write(folder, "half.gguf", kept, kept.len() as u64)
}

/// The model without its last hundredth. What lies beyond the header is zeros.
pub fn shortened(model: &Path, folder: &Path) -> Result<PathBuf> {
    let (header, size) = read(model)?;
    let size = size.saturating_sub((size / 100).max(LEAST_CUT_BYTES));
    let kept = &header[..(size as usize).min(header.len())];
    write(folder, "shortened.gguf", kept, size)
}

/// The model under an architecture that nobody knows; `None` where it names none.
pub fn unknown_architecture(model: &Path, folder: &Path) -> Result<Option<PathBuf>> {
    let (mut header, size) = read(model)?;
    let Some(value) = architecture(&mut header) else {
        return Ok(None);
    };
    value.fill(b'x');
    write(folder, "architecture.gguf", &header, size).map(Some)
}

/// The model with a tensor stored in a way that nobody knows; `None` where we can't find one.
pub fn unknown_quantisation(model: &Path, folder: &Path) -> Result<Option<PathBuf>> {
    let (mut header, size) = read(model)?;
    let Some(kind) = tensor_type(&mut header) else {
        return Ok(None);
    };
    kind.copy_from_slice(&NO_TENSOR_TYPE.to_le_bytes());
    write(folder, "quantisation.gguf", &header, size).map(Some)
}

/// The beginning of the model, and its size.
fn read(model: &Path) -> Result<(Vec<u8>, u64)> {
    let file = File::open(model).with_context(|| format!("cannot open {}", model.display()))?;
    let size = file.metadata()?.len();
    let mut header = Vec::new();
    file.take(HEADER_LIMIT_BYTES).read_to_end(&mut header)?;
    Ok((header, size))
}

/// Writes these bytes, and zeros that take no room up to `size`.
fn write(folder: &Path, name: &str, bytes: &[u8], size: u64) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut file =
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(bytes)?;
    file.set_len(size)?;
    Ok(path)
}

/// The bytes of the architecture's name.
fn architecture(header: &mut [u8]) -> Option<&mut [u8]> {
    const KEY: &[u8] = b"general.architecture";
    let at = find(header, KEY)? + KEY.len();
    let kind = u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?);
    let length = u64::from_le_bytes(header.get(at + 4..at + 12)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (kind == STRING && length <= 100).then_some(())?;
    header.get_mut(at + 12..at + 12 + length)
}

/// The bytes that say how a tensor is stored.
fn tensor_type(header: &mut [u8]) -> Option<&mut [u8]> {
    let at = find(header, TENSOR)? + TENSOR.len();
    let dimensions = u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?) as usize;
    (dimensions <= 4).then_some(())?;
    let at = at + 4 + dimensions * 8;
    header.get_mut(at..at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_architecture_and_a_tensors_type_are_found() {
        let mut header = b"GGUF....\x14\0\0\0\0\0\0\0general.architecture".to_vec();
        header.extend_from_slice(&STRING.to_le_bytes());
        header.extend_from_slice(&5u64.to_le_bytes());
        header.extend_from_slice(b"llama and more, token_embd.weight");
        header.extend_from_slice(&2u32.to_le_bytes());
        header.extend_from_slice(&[7; 16]);
        header.extend_from_slice(&3u32.to_le_bytes());
        assert_eq!(architecture(&mut header).unwrap(), b"llama");
        assert_eq!(tensor_type(&mut header).unwrap(), 3u32.to_le_bytes());
        assert_eq!(architecture(&mut b"general.architecture".to_vec()), None);
        assert_eq!(
            tensor_type(&mut b"token_embd.weight\x02\0\0\0".to_vec()),
            None
        );
    }
}
