//! A matrix of the model, and the promise that a row's outcome doesn't depend on its neighbours.
//!
//! Kernels are free to compute many rows in another order than one row, which changes the last
//! bits, and after some tokens the text. So the first time that a batch of some size meets a
//! matrix of some shape and quantisation, both ways are computed and compared bit by bit; where
//! they differ, rows of different sequences are computed one after another.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

/// As many sequences as a batch may hold.
pub const MAX_SEQUENCES: usize = 8;

/// For each batch size, whether rows together give the same bits as rows alone.
pub type RowChecks = [OnceLock<bool>; MAX_SEQUENCES + 1];

/// A matrix that rows are multiplied with.
#[derive(Debug)]
pub struct Linear {
    weight: QMatMul,
    columns: usize,
    device: Device,
    /// Shared by all matrices of the same shape and quantisation.
    checks: Arc<RowChecks>,
}

impl Linear {
    /// A matrix `[rows, columns]`.
    pub fn new(weight: Arc<QTensor>, checks: Arc<RowChecks>) -> Result<Self> {
        let (_, columns) = weight.shape().dims2()?;
        let device = weight.device();
        Ok(Self {
            weight: QMatMul::from_arc(weight)?,
            columns,
            device,
            checks,
        })
    }

    /// Multiplies rows of one sequence, all at once.
    pub fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(self.weight.forward(rows)?)
    }

    /// Multiplies rows of different sequences; each gets what it would get alone.
    pub fn forward_rows(&self, rows: &Tensor) -> Result<Tensor> {
        let count = rows.dim(0)?;
        if count == 1 || self.rows_are_independent(count)? {
            self.forward(rows)
        } else {
            self.forward_one_by_one(rows)
        }
    }

    fn forward_one_by_one(&self, rows: &Tensor) -> Result<Tensor> {
        let outcomes = (0..rows.dim(0)?)
            .map(|at| self.forward(&rows.narrow(0, at, 1)?.contiguous()?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&outcomes, 0)?)
    }

    fn rows_are_independent(&self, count: usize) -> Result<bool> {
        let Some(check) = self.checks.get(count) else {
            return Ok(false);
        };
        if let Some(known) = check.get() {
            return Ok(*known);
        }
        let rows = self.probe(count)?;
        let together: Vec<f32> = self.forward(&rows)?.flatten_all()?.to_vec1()?;
        let alone: Vec<f32> = self.forward_one_by_one(&rows)?.flatten_all()?.to_vec1()?;
        let same = together
            .iter()
            .zip(&alone)
            .all(|(one, other)| one.to_bits() == other.to_bits());
        Ok(*check.get_or_init(|| same))
    }

    /// Rows without any pattern that a kernel could treat in a special way.
    fn probe(&self, count: usize) -> Result<Tensor> {
        let mut state = 1_u32;
        let values: Vec<_> = (0..count * self.columns)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        Ok(Tensor::from_vec(
            values,
            (count, self.columns),
            &self.device,
        )?)
    }
}
