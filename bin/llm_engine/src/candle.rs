//! The forward pass on graphics processors, through candle. Compiled with the features `cuda` and
//! `metal` only; the processor has an engine of this project's own.
//!
//! A batch is either one sequence with many tokens (its prompt, or a part of it) or many
//! sequences with one token each. In the second case every sequence gets exactly the numbers that
//! it would get alone; see [`linear`].

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_i;

use super::gguf::{Gguf, TensorInfo, TensorType};
use super::load::{Assembled, LoadOptions, context_length, describe};
use super::model::config::Config;
use super::scheduler::{Model, Room, Span};
use super::tokenizer::Tokenizer;

mod cache;
mod device;
mod linear;

use cache::Cache;
use linear::{Linear, RowChecks, Rows, multiply};

/// A prompt is read in portions of this many tokens. Always the same, so that the text is.
const PORTION: usize = 16;
/// Room for so many full contexts is given out.
const CONTEXTS: usize = 8;

/// A model on a device, with what it remembers of each sequence.
pub struct OnDevice {
    llama: Llama,
    caches: HashMap<u64, Cache>,
    context_length: usize,
}

/// For the device that the options name.
pub fn assemble<R: Read + Seek>(
    mut gguf: Gguf<R>,
    options: &LoadOptions,
) -> Result<Assembled<OnDevice>> {
    let device = device::open(options.backend, options.device)?;
    let config = Config::from_metadata(&gguf.metadata)?;
    let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
    let context_length = context_length(config.context_length, options.ctx_size)?;
    let llama = Llama::load(&mut gguf, &device)?;
    let info = describe(&gguf, &tokenizer, context_length, device::name(&device))?;
    let model = OnDevice {
        llama,
        caches: HashMap::new(),
        context_length: context_length as usize,
    };
    Ok(Assembled {
        model,
        tokenizer,
        info,
    })
}

impl Model for OnDevice {
    /// Sequences keep their memory themselves; pages only count how much of it there may be.
    fn room(&self) -> Room {
        Room {
            pages: self.context_length.div_ceil(PORTION) * CONTEXTS,
            page_tokens: PORTION,
            shares: false,
        }
    }

