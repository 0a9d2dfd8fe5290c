//! A model's tensors, out of the file and into the form that the kernels want.

use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};

use super::super::gguf::{Gguf, TensorInfo};
use super::super::ops::{Matrix, Rope};
use super::super::quant::dequantise;
use super::architecture::Need;
use super::config::Config;

/// All of them.
pub struct Weights {
    /// A row for each token.
    pub embedding: Matrix,
    /// Where it isn't the embedding again.
    output: Option<Matrix>,
    /// One after another.
    pub blocks: Vec<Block>,
    /// Behind the last block.
    pub norm: Vec<f32>,
    /// Of the blocks that look back all the way.
    pub rope: Rope,
    /// Of the others.
    pub local_rope: Rope,
}

/// Those of one block. What an architecture doesn't have is `None`.
pub struct Block {
    pub attention_norm: Vec<f32>,
    pub query: Matrix,
    pub key: Matrix,
    pub value: Matrix,
    pub query_bias: Option<Vec<f32>>,
    pub key_bias: Option<Vec<f32>>,
    pub value_bias: Option<Vec<f32>>,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub attention_output: Matrix,
    pub attention_output_bias: Option<Vec<f32>>,
    pub attention_post_norm: Option<Vec<f32>>,
    pub feed_forward_norm: Vec<f32>,
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
    pub feed_forward_post_norm: Option<Vec<f32>>,
}

impl Weights {
    /// What gives each token its logit.
    pub fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

/// Takes the tensors out of the file. Each must have a use, and the shape that the metadata asks
/// for. `threads` threads bring them into the form that the kernels want.
pub fn load<R: Read + Seek + Send>(
    gguf: &mut Gguf<R>,
    config: &Config,
    threads: usize,
) -> Result<Weights> {
    let loader = Loader {
        gguf: Mutex::new(gguf),
        used: Mutex::default(),
    };
    let Config {
        width,
        vocabulary_size,
        ..
    } = *config;
    let norm = loader.vector("output_norm.weight", width)?;
    let factors = config.architecture.rope_factors;
    let factors = loader.vector_if("rope_freqs.weight", config.head_width / 2, factors, true)?;
    let rope = config.frequencies(config.rope, factors.as_deref())?;
    let local_rope = config.frequencies(config.local_rope, None)?;

    let large = |name: &str| loader.matrix(name, vocabulary_size, width, threads);
    let embedding = large("token_embd.weight")?;
    let output = loader.has("output.weight").then(|| large("output.weight"));
    let blocks = side_by_side(config.block_count(), threads, |number| {
        loader.block(config, number)
    });
    let blocks = blocks.collect::<Result<_>>()?;
    loader.refuse_unused(config)?;
    let style = config.architecture.rope_style;
    Ok(Weights {
        embedding,
        output: output.transpose()?,
        blocks,
        norm,
        rope: Rope::with_frequencies(style, rope),
        local_rope: Rope::with_frequencies(style, local_rope),
    })
}

/// What the tasks with these numbers give, in their order. `threads` threads share them.
fn side_by_side<T: Send>(
    tasks: usize,
    threads: usize,
    run: impl Fn(usize) -> Result<T> + Sync,
) -> impl Iterator<Item = Result<T>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            let result = run(task);
            lock(&results).push((task, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(tasks) {
            scope.spawn(work);
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(task, _)| *task);
    results.into_iter().map(|(_, result)| result)
}

struct Loader<'a, R> {
    gguf: Mutex<&'a mut Gguf<R>>,
    used: Mutex<BTreeSet<String>>,
}

impl<R: Read + Seek + Send> Loader<'_, R> {
    fn block(&self, config: &Config, number: usize) -> Result<Block> {
        let Config {
            architecture,
            width,
            feed_forward_width,
            head_width,
            heads,
            key_heads,
            ..
        } = *config;
        let (all, keys) = (heads * head_width, key_heads * head_width);
        let name = |part: &str| format!("blk.{number}.{part}");
        let matrix = |part: &str, rows, columns| {
            self.matrix(&name(&format!("{part}.weight")), rows, columns, 1)
        };
        let vector = |part: &str, length| self.vector(&name(&format!("{part}.weight")), length);
        let bias = |part: &str, length, need| {
            self.vector_if(&name(&format!("{part}.bias")), length, need, true)
        };
        let norm_if = |part: &str, length, has: bool| {
            self.vector_if(&name(&format!("{part}.weight")), length, Need::Must, has)
        };
        Ok(Block {
            attention_norm: vector("attn_norm", width)?,
            query: matrix("attn_q", all, width)?,
            key: matrix("attn_k", keys, width)?,
            value: matrix("attn_v", keys, width)?,
            query_bias: bias("attn_q", all, architecture.bias)?,
            key_bias: bias("attn_k", keys, architecture.bias)?,
            value_bias: bias("attn_v", keys, architecture.bias)?,
            query_norm: norm_if("attn_q_norm", head_width, architecture.head_norms)?,
            key_norm: norm_if("attn_k_norm", head_width, architecture.head_norms)?,
            attention_output: matrix("attn_output", width, all)?,
            attention_output_bias: bias("attn_output", width, architecture.output_bias)?,
            attention_post_norm: norm_if("post_attention_norm", width, architecture.post_norms)?,
            feed_forward_norm: vector("ffn_norm", width)?,
            gate: matrix("ffn_gate", feed_forward_width, width)?,
            up: matrix("ffn_up", feed_forward_width, width)?,
            down: matrix("ffn_down", width, feed_forward_width)?,
            feed_forward_post_norm: norm_if("post_ffw_norm", width, architecture.post_norms)?,
        })
    }

