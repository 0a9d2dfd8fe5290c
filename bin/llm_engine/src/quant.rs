//! What the numbers in a GGUF tensor mean: block formats, half precision, and the plain reading of
//! each. Nothing here is fast; everything that is fast is tested against it.
//!
//! The formats are those of ggml (`ggml-common.h`, `ggml-quants.c`): a block holds 32 or 256
//! numbers as small integers, with scales (`d`) and, in some formats, minima (`m`).

use super::gguf::TensorType;

pub mod half;
#[cfg(test)]
mod tests;

/// Reads whole blocks of `kind` as plain numbers.
///
/// # Panics
///
/// Where `bytes` and `values` don't hold the same number of whole blocks.
pub fn dequantise(kind: TensorType, bytes: &[u8], values: &mut [f32]) {
    let length = kind.block_length() as usize;
    let size = kind.block_bytes() as usize;
    assert_eq!(bytes.len() % size, 0, "a block is cut off");
    assert_eq!(
        bytes.len() / size * length,
        values.len(),
        "not the blocks' length"
    );
    let read = reader(kind);
    for (block, values) in bytes
        .chunks_exact(size)
        .zip(values.chunks_exact_mut(length))
    {
        read(block, values);
    }
}

fn reader(kind: TensorType) -> fn(&[u8], &mut [f32]) {
    match kind {
        TensorType::F32 => f32_block,
        TensorType::F16 => |block, values| values[0] = half::at(block, 0),
        TensorType::Bf16 => |block, values| values[0] = half::bf16_to_f32(u16_at(block, 0)),
        TensorType::Q4_0 => q4_0,
        TensorType::Q4_1 => q4_1,
        TensorType::Q5_0 => q5_0,
        TensorType::Q5_1 => q5_1,
        TensorType::Q8_0 => q8_0,
        TensorType::Q2K => q2_k,
        TensorType::Q3K => q3_k,
        TensorType::Q4K => q4_k,
        TensorType::Q5K => q5_k,
        TensorType::Q6K => q6_k,
    }
}

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn f32_block(block: &[u8], values: &mut [f32]) {
    values[0] = f32::from_bits(u32_at(block, 0));
}

