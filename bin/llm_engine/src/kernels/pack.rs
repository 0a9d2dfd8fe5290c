//! Puts a tensor's rows into tiles, and reads them back. See `formats` for where everything goes.

use crate::gguf::TensorType;
use crate::quant::{k_scale_and_minimum, q3_k_scale};

use super::LANES;
use super::formats::{
    Format, HALVES, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, VECTOR,
};
use super::portable::Portable;
use super::product::{self, GROUP, Plain};

/// Bytes of one block of sixteen rows.
fn block_bytes(kind: TensorType) -> usize {
    match kind {
        TensorType::F32 => product::F32::BYTES * LANES,
        TensorType::F16 => product::F16::BYTES * LANES,
        TensorType::Bf16 => product::Bf16::BYTES * LANES,
        TensorType::Q4_0 => Q4_0::TILE_BYTES,
        TensorType::Q4_1 => Q4_1::TILE_BYTES,
        TensorType::Q5_0 => Q5_0::TILE_BYTES,
        TensorType::Q5_1 => Q5_1::TILE_BYTES,
        TensorType::Q8_0 => Q8_0::TILE_BYTES,
        TensorType::Q2K => Q2K::TILE_BYTES,
        TensorType::Q3K => Q3K::TILE_BYTES,
        TensorType::Q4K => Q4K::TILE_BYTES,
        TensorType::Q5K => Q5K::TILE_BYTES,
        TensorType::Q6K => Q6K::TILE_BYTES,
    }
}

/// Bytes of a tile of `columns` columns, a whole number of blocks.
pub fn tile_bytes(kind: TensorType, columns: usize) -> usize {
    columns / kind.block_length() as usize * block_bytes(kind)
}

/// Fills a tile with up to sixteen rows of `columns` numbers, as they follow each other in a file.
/// What the tile held for other rows stays.
pub fn pack_tile(kind: TensorType, columns: usize, rows: &[u8], tile: &mut [u8]) {
    let size = kind.block_bytes() as usize;
    let row_bytes = columns / kind.block_length() as usize * size;
    for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
        let tiles = tile.chunks_exact_mut(block_bytes(kind));
        for (block, tile) in row.chunks_exact(size).zip(tiles) {
            pack_block(kind, block, &mut Lane { tile, lane });
        }
    }
}

/// One row of a block's tile.
struct Lane<'a> {
    tile: &'a mut [u8],
    lane: usize,
}

/// The small integers of a group: four columns in each word, the first in its lowest byte.
type Steps = [u32; 8];

impl Lane<'_> {
    fn put<const N: usize>(&mut self, start: usize, bytes: [u8; N]) {
        self.tile[start + self.lane * N..][..N].copy_from_slice(&bytes);
    }

    fn half(&mut self, start: usize, block: &[u8], at: usize) {
        self.put(start, [block[at], block[at + 1]]);
    }

    fn eight_bits(&mut self, start: usize, steps: Steps) {
        for (step, word) in steps.into_iter().enumerate() {
            self.put(start + step * VECTOR, word.to_le_bytes());
        }
    }

    fn four_bits(&mut self, start: usize, steps: Steps) {
        for vector in 0..4 {
            let (low, high) = (steps[vector] & 0x0f0f_0f0f, steps[vector + 4] & 0x0f0f_0f0f);
            self.put(start + vector * VECTOR, (low | high << 4).to_le_bytes());
        }
    }

    /// The two bits from bit `down` on.
    fn two_bits(&mut self, start: usize, steps: Steps, down: u32) {
        for (vector, steps) in steps.chunks_exact(4).enumerate() {
            let mut word = 0;
            for (step, bits) in steps.iter().enumerate() {
                word |= (bits >> down & 0x0303_0303) << (2 * step);
            }
            self.put(start + vector * VECTOR, word.to_le_bytes());
        }
    }

    fn one_bit(&mut self, start: usize, steps: Steps, down: u32) {
        let mut word = 0;
        for (step, bits) in steps.into_iter().enumerate() {
            word |= (bits >> down & 0x0101_0101) << step;
        }
        self.put(start, word.to_le_bytes());
    }
}

fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The four columns of each step, from consecutive words of which `down` and `mask` give the bits.
#[inline]
fn columns(block: &[u8], start: usize, down: usize, mask: u32) -> Steps {
    std::array::from_fn(|step| word(block, start + 4 * step) >> down & mask)
}

