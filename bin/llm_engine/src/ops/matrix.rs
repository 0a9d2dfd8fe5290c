//! Matrices of weights, and their product with rows of activations.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};

use super::{Cpu, Workspace};
use crate::gguf::TensorType;
use crate::kernels::{self, Factor, LANES};
use crate::memory::Region;

/// So much of a tensor is read at once.
const STRIPE_BYTES: usize = 1 << 20;

/// A matrix of weights, packed as kernels read it.
pub struct Matrix {
    kind: TensorType,
    rows: usize,
    columns: usize,
    tiles: Region,
}

impl Matrix {
    /// Takes a tensor's bytes as they are in the file, row after row.
    pub fn pack(kind: TensorType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Self> {
        let expected = rows * row_bytes(kind, rows, columns)?;
        ensure!(
            bytes.len() == expected,
            "{} bytes, not {expected}, for {rows} rows of {columns} {} numbers",
            bytes.len(),
            kind.name()
        );
        Self::read(kind, rows, columns, 1, |start, part| {
            part.copy_from_slice(&bytes[start..start + part.len()]);
            Ok(())
        })
    }

    /// Takes a tensor in stripes of a few rows, so that it is never held twice. `read` fills its
    /// second argument with the tensor's bytes from the place that the first one counts. `threads`
    /// threads read and pack side by side.
    pub fn read(
        kind: TensorType,
        rows: usize,
        columns: usize,
        threads: usize,
        read: impl Fn(usize, &mut [u8]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let row_bytes = row_bytes(kind, rows, columns)?;
        let tile_bytes = kernels::tile_bytes(kind, columns);
        let mut tiles = Region::zeroed(rows.div_ceil(LANES) * tile_bytes);
        let stripe_tiles = (STRIPE_BYTES / (LANES * row_bytes)).max(1);
        let stripes = Mutex::new(tiles.chunks_mut(stripe_tiles * tile_bytes).enumerate());
        let next = || {
            stripes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next()
        };
        let work = || -> Result<()> {
            let mut bytes = Vec::new();
            while let Some((number, tiles)) = next() {
                let first = number * stripe_tiles * LANES;
                let count = rows.min(first + stripe_tiles * LANES) - first;
                bytes.resize(count * row_bytes, 0);
                read(first * row_bytes, &mut bytes)?;
                let sixteen_rows = bytes.chunks(LANES * row_bytes);
                for (rows, tile) in sixteen_rows.zip(tiles.chunks_exact_mut(tile_bytes)) {
                    kernels::pack_tile(kind, columns, rows, tile);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            others.into_iter().fold(own, |result, other| {
                result.and(other.join().unwrap_or_else(|panic| resume_unwind(panic)))
            })
        })?;
        Ok(Self {
            kind,
            rows,
            columns,
            tiles,
        })
    }

    /// Numbers in a column: a product's outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers in a row: a product's inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How its numbers are stored.
    pub fn kind(&self) -> TensorType {
        self.kind
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.tiles.len()
    }

    /// Writes one row's numbers to `values`, which is `columns` long.
    pub fn dequantise_row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.rows, "no row {row} among {}", self.rows);
        let tile_bytes = kernels::tile_bytes(self.kind, self.columns);
        let tile = &self.tiles[row / LANES * tile_bytes..][..tile_bytes];
        kernels::unpack_row(self.kind, tile, row % LANES, values);
    }
}

/// Bytes that a row takes in a file, if it is a whole number of blocks.
fn row_bytes(kind: TensorType, rows: usize, columns: usize) -> Result<usize> {
    let length = kind.block_length() as usize;
    ensure!(
        columns.is_multiple_of(length) && rows > 0 && columns > 0,
        "{columns} columns are no whole number of {} blocks, which hold {length}",
        kind.name()
    );
    Ok(columns / length * kind.block_bytes() as usize)
}

/// A matrix, and where its product with the input goes: `rows()` numbers for each input row.
pub struct Product<'a> {
    /// What the input is multiplied with.
    pub matrix: &'a Matrix,
    /// Overwritten.
    pub output: &'a mut [f32],
}

/// Multiplies the input rows with several matrices at once, all as wide as the input.
///
/// Activations are quantised once, to eight bits with a scale for each 32, unless the weights are
/// plain numbers.
///
/// # Panics
///
/// Where the lengths don't fit.
pub fn matmul(cpu: &Cpu, workspace: &mut Workspace, input: &[f32], products: &mut [Product<'_>]) {
    let Some(columns) = products.first().map(|product| product.matrix.columns) else {
        return;
    };
    let as_wide = |product: &Product<'_>| product.matrix.columns == columns;
    assert!(products.iter().all(as_wide), "matrices of different widths");
    let mut factors: Vec<_> = products
        .iter_mut()
        .map(|product| Factor {
            kind: product.matrix.kind,
            tiles: &product.matrix.tiles,
            rows: product.matrix.rows,
            output: product.output,
        })
        .collect();
    let activations = &mut workspace.activations;
    kernels::multiply(
        cpu.kernels,
        &cpu.pool,
        input,
        columns,
        &mut factors,
        activations,
    );
}
