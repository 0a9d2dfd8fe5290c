//! The transformer that is trained: llama's architecture, with parameters under their GGUF names.
//!
//! Knows tensors only: no text, no files, no optimiser.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};

use crate::ops;
use crate::random::Random;

/// What a GGUF file states as `llama.*`, so that any engine builds the same network.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Tokens in the vocabulary; the embedding is also the output, to save bytes.
    pub vocabulary: usize,
    /// The width of the residual stream: a multiple of 32, as Q8_0 blocks are 32 wide.
    pub width: usize,
    /// Transformer blocks.
    pub blocks: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, each shared by `heads / kv_heads` queries.
    pub kv_heads: usize,
    /// The width of the feed-forward part.
    pub feed_forward: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// The base of the rotary frequencies.
    pub rope_base: f32,
    /// Added under the root of the norm.
    pub norm_epsilon: f32,
}

impl Shape {
    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Every parameter's GGUF name and dimensions, outputs first.
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let (width, kv_width) = (self.width, self.kv_heads * self.head_width());
        let mut all = vec![
            ("token_embd.weight".to_owned(), vec![self.vocabulary, width]),
            ("output_norm.weight".to_owned(), vec![width]),
        ];
        for block in 0..self.blocks {
            let mut add = |name: &str, dims: &[usize]| {
                all.push((format!("blk.{block}.{name}.weight"), dims.to_vec()));
            };
            add("attn_norm", &[width]);
            add("attn_q", &[width, width]);
            add("attn_k", &[kv_width, width]);
            add("attn_v", &[kv_width, width]);
            add("attn_output", &[width, width]);
            add("ffn_norm", &[width]);
            add("ffn_gate", &[self.feed_forward, width]);
            add("ffn_up", &[self.feed_forward, width]);
            add("ffn_down", &[width, self.feed_forward]);
        }
        all
    }
}

/// Parameters by GGUF name. `Var` while training, plain tensors when read from a file.
pub struct Model {
    shape: Shape,
    parameters: BTreeMap<String, Tensor>,
}

impl Model {
    /// A new model, and its parameters as variables in the order of their names.
    pub fn initialise(shape: &Shape, random: &mut Random) -> Result<(Self, Vec<Var>)> {
        let mut parameters = BTreeMap::new();
        let mut variables = Vec::new();
        for (name, dims) in shape.parameters() {
            let values = match dims.len() {
                1 => Tensor::ones(dims, candle_core::DType::F32, &Device::Cpu)?,
                _ => random_matrix(random, &dims, deviation(shape, &name))?,
            };
            let variable = Var::from_tensor(&values)?;
            parameters.insert(name, variable.as_tensor().clone());
            variables.push(variable);
        }
        let model = Self {
            shape: shape.clone(),
            parameters,
        };
        Ok((model, variables))
    }

    /// A model of existing tensors; each parameter must be there, in f32.
    pub fn from_parameters(shape: Shape, parameters: BTreeMap<String, Tensor>) -> Result<Self> {
        for (name, dims) in shape.parameters() {
            match parameters.get(&name) {
                Some(tensor) if tensor.dims() == dims => {}
                other => {
                    candle_core::bail!("{name} must be {dims:?}, got {:?}", other.map(Tensor::dims))
                }
            }
        }
        Ok(Self { shape, parameters })
    }

    /// The parameters by their GGUF names.
    pub fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.parameters
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How many numbers the model consists of.
    pub fn parameter_count(&self) -> usize {
        self.parameters.values().map(Tensor::elem_count).sum()
    }

    /// Of (rows, length) token ids, the (rows * length, vocabulary) logits of each next token.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (rows, length) = tokens.dims2()?;
        let embedding = self.parameter("token_embd")?;
        let mut stream = embedding.index_select(&tokens.flatten_all()?, 0)?;
        for block in 0..self.shape.blocks {
            let of = |name: &str| format!("blk.{block}.{name}");
            let attended = self.attend(
                &self.normalise(&stream, &of("attn_norm"))?,
                block,
                rows,
                length,
            )?;
            stream = (stream + attended)?;
            let normalised = self.normalise(&stream, &of("ffn_norm"))?;
            let gate = self.project(&normalised, &of("ffn_gate"))?;
            let up = self.project(&normalised, &of("ffn_up"))?;
            stream = (stream + self.project(&ops::swiglu(&gate, &up)?, &of("ffn_down"))?)?;
        }
        self.normalise(&stream, "output_norm")?
            .matmul(&embedding.t()?)
    }

    fn attend(&self, input: &Tensor, block: usize, rows: usize, length: usize) -> Result<Tensor> {
        let Shape {
            width,
            heads,
            kv_heads,
            rope_base,
            ..
        } = self.shape;
        let (head, sharing) = (self.shape.head_width(), heads / kv_heads);
        let split = |name: &str, heads: usize| {
            self.project(input, &format!("blk.{block}.{name}"))?
                .reshape((rows, length, heads, head))?
                .transpose(1, 2)?
                .contiguous()
        };
        // The queries that share a key are stacked, so that no key is ever repeated in memory.
        let stacked = (rows * kv_heads, sharing * length, head);
        let query = ops::rotate(&split("attn_q", heads)?, rope_base)?;
        let query = (query * (head as f64).powf(-0.5))?.reshape(stacked)?;
        let key = ops::rotate(&split("attn_k", kv_heads)?, rope_base)?.reshape((
            rows * kv_heads,
            length,
            head,
        ))?;
        let value = split("attn_v", kv_heads)?.reshape((rows * kv_heads, length, head))?;
        let scores = query
            .matmul(&key.t()?)?
            .reshape((rows * heads, length, length))?;
        let weights =
            ops::causal_softmax(&scores)?.reshape((rows * kv_heads, sharing * length, length))?;
        let mixed = weights
            .matmul(&value)?
            .reshape((rows, heads, length, head))?
            .transpose(1, 2)?
            .reshape((rows * length, width))?;
        self.project(&mixed, &format!("blk.{block}.attn_output"))
    }

    fn normalise(&self, input: &Tensor, name: &str) -> Result<Tensor> {
        ops::rms_norm(input, self.parameter(name)?, self.shape.norm_epsilon)
    }

    fn project(&self, input: &Tensor, name: &str) -> Result<Tensor> {
        input.matmul(&self.parameter(name)?.t()?)
    }

    fn parameter(&self, name: &str) -> Result<&Tensor> {
        match self.parameters.get(&format!("{name}.weight")) {
            Some(tensor) => Ok(tensor),
            None => candle_core::bail!("the model has no parameter {name}"),
        }
    }
}

/// The usual choice for transformers: 0.02 at a width of 768, wider for a narrow model, and less
/// where a block writes to the residual stream, so that the stream doesn't grow with depth.
fn deviation(shape: &Shape, name: &str) -> f64 {
    let base = 0.5 / (shape.width as f64).sqrt();
    if name.contains("attn_output") || name.contains("ffn_down") {
        base / (2.0 * shape.blocks as f64).sqrt()
    } else {
        base
    }
}

fn random_matrix(random: &mut Random, dims: &[usize], deviation: f64) -> Result<Tensor> {
    let count = dims.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| (random.normal() * deviation) as f32)
        .collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}