    fn has(&self, name: &str) -> bool {
        lock(&self.gguf).tensor(name).is_some()
    }

    /// Where the architecture `has` such a tensor, and the file has it or must.
    fn vector_if(
        &self,
        name: &str,
        length: usize,
        need: Need,
        has: bool,
    ) -> Result<Option<Vec<f32>>> {
        let wanted = match need {
            Need::No => false,
            Need::May => self.has(name),
            Need::Must => true,
        };
        (has && wanted)
            .then(|| self.vector(name, length))
            .transpose()
    }

    /// A norm's weights, or another short list of plain numbers.
    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let info = self.find(name, &[length])?;
        let bytes = lock(&self.gguf).read_tensor(&info)?;
        let mut values = vec![0.0; length];
        dequantise(info.kind, &bytes, &mut values);
        Ok(values)
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize, threads: usize) -> Result<Matrix> {
        let info = self.find(name, &[rows, columns])?;
        let read =
            |start: usize, part: &mut [u8]| lock(&self.gguf).read_part(&info, start as u64, part);
        let matrix = Matrix::read(info.kind, rows, columns, threads, read);
        matrix.with_context(|| format!("tensor `{name}`"))
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<TensorInfo> {
        let gguf = lock(&self.gguf);
        let info = gguf
            .tensor(name)
            .with_context(|| format!("tensor `{name}` is missing"))?;
        ensure!(
            info.shape == shape,
            "tensor `{name}` has the shape {:?}, the metadata asks for {shape:?}",
            info.shape
        );
        lock(&self.used).insert(name.to_owned());
        Ok(info.clone())
    }

    /// A tensor that nobody looked at would have changed the text.
    fn refuse_unused(&self, config: &Config) -> Result<()> {
        let (gguf, used) = (lock(&self.gguf), lock(&self.used));
        let unused = gguf.tensors().find(|(name, _)| !used.contains(*name));
        match unused {
            None => Ok(()),
            Some((name, _)) => bail!(
                "unsupported: tensor `{}` has no use in a model of the architecture {}",
                name.escape_debug(),
                config.architecture.name
            ),
        }
    }
}

/// A panic elsewhere leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
