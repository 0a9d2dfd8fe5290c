//! Gated activations between the feed-forward matrices.

use super::Cpu;

/// What the gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`: llama, qwen.
    Silu,
    /// GELU, by its approximation with tanh: gemma.
    Gelu,
}

/// `gate = activation(gate) * up`.
pub fn gate(_cpu: &Cpu, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len());
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        *gate = up
            * match activation {
                Activation::Silu => x / (1.0 + (-x).exp()),
                Activation::Gelu => {
                    0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
                }
            };
    }
}
