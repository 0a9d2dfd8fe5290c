//! Products of tiles of a packed matrix with rows of activations.

use super::formats::Format;
use super::simd::{LANES, Simd};

/// How many columns share a scale in quantised activations.
pub const GROUP: usize = 32;

/// 32 consecutive activations of a row: `quants * scale`, nearly.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Activations {
    /// From -127 to 127.
    pub quants: [i8; GROUP],
    /// The largest of the activations, without sign, divided by 127.
    pub scale: f32,
    /// The sum of the quants, times the scale: what a minimum is multiplied with.
    pub scaled_sum: f32,
    /// The sum of the quants: what an offset is multiplied with.
    pub sum: i32,
    /// The sums of each sixteen quants.
    pub part_sums: [i16; 2],
}

/// A product of one tile with a few input rows.
///
/// # Safety
///
/// The pointers are good for what the other fields say.
pub struct Tile {
    /// The tile's first byte.
    pub weights: *const u8,
    /// Columns, a whole number of blocks.
    pub columns: usize,
    /// The first input row: [`Activations`] for quantised weights, else `f32`.
    pub input: *const u8,
    /// Bytes from one input row to the next.
    pub input_stride: usize,
    /// Where the first input row's results go.
    pub output: *mut f32,
    /// Numbers from there to the next input row's.
    pub output_stride: usize,
    /// How many of the tile's rows there are: fewer than sixteen at a matrix's end.
    pub lanes: usize,
}

impl Tile {
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, row: usize, results: S::Floats) {
        unsafe {
            let output = self.output.add(row * self.output_stride);
            if self.lanes == LANES {
                return S::store(results, output);
            }
            let results = super::simd::lanes::<S>(results);
            std::ptr::copy_nonoverlapping(results.as_ptr(), output, self.lanes);
        }
    }
}

/// Multiplies a tile of quantised weights with `M` input rows.
///
/// Within a group of 32 columns all is exact integers. Groups are added up as floats, in order.
///
/// # Safety
///
/// See [`Tile`] and [`Simd`].
#[inline(always)]
pub unsafe fn quantised<S: Simd, F: Format, const M: usize>(tile: &Tile) {
    unsafe {
        let mut totals = [S::float(0.0); M];
        let mut block = tile.weights;
        let mut input = tile.input.cast::<Activations>();
        let blocks = tile.columns / (GROUP * F::GROUPS);
        for _ in 0..blocks {
            let mut group = 0;
            while group < F::GROUPS {
                let rows = Rows::<M> {
                    first: input,
                    stride: tile.input_stride,
                };
                prefetch_group::<S, F>(block, group);
                let sums = integers::<S, F, M>(block, group, &rows);
                add_group::<S, F, M>(&mut totals, sums, block, group, &rows);
                input = input.add(1);
                group += 1;
            }
            block = block.add(F::TILE_BYTES);
        }
        let mut row = 0;
        while row < M {
            tile.write::<S>(row, totals[row]);
            row += 1;
        }
    }
}

/// How far ahead weights are asked for, in bytes.
const AHEAD: usize = 4096;

/// Asks for weights that lie ahead, as many as a group has.
#[inline(always)]
unsafe fn prefetch_group<S: Simd, F: Format>(block: *const u8, group: usize) {
    unsafe {
        let each = F::TILE_BYTES / F::GROUPS;
        let start = block.wrapping_add(AHEAD + group * each);
        let mut at = 0;
        while at < each {
            S::prefetch(start.wrapping_add(at));
            at += 64;
        }
    }
}

/// The same group of several input rows.
struct Rows<const M: usize> {
    first: *const Activations,
    stride: usize,
}

impl<const M: usize> Rows<M> {
    #[inline(always)]
    unsafe fn at(&self, row: usize) -> *const Activations {
        unsafe { self.first.byte_add(row * self.stride) }
    }
}

