//! The architectures that can be run, as data: one forward pass follows these rows. Nothing here
//! computes. To add one, add a row, and a test against the definition.

use super::super::ops::{Activation, RopeStyle};

/// Whether tensors of a kind belong to an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Never: one that is there is an error.
    No,
    /// Where the file has them.
    May,
    /// Always: one that lacks is an error.
    Must,
}

/// Blocks that look back a limited way only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Windows {
    /// Of so many blocks the last one looks back all the way, unless the file says otherwise.
    pub period: usize,
    /// Base of the rotary embedding in the other blocks, unless the file says otherwise. Their
    /// positions are never stretched.
    pub rope_base: f64,
}

/// What an architecture is made of beyond attention, feed-forward part and RMS norms.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// As in `general.architecture`; also the beginning of its keys.
    pub name: &'static str,
    /// Biases of query, key and value.
    pub bias: Need,
    /// The bias of the attention's output.
    pub output_bias: Need,
    /// A norm for each query and key head.
    pub head_norms: bool,
    /// A norm behind the attention and one behind the feed-forward part.
    pub post_norms: bool,
    /// Whether embeddings are multiplied by the square root of their width.
    pub scaled_embedding: bool,
    /// How heads turn.
    pub rope_style: RopeStyle,
    /// `rope_freqs.weight`, which stretches each pair of a head on its own.
    pub rope_factors: Need,
    /// Of the gate.
    pub activation: Activation,
    /// Whether, and how, some blocks look back a limited way only.
    pub windows: Option<Windows>,
    /// The model with so many blocks scales its queries as if heads had an equal part of the width.
    pub width_scaled_blocks: Option<usize>,
}

const LLAMA: Architecture = Architecture {
    name: "llama",
    bias: Need::May,
    output_bias: Need::May,
    head_norms: false,
    post_norms: false,
    scaled_embedding: false,
    rope_style: RopeStyle::Interleaved,
    rope_factors: Need::May,
    activation: Activation::Silu,
    windows: None,
    width_scaled_blocks: None,
};

/// Every architecture.
pub const ARCHITECTURES: [Architecture; 4] = [
    LLAMA,
    Architecture {
        name: "qwen2",
        bias: Need::Must,
        output_bias: Need::No,
        rope_style: RopeStyle::Halves,
        rope_factors: Need::No,
        ..LLAMA
    },
    Architecture {
        name: "qwen3",
        bias: Need::No,
        output_bias: Need::No,
        head_norms: true,
        rope_style: RopeStyle::Halves,
        rope_factors: Need::No,
        ..LLAMA
    },
    Architecture {
        name: "gemma3",
        bias: Need::No,
        output_bias: Need::No,
        head_norms: true,
        post_norms: true,
        scaled_embedding: true,
        rope_style: RopeStyle::Halves,
        rope_factors: Need::No,
        activation: Activation::Gelu,
        windows: Some(Windows {
            period: 6,
            rope_base: 10_000.0,
        }),
        width_scaled_blocks: Some(62),
    },
];
