//! A model's dimensions, from its metadata, checked so that the rest can rely on them.
//!
//! What would change the text is applied or refused by name: every key of the architecture is
//! known here, or the model isn't run.

use anyhow::{Context, Result, bail, ensure};

use super::super::gguf::{Metadata, Value};
use super::architecture::{ARCHITECTURES, Architecture, Windows};

/// More than any model has; a larger number is damage, and would only be found after long work.
const MOST: u64 = 1 << 24;
/// More blocks than any model has. Each takes memory before its tensors are missed, so that the number
/// alone could take all there is.
const MOST_BLOCKS: usize = 10_000;

/// Keys, behind the architecture's name, that [`Config`] is made of.
const APPLIED: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.type",
];
/// The same, of architectures some of whose blocks look back a limited way only.
const APPLIED_TO_WINDOWS: &[&str] = &["attention.sliding_window_pattern", "rope.freq_base_swa"];
/// Keys that change nothing in the text.
const WITHOUT_EFFECT: &[&str] = &[
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "tensor_data_layout",
    "vocab_size",
];
/// Keys that change nothing as long as they have one of these values.
const NEUTRAL: &[(&str, &[f64])] = &[
    ("attention.causal", &[1.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attention.scale", &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("embedding_scale", &[0.0, 1.0]),
    ("expert_count", &[0.0]),
    ("expert_used_count", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("rope.scaling.attn_factor", &[1.0]),
    ("use_parallel_residual", &[0.0]),
];

/// How heads are turned by their position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub base: f64,
    /// Positions are divided by this.
    pub scale: f64,
}

/// The dimensions of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What it is made of.
    pub architecture: &'static Architecture,
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
    /// Of the blocks that look back all the way.
    pub rope: Rope,
    /// Of the others.
    pub local_rope: Rope,
    /// How many positions the others see, their own included.
    pub window: usize,
    /// For each block, whether it is one of the others.
    pub is_local: Vec<bool>,
    /// Scores are multiplied by this.
    pub query_scale: f32,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f32,
}

impl Config {
    /// Reads the metadata, and refuses what the forward pass doesn't do.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let architecture = architecture(metadata)?;
        let keys = Keys {
            metadata,
            prefix: architecture.name,
        };
        keys.refuse_unknown(architecture)?;

        let width = keys.count("embedding_length")?;
        let heads = keys.count("attention.head_count")?;
        let key_heads = match keys.get("attention.head_count_kv") {
            Some(_) => keys.count("attention.head_count_kv")?,
            None => heads,
        };
        ensure!(
            heads.is_multiple_of(key_heads),
            "damaged: {heads} attention heads don't share {key_heads} key heads evenly"
        );
        let head_width = keys.head_width(width, heads)?;
        let block_count = keys.count("block_count")?;
        ensure!(
            block_count <= MOST_BLOCKS,
            "damaged: metadata `{}.block_count` is {block_count}, more than any model has",
            architecture.name
        );
        let context_length = keys.count("context_length")?;
        let rope = Rope {
            base: keys.positive("rope.freq_base", 10_000.0)?,
            scale: keys.rope_scale()?,
        };
        let window = keys.window(architecture, context_length)?;
        let (local_rope, is_local) = match architecture.windows {
            Some(windows) => keys.local_blocks(windows, block_count)?,
            None => (rope, vec![false; block_count]),
        };
        let scaled_width = match architecture.width_scaled_blocks {
            Some(count) if count == block_count => width as f64 / heads as f64,
            _ => head_width as f64,
        };
        Ok(Self {
            architecture,
            context_length,
            width,
            feed_forward_width: keys.count("feed_forward_length")?,
            heads,
            key_heads,
            head_width,
            vocabulary_size: metadata
                .texts("tokenizer.ggml.tokens")?
                .map_or(0, |t| t.len()),
            norm_epsilon: keys.positive("attention.layer_norm_rms_epsilon", 1e-5)? as f32,
            rope,
            local_rope,
            window,
            is_local,
            query_scale: scaled_width.sqrt().recip() as f32,
            embedding_scale: match architecture.scaled_embedding {
                true => (width as f32).sqrt(),
                false => 1.0,
            },
        })
    }

    /// How many blocks follow each other.
    pub fn block_count(&self) -> usize {
        self.is_local.len()
    }

    /// How far each pair of a head turns from one position to the next. `factors` stretch them one
    /// by one, as in Llama 3.1; none is all ones.
    pub fn frequencies(&self, rope: Rope, factors: Option<&[f32]>) -> Result<Vec<f64>> {
        let frequency = |pair: usize| {
            let factor = factors.map_or(1.0, |factors| f64::from(factors[pair]));
            let exponent = -2.0 * pair as f64 / self.head_width as f64;
            let turn = rope.base.powf(exponent) / rope.scale / factor;
            ensure!(
                turn.is_finite(),
                "damaged: `rope_freqs.weight` holds {factor}"
            );
            Ok(turn)
        };
        (0..self.head_width / 2).map(frequency).collect()
    }
}

fn architecture(metadata: &Metadata) -> Result<&'static Architecture> {
    let kind = metadata.text("general.type")?.unwrap_or("model");
    ensure!(
        kind == "model",
        "is of the type `{}`, not a whole model",
        kind.escape_debug()
    );
    let name = metadata
        .text("general.architecture")?
        .context("metadata `general.architecture` is missing")?;
    let found = ARCHITECTURES.iter().find(|known| known.name == name);
    found.with_context(|| {
        let known: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
        format!(
            "unsupported architecture `{}`: this worker runs {}",
            name.escape_debug(),
            known.join(", ")
        )
    })
}

