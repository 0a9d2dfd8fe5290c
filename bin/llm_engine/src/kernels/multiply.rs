//! Shares the product of several matrices with the same input rows out to threads.

use std::ops::Range;

use crate::gguf::TensorType;
use crate::pool::Pool;

use super::product::{Activations, GROUP, Tile};
use super::{Kernels, LANES, tile_bytes};

/// Up to this many input rows stay in a core's cache while tiles go by.
const ROWS_TOGETHER: usize = 64;
/// Weights that make a task worth taking, with one input row: half a microsecond's work.
const TASK_BYTES: usize = 8 * 1024;
/// Input numbers that are worth quantising on several threads.
const QUANTISE_TOGETHER: usize = 4 * 1024;

/// A packed matrix and where its product goes.
pub struct Factor<'a> {
    /// How its numbers are stored.
    pub kind: TensorType,
    /// All tiles.
    pub tiles: &'a [u8],
    /// How many rows it has; what the last tile has beyond them is not written.
    pub rows: usize,
    /// `rows` numbers for each input row.
    pub output: &'a mut [f32],
}

/// Where a factor's results go, for several threads.
struct Output(*mut f32);

// SAFETY: threads write to numbers of different tiles and input rows.
unsafe impl Sync for Output {}

/// The same, once it is known that everything fits together.
struct Part<'a> {
    kernels: &'static [(usize, super::TileKernel)],
    quantised: bool,
    tiles: &'a [u8],
    tile_bytes: usize,
    rows: usize,
    output: Output,
}

/// Multiplies input rows of `columns` numbers with matrices that are as wide. `activations` is
/// memory for the quantised input, kept between calls.
///
/// # Panics
///
/// Where lengths don't fit.
pub fn multiply(
    kernels: &'static Kernels,
    pool: &Pool,
    input: &[f32],
    columns: usize,
    factors: &mut [Factor<'_>],
    activations: &mut Vec<Activations>,
) {
    let count = input.len() / columns;
    assert_eq!(input.len(), count * columns, "not whole input rows");
    let parts: Vec<_> = factors
        .iter_mut()
        .map(|factor| part(kernels, factor, columns, count))
        .collect();
    let groups = columns / GROUP;
    if parts.iter().any(|part| part.quantised) {
        let needed = count * groups;
        if activations.len() < needed {
            activations.resize(needed, Activations::default());
        }
        quantise(kernels, pool, input, &mut activations[..needed]);
    }
    let job = Job {
        columns,
        count,
        plain: (input.as_ptr().cast(), columns * size_of::<f32>()),
        quantised: (
            activations.as_ptr().cast(),
            groups * size_of::<Activations>(),
        ),
        parts,
    };
    job.run(pool);
}

fn part<'a>(
    kernels: &'static Kernels,
    factor: &'a mut Factor<'_>,
    columns: usize,
    count: usize,
) -> Part<'a> {
    let tile_bytes = tile_bytes(factor.kind, columns);
    let tiles = factor.rows.div_ceil(LANES);
    assert_eq!(
        factor.tiles.len(),
        tiles * tile_bytes,
        "not the matrix's tiles"
    );
    assert_eq!(
        factor.output.len(),
        count * factor.rows,
        "not the output's length"
    );
    Part {
        kernels: (kernels.products)(factor.kind),
        quantised: factor.kind.block_length() > 1,
        tiles: factor.tiles,
        tile_bytes,
        rows: factor.rows,
        output: Output(factor.output.as_mut_ptr()),
    }
}

fn quantise(kernels: &Kernels, pool: &Pool, input: &[f32], activations: &mut [Activations]) {
    let groups = activations.len();
    let piece = if input.len() < QUANTISE_TOGETHER {
        groups
    } else {
        groups.div_ceil(pool.threads() * 4)
    };
    pool.for_pieces(activations, piece.max(1), |number, activations| {
        let input = &input[number * piece * GROUP..][..activations.len() * GROUP];
        kernels.quantise(input, activations);
    });
}

struct Job<'a> {
    columns: usize,
    count: usize,
    /// Where the input starts, and bytes from row to row: as it is, and quantised.
    plain: (*const u8, usize),
    quantised: (*const u8, usize),
    parts: Vec<Part<'a>>,
}

// SAFETY: the input is only read.
unsafe impl Sync for Job<'_> {}

impl Job<'_> {
    fn run(&self, pool: &Pool) {
        let shares = self.shares(pool.threads());
        let row_blocks = self.count.div_ceil(ROWS_TOGETHER);
        pool.run(shares.len() * row_blocks, |task| {
            let first = task / shares.len() * ROWS_TOGETHER;
            let rows = first..self.count.min(first + ROWS_TOGETHER);
            self.multiply(shares[task % shares.len()].clone(), rows);
        });
    }

    /// Cuts the tiles of all parts into tasks: large ones first, because taking one costs time, then
    /// smaller ones, so that all threads end at the same time.
    fn shares(&self, threads: usize) -> Vec<Range<usize>> {
        let tiles: usize = self
            .parts
            .iter()
            .map(|part| part.rows.div_ceil(LANES))
            .sum();
        let bytes: usize = self.parts.iter().map(|part| part.tiles.len()).sum();
        let bytes = bytes * self.count.min(ROWS_TOGETHER);
        let least = (TASK_BYTES * tiles).div_ceil(bytes.max(1)).max(1);
        let mut shares = Vec::new();
        let mut first = 0;
        while first < tiles {
            let share = ((tiles - first) / (2 * threads)).max(least);
            let end = tiles.min(first + share);
            shares.push(first..end);
            first = end;
        }
        shares
    }

    /// Multiplies some tiles, counted over all parts, with some input rows.
    fn multiply(&self, tiles: Range<usize>, rows: Range<usize>) {
        let mut first = 0;
        for part in &self.parts {
            let end = first + part.rows.div_ceil(LANES);
            for tile in tiles.start.max(first)..tiles.end.min(end) {
                self.multiply_tile(part, tile - first, rows.clone());
            }
            first = end;
        }
    }

    fn multiply_tile(&self, part: &Part<'_>, number: usize, rows: Range<usize>) {
        let (input, stride) = if part.quantised {
            self.quantised
        } else {
            self.plain
        };
        let mut row = rows.start;
        for &(together, kernel) in part.kernels {
            while row + together <= rows.end {
                let tile = Tile {
                    weights: part.tiles[number * part.tile_bytes..][..part.tile_bytes].as_ptr(),
                    columns: self.columns,
                    input: input.wrapping_add(row * stride),
                    input_stride: stride,
                    output: part.output.0.wrapping_add(row * part.rows + number * LANES),
                    output_stride: part.rows,
                    lanes: (part.rows - number * LANES).min(LANES),
                };
                // SAFETY: lengths were compared in `part`: there are `row + together` rows of input
                // and output, and `number * LANES + lanes` is no more than `rows`. No other task
                // has this tile and these rows. These kernels are for this processor.
                unsafe { kernel(&tile) };
                row += together;
            }
        }
    }
}
