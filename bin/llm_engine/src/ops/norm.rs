//! Root mean square norms.

use super::{Cpu, pieces_of_rows};

/// Divides each input row by its root mean square and multiplies it with `weight`.
pub fn rms_norm(cpu: &Cpu, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    let width = weight.len();
    assert_eq!(input.len(), output.len());
    let piece = pieces_of_rows(cpu, input.len(), width);
    cpu.pool.for_pieces(output, piece, |number, output| {
        let input = input[number * piece..].chunks_exact(width);
        for (output, input) in output.chunks_exact_mut(width).zip(input) {
            cpu.kernels.rms_norm(input, weight, epsilon, output);
        }
    });
}

/// As [`rms_norm`], for instance of the heads of queries and keys: a row is as long as `weight`.
pub fn rms_norm_in_place(cpu: &Cpu, rows: &mut [f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let piece = pieces_of_rows(cpu, rows.len(), width);
    cpu.pool.for_pieces(rows, piece, |_, rows| {
        for row in rows.chunks_exact_mut(width) {
            cpu.kernels.rms_norm_in_place(row, weight, epsilon);
        }
    });
}