    fn forward(&mut self, spans: &[Span<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let mut rows: Vec<Option<Vec<f32>>> = vec![None; spans.len()];
        let mut decoding = Vec::new();
        for (number, span) in spans.iter().enumerate() {
            let empty = || Cache::new(&self.llama.config);
            let cache = self.caches.entry(span.sequence).or_insert_with(empty);
            cache.go_back_to(span.start);
            if span.start > 0 && span.tokens.len() == 1 && span.wants_logits {
                decoding.push(number);
                continue;
            }
            for tokens in span.tokens.chunks(PORTION) {
                rows[number] = self.llama.prefill(tokens, cache, span.wants_logits)?;
            }
        }
        if !decoding.is_empty() {
            let tokens: Vec<_> = decoding.iter().map(|&at| spans[at].tokens[0]).collect();
            let mut taken = Vec::new();
            for &at in &decoding {
                let cache = self.caches.remove(&spans[at].sequence);
                taken.push(cache.context("a sequence came twice in a batch")?);
            }
            let mut caches: Vec<_> = taken.iter_mut().collect();
            let outcome = self.llama.decode(&tokens, &mut caches);
            for (&at, cache) in decoding.iter().zip(taken) {
                self.caches.insert(spans[at].sequence, cache);
            }
            for (&at, row) in decoding.iter().zip(outcome?) {
                rows[at] = Some(row);
            }
        }
        logits.clear();
        for (span, row) in spans.iter().zip(rows) {
            if span.wants_logits {
                logits.extend(row.context("a span without tokens")?);
            }
        }
        Ok(())
    }

    fn forget(&mut self, sequence: u64) {
        self.caches.remove(&sequence);
    }
}

/// A loaded model.
struct Llama {
    config: Config,
    device: Device,
    /// A row for each token.
    embedding: Linear,
    blocks: Vec<Block>,
    norm: Tensor,
    /// Where it isn't the embedding again.
    output: Option<Linear>,
    /// How far each pair of a head turns from one position to the next.
    frequencies: Vec<f64>,
}

struct Block {
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Llama {
    /// Takes the tensors out of the file, onto the device.
    fn load<R: Read + Seek>(gguf: &mut Gguf<R>, device: &Device) -> Result<Self> {
        let config = Config::from_metadata(&gguf.metadata)?;
        ensure!(
            config.architecture.name == "llama",
            "unsupported on a graphics processor: the architecture {}; only llama is known there",
            config.architecture.name
        );
        let mut loader = Loader {
            gguf,
            device,
            checks: HashMap::new(),
            used: BTreeSet::new(),
        };
        let (width, head_width) = (config.width, config.head_width);
        let rows = config.vocabulary_size;
        let embedding = loader.linear("token_embd.weight", rows, width)?;
        let output = match loader.gguf.tensor("output.weight") {
            Some(_) => Some(loader.linear("output.weight", rows, width)?),
            None => None,
        };
        let blocks = (0..config.block_count()).map(|number| loader.block(&config, number));
        let blocks = blocks.collect::<Result<_>>()?;
        let norm = loader.vector("output_norm.weight", width)?;
        let factors: Option<Vec<f32>> = match loader.gguf.tensor("rope_freqs.weight") {
            Some(_) => Some(
                loader
                    .vector("rope_freqs.weight", head_width / 2)?
                    .to_vec1()?,
            ),
            None => None,
        };
        loader.refuse_unused()?;
        Ok(Self {
            frequencies: config.frequencies(config.rope, factors.as_deref())?,
            embedding,
            config,
            device: device.clone(),
            blocks,
            norm,
            output,
        })
    }

    fn output(&self) -> &Linear {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Reads on in one sequence. With `wants_logits`, gives those after the last token.
    fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        wants_logits: bool,
    ) -> Result<Option<Vec<f32>>> {
        let hidden = self.forward(tokens, &mut [&mut *cache])?;
        cache.advance(tokens.len());
        if !wants_logits {
            return Ok(None);
        }
        let last = hidden.narrow(0, tokens.len() - 1, 1)?.contiguous()?;
        let normed = rms_norm(&last, &self.norm, self.config.norm_epsilon)?;
        let [logits] = multiply([self.output()], &normed, Rows::OfOneSequence)?;
        Ok(Some(logits.flatten_all()?.to_vec1()?))
    }

    /// Reads one token on in each of the sequences, and gives the logits after it.
    fn decode(&self, tokens: &[u32], caches: &mut [&mut Cache]) -> Result<Vec<Vec<f32>>> {
        let hidden = self.forward(tokens, caches)?;
        let normed = rms_norm(&hidden, &self.norm, self.config.norm_epsilon)?;
        let [logits] = multiply([self.output()], &normed, Rows::OfManySequences)?;
        let logits = logits.to_vec2()?;
        for cache in caches {
            cache.advance(1);
        }
        Ok(logits)
    }

    /// One row for each token. Caches are written but not advanced, so that a batch that failed
    /// can be tried again.
    fn forward(&self, tokens: &[u32], caches: &mut [&mut Cache]) -> Result<Tensor> {
        for &token in tokens {
            ensure!(
                (token as usize) < self.config.vocabulary_size,
                "no token {token}"
            );
        }
        let sequences = caches.len();
        let steps = tokens.len() / sequences;
        let batch = Batch::new(self, sequences, steps, caches)?;
        let mut hidden = self.embedding.rows(tokens)?;
        for (number, block) in self.blocks.iter().enumerate() {
            hidden = block.forward(&hidden, &batch, caches, number, &self.config)?;
        }
        Ok(hidden)
    }
}

/// What all blocks of one forward pass share.
struct Batch {
    sequences: usize,
    steps: usize,
    cos: Tensor,
    sin: Tensor,
    /// Hides the future inside a prompt; `[steps, positions]`.
    mask: Option<Tensor>,
}

impl Batch {
    fn new(model: &Llama, sequences: usize, steps: usize, caches: &[&mut Cache]) -> Result<Self> {
        let angles: Vec<_> = caches
            .iter()
            .flat_map(|cache| cache.length()..cache.length() + steps)
            .flat_map(|position| {
                model
                    .frequencies
                    .iter()
                    .map(move |turn| position as f64 * turn)
            })
            .collect();
        let shape = (sequences, steps, model.frequencies.len());
        let table = |of: fn(f64) -> f64| {
            let values: Vec<_> = angles.iter().map(|&angle| of(angle) as f32).collect();
            Tensor::from_vec(values, shape, &model.device)
        };
        let mask = match caches {
            [cache] if steps > 1 => Some(causal_mask(cache.length(), steps, &model.device)?),
            _ => None,
        };
        Ok(Self {
            sequences,
            steps,
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            mask,
        })
    }

