//! Root mean square norms.

use super::Cpu;

/// Divides each input row by its root mean square and multiplies it with `weight`.
pub fn rms_norm(cpu: &Cpu, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    output.copy_from_slice(input);
    rms_norm_in_place(cpu, output, weight, epsilon);
}

/// As [`rms_norm`], for instance of the heads of queries and keys: a row is as long as `weight`.
pub fn rms_norm_in_place(_cpu: &Cpu, rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let square = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
        let factor = 1.0 / (square + epsilon).sqrt();
        for (value, weight) in row.iter_mut().zip(weight) {
            *value = *value * factor * weight;
        }
    }
}
