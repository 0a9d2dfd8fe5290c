//! The model's matrices, and the promise that a row's outcome doesn't depend on its neighbours.
//!
//! Kernels are free to compute many rows in another order than one row, which changes the last
//! bits, and after some tokens the text. So the first time that a batch of some size meets a
//! matrix of some shape and quantisation, both ways are computed and compared bit by bit; where
//! they differ, rows of different sequences are computed one after another.
//!
//! Every matrix is cut into parts, by rows of its own, which are computed side by side.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use rayon::prelude::*;

/// As many sequences as a batch may hold and still be computed together.
const MAX_SEQUENCES: usize = 16;

/// For each batch size, whether rows together give the same bits as rows alone.
pub type RowChecks = [OnceLock<bool>; MAX_SEQUENCES + 1];

/// Whose the rows of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They belong together, and always come together.
    OfOneSequence,
    /// Each must get what it would get alone.
    OfManySequences,
}

/// A matrix that rows are multiplied with.
#[derive(Debug)]
pub struct Linear {
    parts: Vec<QMatMul>,
    columns: usize,
    device: Device,
    /// Shared by all matrices of the same shape and quantisation.
    checks: Arc<RowChecks>,
}

impl Linear {
    /// A matrix `[rows, columns]`, whose rows come in `parts`.
    pub fn new(parts: &[Arc<QTensor>], checks: Arc<RowChecks>) -> Result<Self> {
        let (_, columns) = parts[0].shape().dims2()?;
        let device = parts[0].device();
        let parts = parts
            .iter()
            .map(|part| Ok(QMatMul::from_arc(Arc::clone(part))?));
        Ok(Self {
            parts: parts.collect::<Result<_>>()?,
            columns,
            device,
            checks,
        })
    }

    fn rows_are_independent(&self, count: usize) -> Result<bool> {
        let Some(check) = self.checks.get(count) else {
            return Ok(false);
        };
        if let Some(known) = check.get() {
            return Ok(*known);
        }
        let rows = self.probe(count)?;
        let [together] = multiply_together([self], &rows)?;
        let [alone] = multiply_one_by_one([self], &rows)?;
        let together: Vec<f32> = together.flatten_all()?.to_vec1()?;
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
    join(outcomes, 0)
}

fn multiply_together<const N: usize>(matrices: [&Linear; N], rows: &Tensor) -> Result<[Tensor; N]> {
    let parts: Vec<_> = (0..N)
        .flat_map(|number| {
            matrices[number]
                .parts
                .iter()
                .map(move |part| (number, part))
        })
        .collect();
    let products: Vec<_> = match parts.as_slice() {
        [(number, part)] => vec![(*number, part.forward(rows)?)],
        many => many
            .par_iter()
            .with_max_len(1)
            .map(|(number, part)| Ok((*number, part.forward(rows)?)))
            .collect::<Result<_>>()?,
    };
    let mut outcomes = [const { Vec::new() }; N];
    for (number, product) in products {
        outcomes[number].push(product);
    }
    join(outcomes, 1)
}

/// Each list of tensors as one.
fn join<const N: usize>(lists: [Vec<Tensor>; N], dimension: usize) -> Result<[Tensor; N]> {
    let joined = lists
        .into_iter()
        .map(|list| match <[Tensor; 1]>::try_from(list) {
            Ok([one]) => Ok(one),
            Err(many) => Ok(Tensor::cat(&many, dimension)?),
        });
    let joined = joined.collect::<Result<Vec<_>>>()?;
    Ok(joined.try_into().expect("one for each list"))
}

/// The matrix that gives each token its first numbers.
#[derive(Debug)]
pub struct Embedding {
    parts: Vec<QMatMul>,
    /// Every part but the last has as many.
    rows_in_part: usize,
    device: Device,
}

impl Embedding {
    /// A matrix with a row for each token, whose rows come in `parts`.
    pub fn new(parts: &[Arc<QTensor>]) -> Result<Self> {
        let (rows_in_part, _) = parts[0].shape().dims2()?;
        let device = parts[0].device();
        let parts = parts
            .iter()
            .map(|part| Ok(QMatMul::from_arc(Arc::clone(part))?));
        Ok(Self {
            parts: parts.collect::<Result<_>>()?,
            rows_in_part,
            device,
        })
    }

    /// The rows of these tokens.
    pub fn look_up(&self, tokens: &[u32]) -> Result<Tensor> {
        if let [whole] = self.parts.as_slice() {
            return Ok(whole.embedding(&Tensor::new(tokens, &self.device)?)?);
        }
        let rows = tokens.iter().map(|&token| {
            let part = &self.parts[token as usize / self.rows_in_part];
            let row = token % self.rows_in_part as u32;
            Ok(part.embedding(&Tensor::new(&[row], &self.device)?)?)
        });
        Ok(Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?)
    }
}
