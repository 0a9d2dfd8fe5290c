//! Matrices of weights, and their product with rows of activations.

use anyhow::{Result, ensure};

use super::Cpu;
use crate::engine::gguf::TensorType;
use crate::engine::quant::dequantise;

/// A matrix of weights, ready to multiply with.
pub struct Matrix {
    kind: TensorType,
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    /// Takes a tensor's bytes as they are in the file, row after row.
    pub fn pack(kind: TensorType, rows: usize, columns: usize, bytes: &[u8]) -> Result<Self> {
        let length = kind.block_length() as usize;
        ensure!(
            columns.is_multiple_of(length),
            "{columns} columns are no whole number of {} blocks, which hold {length}",
            kind.name()
        );
        let expected = rows * (columns / length) * kind.block_bytes() as usize;
        ensure!(
            bytes.len() == expected,
            "{} bytes, not {expected}, for {rows} rows of {columns} {} numbers",
            bytes.len(),
            kind.name()
        );
        Ok(Self {
            kind,
            rows,
            columns,
            bytes: bytes.to_vec(),
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

    /// Writes one row's numbers to `values`, which is `columns` long.
    pub fn dequantise_row(&self, row: usize, values: &mut [f32]) {
        let size = self.bytes.len() / self.rows;
        dequantise(self.kind, &self.bytes[row * size..][..size], values);
    }
}

/// A matrix, and where its product with the input goes: `rows()` numbers for each input row.
pub struct Product<'a> {
    /// What the input is multiplied with.
    pub matrix: &'a Matrix,
    /// Overwritten.
    pub output: &'a mut [f32],
}

/// Memory that products need and that is worth keeping between them.
#[derive(Default)]
pub struct Workspace {}

/// Multiplies the input rows with several matrices at once, all `columns` wide.
pub fn matmul(cpu: &Cpu, _workspace: &mut Workspace, input: &[f32], products: &mut [Product<'_>]) {
    for Product { matrix, output } in products {
        let columns = matrix.columns;
        let count = input.len() / columns;
        assert_eq!(input.len(), count * columns, "not whole input rows");
        assert_eq!(
            output.len(),
            count * matrix.rows,
            "not an output for each input row"
        );
        let mut results = vec![0.0; output.len()];
        cpu.pool().for_pieces(&mut results, count, |row, results| {
            let mut weights = vec![0.0; columns];
            matrix.dequantise_row(row, &mut weights);
            for (result, input) in results.iter_mut().zip(input.chunks_exact(columns)) {
                *result = weights.iter().zip(input).map(|(a, b)| a * b).sum();
            }
        });
        for (at, value) in output.iter_mut().enumerate() {
            *value = results[at % matrix.rows * count + at / matrix.rows];
        }
    }
}
