//! How blocks lie in a packed matrix, and how kernels read them.
//!
//! Sixteen rows are a tile. A tile holds, block after block of columns, the block's small integers
//! of all sixteen rows, then their scales, so that a vector's lanes are the tile's rows and nothing
//! has to be added up across lanes. Columns are read in groups of 32, and a group in eight steps of
//! four columns.
//!
//! | what | bytes for a group | lane `r`, byte `j` of vector `v` |
//! |---|---|---|
//! | four bits | 4 vectors | columns `4v + j` (low) and `16 + 4v + j` (high) |
//! | two bits | 2 vectors | bits `2p`, `2p + 1`: column `16v + 4p + j` |
//! | one bit | 1 vector | bit `s`: column `4s + j` |
//! | eight bits | 8 vectors | column `4v + j` |
//!
//! This takes as many bytes as the file does, but for the six-bit scales of `Q3_K`, `Q4_K` and
//! `Q5_K`, which get eight bits (3 % more).

use super::simd::{LANES, Simd};

/// Bytes of a vector.
pub const VECTOR: usize = 4 * LANES;

/// Bytes of a half-precision number of each row.
pub const HALVES: usize = 2 * LANES;

/// A block format, as kernels see it.
///
/// A number is `scale * q`, plus `minimum` where there are minima. In formats with two `PARTS`, each
/// half of a group has a small integer scale besides, and a small integer minimum or an `OFFSET`:
/// `scale * part_scale * (q - OFFSET) + minimum * part_minimum`.
///
/// # Safety
///
/// Functions take the start of a block's `TILE_BYTES` bytes. `group` is below `GROUPS`, `step`
/// below 8, `part` below `PARTS`. See [`Simd`] for the rest.
pub trait Format {
    /// Groups of 32 columns in a block.
    const GROUPS: usize;
    /// Bytes of a block of sixteen rows.
    const TILE_BYTES: usize;
    /// Into how many parts with integer scales a group falls: 1 (none) or 2.
    const PARTS: usize = 1;
    /// How many steps a 16-bit sum holds: each adds up to twice 127 times the largest number.
    const RUN: usize;
    /// What a zero is stored as, in formats with two parts.
    const OFFSET: i32 = 0;
    /// Whether there are minima.
    const MINIMUM: bool = false;
    /// Whether small integers are signed bytes.
    const SIGNED: bool = false;

    /// The small integers of four columns.
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes;
    /// The group's scales.
    unsafe fn scale<S: Simd>(block: *const u8, group: usize) -> S::Floats;
    /// The group's minima; with two parts, what the parts' minima are multiplied with.
    unsafe fn minimum<S: Simd>(_block: *const u8, _group: usize) -> S::Floats {
        unsafe { S::float(0.0) }
    }
    /// A part's scales.
    unsafe fn part_scale<S: Simd>(_block: *const u8, _group: usize, _part: usize) -> S::Ints {
        unsafe { S::int(1) }
    }
    /// A part's minima.
    unsafe fn part_minimum<S: Simd>(_block: *const u8, _group: usize, _part: usize) -> S::Ints {
        unsafe { S::int(1) }
    }
}

/// Four bits of each number, from the group's vectors.
#[inline(always)]
unsafe fn four_bits<S: Simd>(vectors: *const u8, step: usize) -> S::Bytes {
    unsafe {
        let bytes = S::bytes(vectors.add(step % 4 * VECTOR));
        S::bits_down(bytes, if step < 4 { 0 } else { 4 }, 15)
    }
}

/// Two bits of each number, from the group's vectors, moved up by `up`.
#[inline(always)]
unsafe fn two_bits<S: Simd>(vectors: *const u8, step: usize, up: u32) -> S::Bytes {
    unsafe {
        let bytes = S::bytes(vectors.add(step / 4 * VECTOR));
        let from = step as u32 % 4 * 2;
        if from >= up {
            S::bits_down(bytes, from - up, 3 << up)
        } else {
            S::bits_up(bytes, up - from, 3 << up)
        }
    }
}

/// One bit of each number, from the group's vector, moved up by `up`.
#[inline(always)]
unsafe fn one_bit<S: Simd>(vector: *const u8, step: usize, up: u32) -> S::Bytes {
    unsafe {
        let bytes = S::bytes(vector);
        let from = step as u32;
        if from >= up {
            S::bits_down(bytes, from - up, 1 << up)
        } else {
            S::bits_up(bytes, up - from, 1 << up)
        }
    }
}

/// Half-precision numbers of the rows.
#[inline(always)]
unsafe fn halves<S: Simd>(from: *const u8) -> S::Floats {
    unsafe { S::floats_from_f16(from.cast()) }
}