/// `d: f16`, then 16 bytes: the low halves are numbers 0 to 15, the high halves 16 to 31.
fn q4_0(block: &[u8], values: &mut [f32]) {
    let d = half::at(block, 0);
    for (at, byte) in block[2..].iter().enumerate() {
        values[at] = d * (f32::from(byte & 15) - 8.0);
        values[at + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// `d: f16`, `m: f16`, then as `Q4_0`.
fn q4_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half::at(block, 0), half::at(block, 2));
    for (at, byte) in block[4..].iter().enumerate() {
        values[at] = d * f32::from(byte & 15) + m;
        values[at + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// The fifth bit of number `at`, in its place.
fn fifth_bit(high: u32, at: usize) -> u8 {
    ((high >> at) as u8 & 1) << 4
}

/// `d: f16`, 32 bits (the fifth bit of each number), then as `Q4_0`.
fn q5_0(block: &[u8], values: &mut [f32]) {
    let (d, high) = (half::at(block, 0), u32_at(block, 2));
    for (at, byte) in block[6..].iter().enumerate() {
        values[at] = d * (f32::from(byte & 15 | fifth_bit(high, at)) - 16.0);
        values[at + 16] = d * (f32::from(byte >> 4 | fifth_bit(high, at + 16)) - 16.0);
    }
}

/// `d: f16`, `m: f16`, 32 bits (the fifth bit of each number), then as `Q4_0`.
fn q5_1(block: &[u8], values: &mut [f32]) {
    let (d, m, high) = (half::at(block, 0), half::at(block, 2), u32_at(block, 4));
    for (at, byte) in block[8..].iter().enumerate() {
        values[at] = d * f32::from(byte & 15 | fifth_bit(high, at)) + m;
        values[at + 16] = d * f32::from(byte >> 4 | fifth_bit(high, at + 16)) + m;
    }
}

/// `d: f16`, then 32 signed bytes.
fn q8_0(block: &[u8], values: &mut [f32]) {
    let d = half::at(block, 0);
    for (value, byte) in values.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(*byte as i8);
    }
}

/// 16 bytes (low half a scale, high half a minimum, of 16 numbers each), 64 bytes of two bits,
/// `d: f16`, `dmin: f16`.
///
/// Byte `i` of each 32 holds four numbers that are 32 apart.
fn q2_k(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half::at(block, 80), half::at(block, 82));
    for (at, value) in values.iter_mut().enumerate() {
        let scales = block[at / 16];
        let q = block[16 + at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3;
        *value = d * f32::from(scales & 15) * f32::from(q) - dmin * f32::from(scales >> 4);
    }
}

/// The signed scale of the 16 numbers from `16 * part` on, in the twelve bytes of a `Q3_K` block.
pub fn q3_k_scale(scales: &[u8], part: usize) -> i8 {
    let low = scales[part % 8] >> (part / 8 * 4) & 15;
    let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

/// 32 bytes (third bits; one that is not set means minus 4), 64 bytes of two bits, 12 bytes of
/// six-bit scales, `d: f16`.
fn q3_k(block: &[u8], values: &mut [f32]) {
    let d = half::at(block, 108);
    for (at, value) in values.iter_mut().enumerate() {
        let low = block[32 + at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3;
        let high = block[at % 32] >> (at / 32) & 1;
        let q = (low | high << 2) as i8 - 4;
        *value = d * f32::from(q3_k_scale(&block[96..108], at / 16)) * f32::from(q);
    }
}

/// Scale and minimum of the 32 numbers from `32 * part` on, six bits each, in the twelve bytes of a
/// `Q4_K` or `Q5_K` block.
pub fn k_scale_and_minimum(scales: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        (scales[part] & 63, scales[part + 4] & 63)
    } else {
        let low = scales[part + 4];
        (
            low & 15 | scales[part - 4] >> 6 << 4,
            low >> 4 | scales[part] >> 6 << 4,
        )
    }
}

/// `d: f16`, `dmin: f16`, 12 bytes of scales and minima, 128 bytes: the low halves of each 32 are
/// one part of 32 numbers, the high halves the next.
fn q4_k(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half::at(block, 0), half::at(block, 2));
    for (at, value) in values.iter_mut().enumerate() {
        let (scale, minimum) = k_scale_and_minimum(&block[4..16], at / 32);
        let q = block[16 + at / 64 * 32 + at % 32] >> (at % 64 / 32 * 4) & 15;
        *value = d * f32::from(scale) * f32::from(q) - dmin * f32::from(minimum);
    }
}

/// As `Q4_K`, with 32 bytes of fifth bits before the 128 bytes.
fn q5_k(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half::at(block, 0), half::at(block, 2));
    for (at, value) in values.iter_mut().enumerate() {
        let (scale, minimum) = k_scale_and_minimum(&block[4..16], at / 32);
        let low = block[48 + at / 64 * 32 + at % 32] >> (at % 64 / 32 * 4) & 15;
        let high = block[16 + at % 32] >> (at / 32) & 1;
        let q = low | high << 4;
        *value = d * f32::from(scale) * f32::from(q) - dmin * f32::from(minimum);
    }
}

/// 128 bytes of low halves, 64 bytes of two high bits, 16 signed scales, `d: f16`.
fn q6_k(block: &[u8], values: &mut [f32]) {
    let d = half::at(block, 208);
    for (at, value) in values.iter_mut().enumerate() {
        let low = block[at / 128 * 64 + at % 64] >> (at % 128 / 64 * 4) & 15;
        let high = block[128 + at / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3;
        let q = (low | high << 4) as i8 - 32;
        *value = d * f32::from(block[192 + at / 16] as i8) * f32::from(q);
    }
}
