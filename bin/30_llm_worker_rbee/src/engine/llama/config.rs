//! A llama model's dimensions, from its metadata, checked so that the rest can rely on them.

use anyhow::{Context, Result, bail, ensure};

use super::super::gguf::Metadata;

/// More than any model has; a larger number is damage, and would only be found after long work.
const MOST: u64 = 1 << 24;

/// The dimensions of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// How many blocks follow each other.
    pub block_count: usize,
    /// As many positions as the model was made for.
    pub context_length: usize,
    /// Numbers in a token's hidden state.
    pub width: usize,
    /// Numbers inside the feed-forward part.
    pub feed_forward_width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, each shared by `heads / key_heads` query heads.
    pub key_heads: usize,
    /// Numbers in a head.
    pub head_width: usize,
    /// Number of tokens.
    pub vocabulary_size: usize,
    /// Keeps norms from dividing by zero.
    pub norm_epsilon: f32,
    /// Base of the rotary embedding's frequencies.
    pub rope_base: f64,
    /// Positions are divided by this.
    pub rope_scale: f64,
}

impl LlamaConfig {
    /// Reads `llama.*`, and refuses what this forward pass doesn't do.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let architecture = metadata
            .text("general.architecture")?
            .context("metadata `general.architecture` is missing")?;
        ensure!(
            architecture == "llama",
            "unsupported architecture `{}`: this worker runs llama",
            architecture.escape_debug()
        );
        let experts = metadata.u64("llama.expert_count")?.unwrap_or(0);
        ensure!(experts == 0, "unsupported: a mixture of {experts} experts");

        let width = count(metadata, "llama.embedding_length")?;
        let heads = count(metadata, "llama.attention.head_count")?;
        let key_heads = match metadata.u64("llama.attention.head_count_kv")? {
            Some(_) => count(metadata, "llama.attention.head_count_kv")?,
            None => heads,
        };
        ensure!(
            heads.is_multiple_of(key_heads),
            "damaged: {heads} attention heads don't share {key_heads} key heads evenly"
        );
        let head_width = head_width(metadata, width, heads)?;
        let tokens = metadata
            .texts("tokenizer.ggml.tokens")?
            .map_or(0, <[_]>::len);
        Ok(Self {
            block_count: count(metadata, "llama.block_count")?,
            context_length: count(metadata, "llama.context_length")?,
            width,
            feed_forward_width: count(metadata, "llama.feed_forward_length")?,
            heads,
            key_heads,
            head_width,
            vocabulary_size: tokens,
            norm_epsilon: positive(metadata, "llama.attention.layer_norm_rms_epsilon", 1e-5)?
                as f32,
            rope_base: positive(metadata, "llama.rope.freq_base", 10_000.0)?,
            rope_scale: rope_scale(metadata)?,
        })
    }

    /// How far each pair of a head turns from one position to the next. `factors` stretch them one
    /// by one, as in Llama 3.1.
    pub(super) fn rope_frequencies(&self, factors: &[f32]) -> Result<Vec<f64>> {
        let frequency = |(pair, &factor): (usize, &f32)| {
            let exponent = -2.0 * pair as f64 / self.head_width as f64;
            let turn = self.rope_base.powf(exponent) / self.rope_scale / f64::from(factor);
            ensure!(
                turn.is_finite(),
                "damaged: `rope_freqs.weight` holds {factor}"
            );
            Ok(turn)
        };
        factors.iter().enumerate().map(frequency).collect()
    }
}

fn count(metadata: &Metadata, key: &str) -> Result<usize> {
    let value = metadata.required_u64(key)?;
    ensure!(
        (1..=MOST).contains(&value),
        "damaged: metadata `{key}` is {value}"
    );
    Ok(value as usize)
}

fn positive(metadata: &Metadata, key: &str, default: f64) -> Result<f64> {
    let value = metadata.f64(key)?.unwrap_or(default);
    ensure!(value > 0.0, "damaged: metadata `{key}` is {value}");
    Ok(value)
}

fn head_width(metadata: &Metadata, width: usize, heads: usize) -> Result<usize> {
    let head_width = match metadata.u64("llama.attention.key_length")? {
        Some(_) => count(metadata, "llama.attention.key_length")?,
        None if width.is_multiple_of(heads) => width / heads,
        None => bail!("damaged: a width of {width} doesn't divide into {heads} heads"),
    };
    ensure!(
        head_width.is_multiple_of(2),
        "unsupported: heads of the odd width {head_width}"
    );
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        let other = metadata.u64(key)?.unwrap_or(head_width as u64);
        ensure!(
            other == head_width as u64,
            "unsupported: metadata `{key}` is {other}, while heads have the width {head_width}"
        );
    }
    Ok(head_width)
}

fn rope_scale(metadata: &Metadata) -> Result<f64> {
    let kind = metadata.text("llama.rope.scaling.type")?.unwrap_or("none");
    match kind {
        "none" => Ok(1.0),
        "linear" => positive(metadata, "llama.rope.scaling.factor", 1.0),
        _ => bail!(
            "unsupported: metadata `llama.rope.scaling.type` is `{}`; none and linear are known",
            kind.escape_debug()
        ),
    }
}