    /// Rows of heads to `[sequences, heads, steps, head_width]`.
    fn split_heads(&self, rows: &Tensor, heads: usize, width: usize) -> Result<Tensor> {
        let split = rows.reshape((self.sequences, self.steps, heads, width))?;
        Ok(split.transpose(1, 2)?.contiguous()?)
    }
}

fn causal_mask(past: usize, steps: usize, device: &Device) -> Result<Tensor> {
    let positions = past + steps;
    let hidden = |step: usize, position: usize| {
        if position > past + step {
            f32::NEG_INFINITY
        } else {
            0.0
        }
    };
    let values: Vec<_> = (0..steps)
        .flat_map(|step| (0..positions).map(move |position| hidden(step, position)))
        .collect();
    Ok(Tensor::from_vec(values, (steps, positions), device)?)
}

impl Block {
    fn forward(
        &self,
        hidden: &Tensor,
        batch: &Batch,
        caches: &mut [&mut Cache],
        number: usize,
        config: &Config,
    ) -> Result<Tensor> {
        // One sequence always comes in the same portions, so its rows need no care.
        let whose = match batch.sequences {
            1 => Rows::OfOneSequence,
            _ => Rows::OfManySequences,
        };
        let normed = rms_norm(hidden, &self.attention_norm, config.norm_epsilon)?;
        let heads = [&self.query, &self.key, &self.value];
        let [query, key, value] = multiply(heads, &normed, whose)?;
        let width = config.head_width;
        let query = batch.split_heads(&query, config.heads, width)?;
        let key = batch.split_heads(&key, config.key_heads, width)?;
        let value = batch.split_heads(&value, config.key_heads, width)?;
        let query = rope_i(&query, &batch.cos, &batch.sin)?;
        let key = rope_i(&key, &batch.cos, &batch.sin)?;

        let mut attended = Vec::with_capacity(batch.sequences);
        for (at, cache) in caches.iter_mut().enumerate() {
            let (keys, values) = cache.append(number, &key.get(at)?, &value.get(at)?)?;
            attended.push(attend(
                &query.get(at)?,
                &keys,
                &values,
                batch.mask.as_ref(),
                config,
            )?);
        }
        let attended = match attended.as_slice() {
            [one] => one.clone(),
            many => Tensor::cat(many, 0)?,
        };
        let [attended] = multiply([&self.attention_output], &attended, whose)?;
        let hidden = (hidden + attended)?;

        let normed = rms_norm(&hidden, &self.feed_forward_norm, config.norm_epsilon)?;
        let [gate, up] = multiply([&self.gate, &self.up], &normed, whose)?;
        let [fed_forward] = multiply([&self.down], &(silu(&gate)? * up)?, whose)?;
        Ok((&hidden + fed_forward)?)
    }
}

/// Grouped-query attention of one sequence: `[heads, steps, head_width]` to rows of heads.
fn attend(
    query: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Option<&Tensor>,
    config: &Config,
) -> Result<Tensor> {
    let (heads, steps, width) = query.dims3()?;
    let groups = heads / config.key_heads;
    let query = (query * (width as f64).sqrt().recip())?;
    let query = query.reshape((config.key_heads, groups * steps, width))?;
    let mut scores = query.matmul(&keys.t()?)?;
    if let Some(mask) = mask {
        let shape = scores.shape().clone();
        let positions = scores.dim(D::Minus1)?;
        let by_step = scores.reshape((heads, steps, positions))?;
        scores = by_step.broadcast_add(mask)?.reshape(shape)?;
    }
    let attended = softmax_last_dim(&scores)?.matmul(values)?;
    let attended = attended.reshape((heads, steps, width))?.transpose(0, 1)?;
    Ok(attended.reshape((steps, heads * width))?)
}

struct Loader<'a, R> {
    gguf: &'a mut Gguf<R>,
    device: &'a Device,
    checks: HashMap<(GgmlDType, Vec<usize>), Arc<RowChecks>>,
    used: BTreeSet<String>,
}

impl<R: Read + Seek> Loader<'_, R> {
    fn block(&mut self, config: &Config, number: usize) -> Result<Block> {
        let name = |part: &str| format!("blk.{number}.{part}.weight");
        let Config {
            width,
            feed_forward_width,
            head_width,
            heads,
            key_heads,
            ..
        } = *config;
        let (all, keys) = (heads * head_width, key_heads * head_width);
        Ok(Block {
            attention_norm: self.vector(&name("attn_norm"), width)?,
            query: self.linear(&name("attn_q"), all, width)?,
            key: self.linear(&name("attn_k"), keys, width)?,
            value: self.linear(&name("attn_v"), keys, width)?,
            attention_output: self.linear(&name("attn_output"), width, all)?,
            feed_forward_norm: self.vector(&name("ffn_norm"), width)?,
            gate: self.linear(&name("ffn_gate"), feed_forward_width, width)?,
            up: self.linear(&name("ffn_up"), feed_forward_width, width)?,
            down: self.linear(&name("ffn_down"), width, feed_forward_width)?,
        })
    }