/// An architecture's own keys.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&self.full(key))
    }

    /// Nobody knows what an unknown key would do to the text.
    fn refuse_unknown(&self, architecture: &Architecture) -> Result<()> {
        let experts = self.metadata.u64(&self.full("expert_count"))?.unwrap_or(0);
        ensure!(experts == 0, "unsupported: a mixture of {experts} experts");
        let start = self.full("");
        for (name, value) in self.metadata.entries() {
            let Some(key) = name.strip_prefix(&start) else {
                continue;
            };
            let of_windows = architecture.windows.is_some() && APPLIED_TO_WINDOWS.contains(&key);
            if of_windows || APPLIED.contains(&key) || WITHOUT_EFFECT.contains(&key) {
                continue;
            }
            let neutral = NEUTRAL.iter().find(|(neutral, _)| *neutral == key);
            let neutral = neutral.map_or(&[][..], |(_, values)| values);
            let is_neutral = value.number().is_some_and(|value| neutral.contains(&value));
            ensure!(
                is_neutral,
                "unsupported: metadata `{}` is {}, which may change the text in a way that this \
                 worker doesn't know",
                name.escape_debug(),
                value.describe()
            );
        }
        Ok(())
    }

    /// A number for the whole model, or a list that has the same for every block.
    fn count(&self, key: &str) -> Result<usize> {
        let key = self.full(key);
        let value = match self.metadata.get(&key) {
            Some(Value::Integers(list)) => {
                let mut values = list.iter();
                let first = values.next().unwrap_or(0);
                ensure!(
                    values.all(|value| value == first),
                    "unsupported: metadata `{key}` differs from block to block"
                );
                u64::try_from(first).unwrap_or(0)
            }
            _ => self.metadata.required_u64(&key)?,
        };
        ensure!(
            (1..=MOST).contains(&value),
            "damaged: metadata `{key}` is {value}"
        );
        Ok(value as usize)
    }

    fn positive(&self, key: &str, default: f64) -> Result<f64> {
        let key = self.full(key);
        let value = self.metadata.f64(&key)?.unwrap_or(default);
        ensure!(
            value > 0.0 && value.is_finite(),
            "damaged: metadata `{key}` is {value}"
        );
        Ok(value)
    }

    fn head_width(&self, width: usize, heads: usize) -> Result<usize> {
        let head_width = match self.get("attention.key_length") {
            Some(_) => self.count("attention.key_length")?,
            None if width.is_multiple_of(heads) => width / heads,
            None => bail!("damaged: a width of {width} doesn't divide into {heads} heads"),
        };
        ensure!(
            head_width.is_multiple_of(2),
            "unsupported: heads of the odd width {head_width}"
        );
        for key in ["attention.value_length", "rope.dimension_count"] {
            let key = self.full(key);
            let other = self.metadata.u64(&key)?.unwrap_or(head_width as u64);
            ensure!(
                other == head_width as u64,
                "unsupported: metadata `{key}` is {other}, while heads have the width {head_width}"
            );
        }
        Ok(head_width)
    }

    /// As llama.cpp has it: a factor without a type is linear, an older key counts where the newer
    /// one is missing, and 0 is no factor.
    fn rope_scale(&self) -> Result<f64> {
        let key = self.full("rope.scaling.type");
        match self.metadata.text(&key)?.unwrap_or("linear") {
            "none" => return Ok(1.0),
            "linear" => {}
            kind => bail!(
                "unsupported: metadata `{key}` is `{}`; none and linear are known",
                kind.escape_debug()
            ),
        }
        let keys = ["rope.scaling.factor", "rope.scale_linear"].map(|key| self.full(key));
        for key in keys {
            if let Some(factor) = self.metadata.f64(&key)? {
                ensure!(
                    factor >= 0.0 && factor.is_finite(),
                    "damaged: metadata `{key}` is {factor}"
                );
                return Ok(if factor == 0.0 { 1.0 } else { factor });
            }
        }
        Ok(1.0)
    }

    /// How many positions a local block sees. An architecture without such blocks may name a window
    /// as long as it hides nothing.
    fn window(&self, architecture: &Architecture, context_length: usize) -> Result<usize> {
        let key = self.full("attention.sliding_window");
        let window = self.metadata.u64(&key)?.unwrap_or(0);
        match architecture.windows {
            Some(_) => {
                ensure!(
                    window > 0,
                    "unsupported: {} without `{key}`",
                    architecture.name
                );
                Ok(window.min(MOST) as usize)
            }
            None => {
                ensure!(
                    window == 0 || window >= context_length as u64,
                    "unsupported: metadata `{key}` is {window}, less than the context"
                );
                Ok(context_length)
            }
        }
    }

    fn local_blocks(&self, windows: Windows, block_count: usize) -> Result<(Rope, Vec<bool>)> {
        let rope = Rope {
            base: self.positive("rope.freq_base_swa", windows.rope_base)?,
            scale: 1.0,
        };
        let key = self.full("attention.sliding_window_pattern");
        let is_local = match self.metadata.get(&key) {
            Some(Value::Bools(list)) => {
                ensure!(
                    list.len() == block_count,
                    "damaged: metadata `{key}` has {} entries for {block_count} blocks",
                    list.len()
                );
                list.clone()
            }
            Some(_) => by_period(self.count("attention.sliding_window_pattern")?, block_count),
            None => by_period(windows.period, block_count),
        };
        Ok((rope, is_local))
    }
}

/// The last block of each period looks back all the way.
fn by_period(period: usize, block_count: usize) -> Vec<bool> {
    (0..block_count)
        .map(|block| block % period < period - 1)
        .collect()
}
