//! What a model computes with: matrices, norms, rotary embeddings, attention. The seam between a
//! model's forward pass and the kernels.
//!
//! Every operation takes several rows (tokens) at once, row after row in one slice. A row's result
//! depends on nothing but that row: not on how many rows come with it, not on the number of threads,
//! and not on the processor. Tests hold it to the last bit.

use std::io;

use super::kernels::{Activations, Kernels};
use super::pool::Pool;

mod activation;
mod attention;
mod cache;
mod matrix;
mod norm;
mod rope;
#[cfg(test)]
mod tests;

pub use activation::{Activation, gate};
pub use attention::{Attention, Chunk, attention};
pub use cache::{KeyValueCache, PAGE_POSITIONS};
pub use matrix::{Matrix, Product, matmul};
pub use norm::{rms_norm, rms_norm_in_place};
pub use rope::{Angles, Rope, RopeStyle};

/// The processor: its threads, and the kernels that suit it.
pub struct Cpu {
    pool: Pool,
    kernels: &'static Kernels,
}

impl Cpu {
    /// Starts `threads - 1` threads: the caller of each operation is one too.
    pub fn new(threads: usize) -> io::Result<Self> {
        Self::with_kernels(threads, Kernels::best())
    }

    /// With certain of the [`Kernels::usable`], to compare them.
    pub fn with_kernels(threads: usize, kernels: &'static Kernels) -> io::Result<Self> {
        Ok(Self {
            pool: Pool::new(threads)?,
            kernels,
        })
    }

    /// The threads, for work of one's own.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What the kernels are for.
    pub fn kernels(&self) -> &'static str {
        self.kernels.name
    }
}

/// Memory that operations need for a short time, and that is worth keeping between them.
#[derive(Default)]
pub struct Workspace {
    activations: Vec<Activations>,
    partials: Vec<f32>,
}

/// Numbers that are worth waking another thread for.
const WORTH_SHARING: usize = 8 * 1024;

/// How many numbers of rows that are `width` wide a task should do: whole rows, and all of them
/// where there are few.
fn pieces_of_rows(cpu: &Cpu, numbers: usize, width: usize) -> usize {
    if numbers < WORTH_SHARING {
        return numbers.max(1);
    }
    let rows = numbers.div_ceil(width);
    rows.div_ceil(cpu.pool.threads() * 4) * width
}

/// `target += other`, number by number.
pub fn add(cpu: &Cpu, target: &mut [f32], other: &[f32]) {
    assert_eq!(target.len(), other.len());
    let piece = pieces_of_rows(cpu, other.len(), 1);
    cpu.pool.for_pieces(target, piece, |number, target| {
        add_row(target, &other[number * piece..]);
    });
}

/// Adds `bias` to every row.
pub fn add_bias(cpu: &Cpu, rows: &mut [f32], bias: &[f32]) {
    let piece = pieces_of_rows(cpu, rows.len(), bias.len());
    cpu.pool.for_pieces(rows, piece, |_, rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            add_row(row, bias);
        }
    });
}

fn add_row(target: &mut [f32], other: &[f32]) {
    for (target, other) in target.iter_mut().zip(other) {
        *target += other;
    }
}