    fn linear(&mut self, name: &str, rows: usize, columns: usize) -> Result<Linear> {
        let tensor = Arc::new(self.tensor(name, &[rows, columns])?);
        let alike = (tensor.dtype(), tensor.shape().dims().to_vec());
        let checks = self.checks.entry(alike).or_default();
        Linear::new(tensor, Arc::clone(checks))
    }

    /// A norm's weights, or another short list of plain numbers.
    fn vector(&mut self, name: &str, length: usize) -> Result<Tensor> {
        let tensor = self.tensor(name, &[length])?;
        Ok(tensor.dequantize(self.device)?.to_dtype(DType::F32)?)
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<QTensor> {
        let info = self.find(name, shape)?;
        let bytes = self.gguf.read_tensor(&info)?;
        self.used.insert(name.to_owned());
        let storage =
            QStorage::from_data(bytes.as_slice().into(), self.device, candle_type(info.kind));
        let tensor = storage.and_then(|storage| QTensor::new(storage, shape));
        tensor.with_context(|| format!("tensor `{name}`"))
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<TensorInfo> {
        let info = self
            .gguf
            .tensor(name)
            .with_context(|| format!("tensor `{name}` is missing"))?;
        ensure!(
            info.shape == shape,
            "tensor `{name}` has the shape {:?}, the metadata asks for {shape:?}",
            info.shape
        );
        Ok(info.clone())
    }

    /// A tensor that nobody looked at would have changed the text.
    fn refuse_unused(&self) -> Result<()> {
        let unused = self
            .gguf
            .tensors()
            .find(|(name, _)| !self.used.contains(*name));
        match unused {
            None => Ok(()),
            Some((name, _)) => bail!(
                "unsupported on a graphics processor: tensor `{}`",
                name.escape_debug()
            ),
        }
    }
}

fn candle_type(kind: TensorType) -> GgmlDType {
    match kind {
        TensorType::F32 => GgmlDType::F32,
        TensorType::F16 => GgmlDType::F16,
        TensorType::Bf16 => GgmlDType::BF16,
        TensorType::Q4_0 => GgmlDType::Q4_0,
        TensorType::Q4_1 => GgmlDType::Q4_1,
        TensorType::Q5_0 => GgmlDType::Q5_0,
        TensorType::Q5_1 => GgmlDType::Q5_1,
        TensorType::Q8_0 => GgmlDType::Q8_0,
        TensorType::Q2K => GgmlDType::Q2K,
        TensorType::Q3K => GgmlDType::Q3K,
        TensorType::Q4K => GgmlDType::Q4K,
        TensorType::Q5K => GgmlDType::Q5K,
        TensorType::Q6K => GgmlDType::Q6K,
    }
}

#[cfg(test)]
mod tests;
