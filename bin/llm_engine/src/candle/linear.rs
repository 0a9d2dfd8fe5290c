//! The model's matrices, and the promise that a row's outcome doesn't depend on its neighbours.
//!
//! Kernels are free to compute many rows in another order than one row, which changes the last
//! bits, and after some tokens the text. So the first time that a batch of some size meets a
//! matrix of some shape and quantisation, both ways are computed and compared bit by bit; where
//! they differ, rows of different sequences are computed one after another.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};

/// As many sequences as a batch may hold and still be computed together.
const MAX_SEQUENCES: usize = 64;

/// For each batch size, whether rows together give the same bits as rows alone.
pub struct RowChecks([OnceLock<bool>; MAX_SEQUENCES + 1]);

impl Default for RowChecks {
    fn default() -> Self {
        Self([const { OnceLock::new() }; MAX_SEQUENCES + 1])
    }
}

/// Whose the rows of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They belong together, and always come together.
    OfOneSequence,
    /// Each must get what it would get alone.
    OfManySequences,
}

/// A matrix that rows are multiplied with.
pub struct Linear {
    matrix: QMatMul,
    columns: usize,
    device: Device,
    /// Shared by all matrices of the same shape and quantisation.
    checks: Arc<RowChecks>,
}

impl Linear {
    /// A matrix `[rows, columns]`.
    pub fn new(matrix: Arc<QTensor>, checks: Arc<RowChecks>) -> Result<Self> {
        let (_, columns) = matrix.shape().dims2()?;
        let device = matrix.device();
        Ok(Self {
            matrix: QMatMul::from_arc(matrix)?,
            columns,
            device,
            checks,
        })
    }

    /// The matrix's own rows with these numbers.
    pub fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        let numbers = Tensor::new(numbers, &self.device)?;
        Ok(self.matrix.embedding(&numbers)?)
    }

    fn rows_are_independent(&self, count: usize) -> Result<bool> {
        let Some(check) = self.checks.0.get(count) else {
            return Ok(false);
        };
        if let Some(known) = check.get() {
            return Ok(*known);
        }
        let rows = self.probe(count)?;
        let together: Vec<f32> = self.matrix.forward(&rows)?.flatten_all()?.to_vec1()?;
        let [alone] = multiply_one_by_one([self], &rows)?;
        let alone: Vec<f32> = alone.flatten_all()?.to_vec1()?;
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

/// Multiplies the same rows with several matrices.
pub fn multiply<const N: usize>(
    matrices: [&Linear; N],
    rows: &Tensor,
    whose: Rows,
) -> Result<[Tensor; N]> {
    let count = rows.dim(0)?;
    if whose == Rows::OfManySequences && count > 1 {
        for matrix in matrices {
            if !matrix.rows_are_independent(count)? {
                return multiply_one_by_one(matrices, rows);
            }
        }
    }
    multiply_together(matrices, rows)
}

fn multiply_together<const N: usize>(matrices: [&Linear; N], rows: &Tensor) -> Result<[Tensor; N]> {
    let products = matrices
        .iter()
        .map(|linear| Ok(linear.matrix.forward(rows)?));
    let products = products.collect::<Result<Vec<_>>>()?;
    Ok(products.try_into().expect("one for each matrix"))
}

fn multiply_one_by_one<const N: usize>(
    matrices: [&Linear; N],
    rows: &Tensor,
) -> Result<[Tensor; N]> {
    let mut outcomes = [const { Vec::new() }; N];
    for at in 0..rows.dim(0)? {
        let row = rows.narrow(0, at, 1)?.contiguous()?;
        for (outcome, product) in outcomes.iter_mut().zip(multiply_together(matrices, &row)?) {
            outcome.push(product);
        }
    }
    let joined = outcomes.iter().map(|rows| Ok(Tensor::cat(rows, 0)?));
    let joined = joined.collect::<Result<Vec<_>>>()?;
    Ok(joined.try_into().expect("one for each matrix"))
}