/// `d` times small integers.
#[inline(always)]
unsafe fn times<S: Simd>(d: S::Floats, integers: *const u8) -> S::Floats {
    unsafe { S::mul(d, S::floats_from_ints(S::ints_from_u8(integers))) }
}

#[inline(always)]
unsafe fn negative<S: Simd>(floats: S::Floats) -> S::Floats {
    unsafe { S::mul(floats, S::float(-1.0)) }
}

/// Four bits, `d`.
pub struct Q4_0;

impl Format for Q4_0 {
    const GROUPS: usize = 1;
    const TILE_BYTES: usize = 4 * VECTOR + HALVES;
    const RUN: usize = 8;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, _: usize, step: usize) -> S::Bytes {
        unsafe { four_bits::<S>(block, step) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(4 * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, group: usize) -> S::Floats {
        // Zero is stored as 8.
        unsafe { S::mul(Self::scale::<S>(block, group), S::float(-8.0)) }
    }
}

/// Four bits, `d`, `m`.
pub struct Q4_1;

impl Format for Q4_1 {
    const GROUPS: usize = 1;
    const TILE_BYTES: usize = 4 * VECTOR + 2 * HALVES;
    const RUN: usize = 8;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, _: usize, step: usize) -> S::Bytes {
        unsafe { four_bits::<S>(block, step) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(4 * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(4 * VECTOR + HALVES)) }
    }
}

/// Four bits, one bit, `d`.
pub struct Q5_0;

impl Format for Q5_0 {
    const GROUPS: usize = 1;
    const TILE_BYTES: usize = 5 * VECTOR + HALVES;
    const RUN: usize = 4;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, _: usize, step: usize) -> S::Bytes {
        unsafe {
            let high = one_bit::<S>(block.add(4 * VECTOR), step, 4);
            S::or(four_bits::<S>(block, step), high)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(5 * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, group: usize) -> S::Floats {
        // Zero is stored as 16.
        unsafe { S::mul(Self::scale::<S>(block, group), S::float(-16.0)) }
    }
}

/// Four bits, one bit, `d`, `m`.
pub struct Q5_1;

impl Format for Q5_1 {
    const GROUPS: usize = 1;
    const TILE_BYTES: usize = 5 * VECTOR + 2 * HALVES;
    const RUN: usize = 4;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes {
        unsafe { Q5_0::step::<S>(block, group, step) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(5 * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(5 * VECTOR + HALVES)) }
    }
}

/// Eight bits, `d`.
pub struct Q8_0;

impl Format for Q8_0 {
    const GROUPS: usize = 1;
    const TILE_BYTES: usize = 8 * VECTOR + HALVES;
    const RUN: usize = 1;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, _: usize, step: usize) -> S::Bytes {
        unsafe { S::bytes(block.add(step * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(8 * VECTOR)) }
    }
}

/// Two bits; sixteen bytes for each part (low half a scale, high half a minimum); `d`, `dmin`.
pub struct Q2K;

impl Q2K {
    pub const SCALES: usize = 8 * 2 * VECTOR;
    pub const HALVES: usize = Self::SCALES + 16 * LANES;

    #[inline(always)]
    unsafe fn part<S: Simd>(block: *const u8, group: usize, part: usize) -> S::Ints {
        unsafe { S::ints_from_u8(block.add(Self::SCALES + (2 * group + part) * LANES)) }
    }
}

impl Format for Q2K {
    const GROUPS: usize = 8;
    const TILE_BYTES: usize = Self::HALVES + 2 * HALVES;
    const PARTS: usize = 2;
    const RUN: usize = 4;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes {
        unsafe { two_bits::<S>(block.add(group * 2 * VECTOR), step, 0) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(Self::HALVES)) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { negative::<S>(halves::<S>(block.add(Self::HALVES + HALVES))) }
    }
    #[inline(always)]
    unsafe fn part_scale<S: Simd>(block: *const u8, group: usize, part: usize) -> S::Ints {
        unsafe { S::int_bits(Self::part::<S>(block, group, part), 0, 15) }
    }
    #[inline(always)]
    unsafe fn part_minimum<S: Simd>(block: *const u8, group: usize, part: usize) -> S::Ints {
        unsafe { S::int_bits(Self::part::<S>(block, group, part), 4, 15) }
    }
}

/// Two bits, one bit, signed scales of the parts, `d`.
pub struct Q3K;

impl Q3K {
    pub const HIGH: usize = 8 * 2 * VECTOR;
    pub const SCALES: usize = Self::HIGH + 8 * VECTOR;
    pub const HALVES: usize = Self::SCALES + 16 * LANES;
}

impl Format for Q3K {
    const GROUPS: usize = 8;
    const TILE_BYTES: usize = Self::HALVES + HALVES;
    const PARTS: usize = 2;
    const RUN: usize = 4;
    const OFFSET: i32 = 4;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes {
        unsafe {
            let high = one_bit::<S>(block.add(Self::HIGH + group * VECTOR), step, 2);
            S::or(two_bits::<S>(block.add(group * 2 * VECTOR), step, 0), high)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(Self::HALVES)) }
    }
    #[inline(always)]
    unsafe fn part_scale<S: Simd>(block: *const u8, group: usize, part: usize) -> S::Ints {
        unsafe { S::ints_from_i8(block.add(Self::SCALES + (2 * group + part) * LANES)) }
    }
}