/// Columns of formats whose low halves are the first sixteen columns and high halves the others.
#[inline]
fn halves_apart(block: &[u8], start: usize) -> Steps {
    std::array::from_fn(|step| word(block, start + step % 4 * 4) >> (step / 4 * 4) & 0x0f0f_0f0f)
}

/// Adds the fifth bits, of which there is one after the other.
fn with_fifth_bits(mut steps: Steps, high: u32) -> Steps {
    for (step, word) in steps.iter_mut().enumerate() {
        let bits = high >> (4 * step) & 15;
        *word |= ((bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21) << 4;
    }
    steps
}

fn joined(low: Steps, high: Steps, up: u32) -> Steps {
    std::array::from_fn(|step| low[step] | high[step] << up)
}

fn pack_block(kind: TensorType, block: &[u8], lane: &mut Lane<'_>) {
    match kind {
        TensorType::F32 => lane.put(0, [block[0], block[1], block[2], block[3]]),
        TensorType::F16 | TensorType::Bf16 => lane.half(0, block, 0),
        TensorType::Q4_0 => {
            lane.four_bits(0, halves_apart(block, 2));
            lane.half(4 * VECTOR, block, 0);
        }
        TensorType::Q4_1 => {
            lane.four_bits(0, halves_apart(block, 4));
            lane.half(4 * VECTOR, block, 0);
            lane.half(4 * VECTOR + HALVES, block, 2);
        }
        TensorType::Q5_0 | TensorType::Q5_1 => {
            let start = if kind == TensorType::Q5_0 { 2 } else { 4 };
            let steps = halves_apart(block, start + 4);
            let steps = with_fifth_bits(steps, word(block, start));
            lane.four_bits(0, steps);
            lane.one_bit(4 * VECTOR, steps, 4);
            for half in 0..start / 2 {
                lane.half(5 * VECTOR + half * HALVES, block, 2 * half);
            }
        }
        TensorType::Q8_0 => {
            lane.eight_bits(0, columns(block, 2, 0, u32::MAX));
            lane.half(8 * VECTOR, block, 0);
        }
        TensorType::Q2K => pack_q2_k(block, lane),
        TensorType::Q3K => pack_q3_k(block, lane),
        TensorType::Q4K => {
            for group in 0..8 {
                let steps = columns(block, 16 + group / 2 * 32, group % 2 * 4, 0x0f0f_0f0f);
                lane.four_bits(group * 4 * VECTOR, steps);
            }
            pack_k_scales(block, lane, Q4K::SCALES);
        }
        TensorType::Q5K => {
            for group in 0..8 {
                let low = columns(block, 48 + group / 2 * 32, group % 2 * 4, 0x0f0f_0f0f);
                lane.four_bits(group * 4 * VECTOR, low);
                let high = columns(block, 16, group, 0x0101_0101);
                lane.one_bit(Q5K::HIGH + group * VECTOR, high, 0);
            }
            pack_k_scales(block, lane, Q5K::SCALES);
        }
        TensorType::Q6K => pack_q6_k(block, lane),
    }
}

fn pack_q2_k(block: &[u8], lane: &mut Lane<'_>) {
    for group in 0..8 {
        let steps = columns(block, 16 + group / 4 * 32, group % 4 * 2, 0x0303_0303);
        lane.two_bits(group * 2 * VECTOR, steps, 0);
    }
    for (part, scales) in block[..16].iter().enumerate() {
        lane.put(Q2K::SCALES + part * LANES, [*scales]);
    }
    lane.half(Q2K::HALVES, block, 80);
    lane.half(Q2K::HALVES + HALVES, block, 82);
}

fn pack_q3_k(block: &[u8], lane: &mut Lane<'_>) {
    for group in 0..8 {
        let low = columns(block, 32 + group / 4 * 32, group % 4 * 2, 0x0303_0303);
        lane.two_bits(group * 2 * VECTOR, low, 0);
        lane.one_bit(
            Q3K::HIGH + group * VECTOR,
            columns(block, 0, group, 0x0101_0101),
            0,
        );
    }
    for part in 0..16 {
        let scale = q3_k_scale(&block[96..108], part);
        lane.put(Q3K::SCALES + part * LANES, [scale as u8]);
    }
    lane.half(Q3K::HALVES, block, 108);
}

fn pack_q6_k(block: &[u8], lane: &mut Lane<'_>) {
    for group in 0..8 {
        let start = group / 4 * 64 + group % 2 * 32;
        let low = columns(block, start, group % 4 / 2 * 4, 0x0f0f_0f0f);
        let high = columns(block, 128 + group / 4 * 32, group % 4 * 2, 0x0303_0303);
        let steps = joined(low, high, 4);
        lane.four_bits(group * 4 * VECTOR, steps);
        lane.two_bits(Q6K::HIGH + group * 2 * VECTOR, steps, 4);
    }
    for part in 0..16 {
        lane.put(Q6K::SCALES + part * LANES, [block[192 + part]]);
    }
    lane.half(Q6K::HALVES, block, 208);
}

/// Scales, minima, `d` and `dmin` of a `Q4_K` or `Q5_K` block.
fn pack_k_scales(block: &[u8], lane: &mut Lane<'_>, start: usize) {
    for group in 0..8 {
        let (scale, minimum) = k_scale_and_minimum(&block[4..16], group);
        lane.put(start + group * LANES, [scale]);
        lane.put(start + (8 + group) * LANES, [minimum]);
    }
    lane.half(start + 16 * LANES, block, 0);
    lane.half(start + 16 * LANES + HALVES, block, 2);
}

/// Reads one of a tile's rows as plain numbers.
pub fn unpack_row(kind: TensorType, tile: &[u8], lane: usize, values: &mut [f32]) {
    assert_eq!(
        tile.len(),
        tile_bytes(kind, values.len()),
        "not the tile of these columns"
    );
    assert!(lane < LANES);
    let unpack = match kind {
        TensorType::F32 => plain_row::<product::F32>,
        TensorType::F16 => plain_row::<product::F16>,
        TensorType::Bf16 => plain_row::<product::Bf16>,
        TensorType::Q4_0 => quantised_row::<Q4_0>,
        TensorType::Q4_1 => quantised_row::<Q4_1>,
        TensorType::Q5_0 => quantised_row::<Q5_0>,
        TensorType::Q5_1 => quantised_row::<Q5_1>,
        TensorType::Q8_0 => quantised_row::<Q8_0>,
        TensorType::Q2K => quantised_row::<Q2K>,
        TensorType::Q3K => quantised_row::<Q3K>,
        TensorType::Q4K => quantised_row::<Q4K>,
        TensorType::Q5K => quantised_row::<Q5K>,
        TensorType::Q6K => quantised_row::<Q6K>,
    };
    unpack(tile, lane, values);
}

type S = Portable<false>;

fn plain_row<P: Plain>(tile: &[u8], lane: usize, values: &mut [f32]) {
    let columns = tile.chunks_exact(P::BYTES * LANES);
    for (value, column) in values.iter_mut().zip(columns) {
        // SAFETY: plain code needs no special processor; a column has as many bytes as are read.
        *value = unsafe { P::column::<S>(column.as_ptr()) }[lane];
    }
}

fn quantised_row<F: Format>(tile: &[u8], lane: usize, values: &mut [f32]) {
    let blocks = tile.chunks_exact(F::TILE_BYTES);
    for (block, values) in blocks.zip(values.chunks_exact_mut(GROUP * F::GROUPS)) {
        let block = block.as_ptr();
        for (group, values) in values.chunks_exact_mut(GROUP).enumerate() {
            for (step, values) in values.chunks_exact_mut(4).enumerate() {
                let part = step * F::PARTS / 8;
                // SAFETY: plain code needs no special processor; `block` has `TILE_BYTES` bytes,
                // `group`, `part` and `step` are in range.
                let (quants, scale, minimum, part_scale, part_minimum) = unsafe {
                    (
                        F::step::<S>(block, group, step)[lane],
                        F::scale::<S>(block, group)[lane],
                        F::minimum::<S>(block, group)[lane],
                        F::part_scale::<S>(block, group, part)[lane],
                        F::part_minimum::<S>(block, group, part)[lane],
                    )
                };
                for (value, quant) in values.iter_mut().zip(quants) {
                    let quant = if F::SIGNED {
                        i32::from(quant as i8)
                    } else {
                        i32::from(quant) - F::OFFSET
                    };
                    *value =
                        scale * part_scale as f32 * quant as f32 + minimum * part_minimum as f32;
                }
            }
        }
    }
}
