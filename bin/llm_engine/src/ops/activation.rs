//! Gated activations between the feed-forward matrices.

use super::{Cpu, pieces_of_rows};
use crate::kernels::LANES;

/// What the gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`: llama, qwen.
    Silu,
    /// GELU, by its approximation with tanh: gemma.
    Gelu,
}

/// `gate = activation(gate) * up`.
pub fn gate(cpu: &Cpu, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    let piece = pieces_of_rows(cpu, up.len(), LANES);
    cpu.pool.for_pieces(gate, piece, |number, gate| {
        let up = &up[number * piece..][..gate.len()];
        match activation {
            Activation::Silu => cpu.kernels.gate_silu(gate, up),
            Activation::Gelu => cpu.kernels.gate_gelu(gate, up),
        }
    });
}