/// Writes a call out for each number, because the compiler doesn't unroll a loop of this size, and
/// shifts and addresses must be constants.
macro_rules! unrolled {
    ($state:ident.step::<$format:ty, $steps:literal>($block:expr, $group:expr, $rows:expr);
     $($at:literal: $step:literal),+) => {
        $($state.step::<$format, $steps>($block, $group, $at, $step, $rows);)+
    };
}
/// The group's dot products, as integers: those of weights without their float scales.
#[inline(always)]
unsafe fn integers<S: Simd, F: Format, const M: usize>(
    block: *const u8,
    group: usize,
    rows: &Rows<M>,
) -> [S::Ints; M] {
    unsafe {
        let mut sums = [S::int(0); M];
        if F::PARTS == 1 {
            if F::SIGNED && S::SIGNED_OFFSET != 0 {
                let mut row = 0;
                while row < M {
                    let sum = S::int((*rows.at(row)).sum);
                    sums[row] = S::int_mul(sum, S::int(-S::SIGNED_OFFSET));
                    row += 1;
                }
            }
            let mut state = Sums::<S, M>::begin(sums, None);
            // The high halves of bytes follow their low halves.
            unrolled!(state.step::<F, 8>(block, group, rows); 0: 0, 1: 4, 2: 1, 3: 5, 4: 2, 5: 6, 6: 3, 7: 7);
            return state.sums;
        }
        let scales = [
            F::part_scale::<S>(block, group, 0),
            F::part_scale::<S>(block, group, 1),
        ];
        if F::OFFSET != 0 {
            let offset = S::int(-F::OFFSET);
            let offsets = S::pairs(S::int_mul(scales[0], offset), S::int_mul(scales[1], offset));
            let mut row = 0;
            while row < M {
                sums[row] = S::pair_products(offsets, (*rows.at(row)).part_sums.as_ptr());
                row += 1;
            }
        }
        let mut state = Sums::<S, M>::begin(sums, Some(S::run_scales(scales[0])));
        unrolled!(state.step::<F, 4>(block, group, rows); 0: 0, 1: 1, 2: 2, 3: 3);
        let mut state = Sums::<S, M>::begin(state.sums, Some(S::run_scales(scales[1])));
        unrolled!(state.step::<F, 4>(block, group, rows); 0: 4, 1: 5, 2: 6, 3: 7);
        state.sums
    }
}

/// Sums of input rows, and the runs under way.
struct Sums<S: Simd, const M: usize> {
    sums: [S::Ints; M],
    runs: [S::Run; M],
    /// What the runs are multiplied with.
    scale: Option<S::Ints>,
}

impl<S: Simd, const M: usize> Sums<S, M> {
    #[inline(always)]
    unsafe fn begin(sums: [S::Ints; M], scale: Option<S::Ints>) -> Self {
        unsafe {
            let mut begun = Self {
                sums,
                runs: [S::begin(S::int(0)); M],
                scale,
            };
            begun.begin_runs();
            begun
        }
    }

    #[inline(always)]
    unsafe fn begin_runs(&mut self) {
        unsafe {
            let mut row = 0;
            while row < M {
                self.runs[row] = match self.scale {
                    Some(_) => S::begin(S::int(0)),
                    None => S::begin(self.sums[row]),
                };
                row += 1;
            }
        }
    }

    /// Adds the products of a step, the `at`th of `STEPS`, after whose last the sums are done.
    #[inline(always)]
    unsafe fn step<F: Format, const STEPS: usize>(
        &mut self,
        block: *const u8,
        group: usize,
        at: usize,
        step: usize,
        rows: &Rows<M>,
    ) {
        unsafe {
            let weights = F::step::<S>(block, group, step);
            let mut row = 0;
            while row < M {
                let quants = (*rows.at(row)).quants.as_ptr().add(4 * step);
                self.runs[row] = if F::SIGNED {
                    S::dot_signed(self.runs[row], weights, quants)
                } else {
                    S::dot(self.runs[row], weights, quants)
                };
                row += 1;
            }
            let run = if S::SHORT_RUNS { F::RUN } else { STEPS };
            if (at + 1).is_multiple_of(run) {
                self.end_runs();
                self.begin_runs();
            }
        }
    }

