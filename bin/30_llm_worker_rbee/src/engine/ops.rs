//! What a model computes with: matrices, norms, rotary embeddings, attention. The seam between a
//! model's forward pass and the kernels.
//!
//! Every operation takes several rows (tokens) at once, row after row in one slice. A row's result
//! depends on nothing but that row: not on how many rows come with it, not on the number of threads,
//! and not on the processor. Tests hold it to the last bit.

use std::io;

use super::pool::Pool;

mod activation;
mod attention;
mod cache;
mod matrix;
mod norm;
mod rope;

pub use activation::{Activation, gate};
pub use attention::{Attention, Chunk, attention};
pub use cache::{KeyValueCache, PAGE_POSITIONS};
pub use matrix::{Matrix, Product, Workspace, matmul};
pub use norm::{rms_norm, rms_norm_in_place};
pub use rope::{Angles, Rope, RopeStyle};

/// The processor: its threads, and the kernels that suit it.
pub struct Cpu {
    pool: Pool,
}

impl Cpu {
    /// Starts `threads - 1` threads: the caller of each operation is one too.
    pub fn new(threads: usize) -> io::Result<Self> {
        Ok(Self {
            pool: Pool::new(threads)?,
        })
    }

    /// The threads, for work of one's own.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

/// `target += other`, number by number.
pub fn add(target: &mut [f32], other: &[f32]) {
    assert_eq!(target.len(), other.len());
    for (target, other) in target.iter_mut().zip(other) {
        *target += other;
    }
}

/// Adds `bias` to every row.
pub fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}