/// Four bits, scales of the groups, minima of the groups, `d`, `dmin`.
pub struct Q4K;

impl Q4K {
    pub const SCALES: usize = 8 * 4 * VECTOR;

    /// A group's scales, where `scales` are the block's.
    #[inline(always)]
    unsafe fn group_scale<S: Simd>(scales: *const u8, group: usize) -> S::Floats {
        unsafe {
            times::<S>(
                halves::<S>(scales.add(16 * LANES)),
                scales.add(group * LANES),
            )
        }
    }
    /// A group's minima, where `scales` are the block's.
    #[inline(always)]
    unsafe fn group_minimum<S: Simd>(scales: *const u8, group: usize) -> S::Floats {
        unsafe {
            let dmin = halves::<S>(scales.add(16 * LANES + HALVES));
            negative::<S>(times::<S>(dmin, scales.add((8 + group) * LANES)))
        }
    }
}

impl Format for Q4K {
    const GROUPS: usize = 8;
    const TILE_BYTES: usize = Self::SCALES + 16 * LANES + 2 * HALVES;
    const RUN: usize = 8;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes {
        unsafe { four_bits::<S>(block.add(group * 4 * VECTOR), step) }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, group: usize) -> S::Floats {
        unsafe { Self::group_scale::<S>(block.add(Self::SCALES), group) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, group: usize) -> S::Floats {
        unsafe { Self::group_minimum::<S>(block.add(Self::SCALES), group) }
    }
}

/// Four bits, one bit, then as `Q4_K`.
pub struct Q5K;

impl Q5K {
    pub const HIGH: usize = 8 * 4 * VECTOR;
    pub const SCALES: usize = Self::HIGH + 8 * VECTOR;
}

impl Format for Q5K {
    const GROUPS: usize = 8;
    const TILE_BYTES: usize = Self::SCALES + 16 * LANES + 2 * HALVES;
    const RUN: usize = 4;
    const MINIMUM: bool = true;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes {
        unsafe {
            let high = one_bit::<S>(block.add(Self::HIGH + group * VECTOR), step, 4);
            S::or(four_bits::<S>(block.add(group * 4 * VECTOR), step), high)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, group: usize) -> S::Floats {
        unsafe { Q4K::group_scale::<S>(block.add(Self::SCALES), group) }
    }
    #[inline(always)]
    unsafe fn minimum<S: Simd>(block: *const u8, group: usize) -> S::Floats {
        unsafe { Q4K::group_minimum::<S>(block.add(Self::SCALES), group) }
    }
}

/// Four bits, two bits, signed scales of the parts, `d`.
pub struct Q6K;

impl Q6K {
    pub const HIGH: usize = 8 * 4 * VECTOR;
    pub const SCALES: usize = Self::HIGH + 8 * 2 * VECTOR;
    pub const HALVES: usize = Self::SCALES + 16 * LANES;
}

impl Format for Q6K {
    const GROUPS: usize = 8;
    const TILE_BYTES: usize = Self::HALVES + HALVES;
    const PARTS: usize = 2;
    const RUN: usize = 2;
    const OFFSET: i32 = 32;

    #[inline(always)]
    unsafe fn step<S: Simd>(block: *const u8, group: usize, step: usize) -> S::Bytes {
        unsafe {
            let high = two_bits::<S>(block.add(Self::HIGH + group * 2 * VECTOR), step, 4);
            S::or(four_bits::<S>(block.add(group * 4 * VECTOR), step), high)
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Simd>(block: *const u8, _: usize) -> S::Floats {
        unsafe { halves::<S>(block.add(Self::HALVES)) }
    }
    #[inline(always)]
    unsafe fn part_scale<S: Simd>(block: *const u8, group: usize, part: usize) -> S::Ints {
        unsafe { S::ints_from_i8(block.add(Self::SCALES + (2 * group + part) * LANES)) }
    }
}