    #[inline(always)]
    unsafe fn end_runs(&mut self) {
        unsafe {
            let mut row = 0;
            while row < M {
                let (sum, run) = (self.sums[row], self.runs[row]);
                self.sums[row] = match self.scale {
                    Some(scale) => S::end_scaled(sum, run, scale),
                    None => S::end(sum, run),
                };
                row += 1;
            }
        }
    }
}

/// Adds a group's dot products, scaled, to the totals.
#[inline(always)]
unsafe fn add_group<S: Simd, F: Format, const M: usize>(
    totals: &mut [S::Floats; M],
    sums: [S::Ints; M],
    block: *const u8,
    group: usize,
    rows: &Rows<M>,
) {
    unsafe {
        let scale = F::scale::<S>(block, group);
        let minimum = F::minimum::<S>(block, group);
        let part_minima = S::pairs(
            F::part_minimum::<S>(block, group, 0),
            F::part_minimum::<S>(block, group, 1),
        );
        let mut row = 0;
        while row < M {
            let input = &*rows.at(row);
            let input_scale = S::float(input.scale);
            let sum = S::mul(S::floats_from_ints(sums[row]), input_scale);
            totals[row] = S::mul_add(sum, scale, totals[row]);
            if F::MINIMUM {
                let times = if F::PARTS == 1 {
                    S::float(input.scaled_sum)
                } else {
                    let minima = S::pair_products(part_minima, input.part_sums.as_ptr());
                    S::mul(S::floats_from_ints(minima), input_scale)
                };
                totals[row] = S::mul_add(minimum, times, totals[row]);
            }
            row += 1;
        }
    }
}

/// How a plain number is stored.
pub trait Plain {
    /// Bytes of a number.
    const BYTES: usize;
    /// Sixteen of them.
    unsafe fn column<S: Simd>(from: *const u8) -> S::Floats;
}

/// Binary32.
pub struct F32;
/// Binary16.
pub struct F16;
/// The upper half of binary32.
pub struct Bf16;

impl Plain for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn column<S: Simd>(from: *const u8) -> S::Floats {
        unsafe { S::floats(from.cast()) }
    }
}

impl Plain for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn column<S: Simd>(from: *const u8) -> S::Floats {
        unsafe { S::floats_from_f16(from.cast()) }
    }
}

impl Plain for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn column<S: Simd>(from: *const u8) -> S::Floats {
        unsafe { S::floats_from_bf16(from.cast()) }
    }
}

/// Multiplies a tile of plain weights, column after column, with `M` input rows.
///
/// Even and odd columns are added up apart: twice the sums under way at a time.
///
/// # Safety
///
/// See [`Tile`] and [`Simd`].
#[inline(always)]
pub unsafe fn plain<S: Simd, P: Plain, const M: usize>(tile: &Tile) {
    unsafe {
        let mut totals = [[S::float(0.0); 2]; M];
        let mut weights = tile.weights;
        let mut column = 0;
        while column < tile.columns {
            let mut odd = 0;
            while odd < 2 && column + odd < tile.columns {
                let numbers = P::column::<S>(weights);
                let mut row = 0;
                while row < M {
                    let input = tile.input.add(row * tile.input_stride).cast::<f32>();
                    let input = S::float(*input.add(column + odd));
                    totals[row][odd] = S::mul_add(numbers, input, totals[row][odd]);
                    row += 1;
                }
                weights = weights.add(P::BYTES * LANES);
                odd += 1;
            }
            column += 2;
        }
        let mut row = 0;
        while row < M {
            tile.write::<S>(row, S::add(totals[row][0], totals[row][1]));
            row += 1;
        }
    }
}
