//! A model on the processor: its weights, and the one forward pass that all architectures share.
//!
//! What sets architectures apart is data (`architecture`, `config`). A batch is ragged: parts of
//! prompts and single tokens side by side, of as many sequences as there are. What a row becomes
//! depends on its own sequence alone; the operations promise it.

use std::ops::Range;

use anyhow::{Result, ensure};

use super::ops::{
    self, Angles, Attention, Chunk, Cpu, KeyValueCache, Matrix, PAGE_POSITIONS, Product, Workspace,
};
use super::scheduler::{self, Room, Span};

pub mod architecture;
pub mod config;
mod weights;

use config::Config;
use weights::Weights;

pub use weights::load;

/// A loaded model, and its memory of sequences.
pub struct Model {
    config: Config,
    weights: Weights,
    cpu: Cpu,
    cache: KeyValueCache,
    buffers: Buffers,
}

/// What one step after the other writes to. Kept, because fresh memory costs more than the work on
/// it.
#[derive(Default)]
struct Buffers {
    hidden: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    attended: Vec<f32>,
    projected: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    workspace: Workspace,
}

/// What all blocks of one pass share.
struct Batch<'a> {
    chunks: Vec<Chunk<'a>>,
    rows: usize,
    /// Those rows whose logits are needed, in order.
    wanted: Vec<usize>,
    angles: Angles,
    local_angles: Angles,
}

impl Model {
    /// A model with a cache of `pages` pages.
    pub fn new(config: Config, weights: Weights, cpu: Cpu, pages: usize) -> Self {
        let cache = KeyValueCache::new(
            config.block_count(),
            pages,
            config.key_heads,
            config.head_width,
        );
        Self {
            config,
            weights,
            cpu,
            cache,
            buffers: Buffers::default(),
        }
    }

    fn batch<'a>(&self, spans: &[Span<'a>]) -> Result<Batch<'a>> {
        let mut chunks = Vec::with_capacity(spans.len());
        let mut positions = Vec::new();
        let mut wanted = Vec::new();
        for span in spans {
            let vocabulary_size = self.config.vocabulary_size;
            let unknown = span
                .tokens
                .iter()
                .find(|&&token| token as usize >= vocabulary_size);
            if let Some(token) = unknown {
                anyhow::bail!("no token {token}");
            }
            let first = positions.len();
            let end = span.start + span.tokens.len();
            ensure!(
                end <= span.pages.len() * PAGE_POSITIONS && !span.tokens.is_empty(),
                "a span of {} tokens from position {} on {} pages",
                span.tokens.len(),
                span.start,
                span.pages.len()
            );
            positions.extend(span.start..end);
            chunks.push(Chunk {
                rows: first..positions.len(),
                start: span.start,
                pages: span.pages,
            });
            if span.wants_logits {
                wanted.push(positions.len() - 1);
            }
        }
        Ok(Batch {
            chunks,
            rows: positions.len(),
            wanted,
            angles: self.weights.rope.angles(&positions),
            local_angles: self.weights.local_rope.angles(&positions),
        })
    }

    fn embed(&mut self, spans: &[Span<'_>], rows: usize) {
        let width = self.config.width;
        let hidden = sized(&mut self.buffers.hidden, rows * width);
        let tokens = spans.iter().flat_map(|span| span.tokens);
        for (&token, row) in tokens.zip(hidden.chunks_exact_mut(width)) {
            self.weights.embedding.dequantise_row(token as usize, row);
            if self.config.embedding_scale != 1.0 {
                row.iter_mut()
                    .for_each(|number| *number *= self.config.embedding_scale);
            }
        }
    }

    /// From the hidden states before a block to what its attention makes of them, in `attended`.
    fn attend(&mut self, number: usize, batch: &Batch<'_>) {
        let Self {
            config,
            weights,
            cpu,
            cache,
            buffers,
        } = self;
        let Config {
            width,
            heads,
            key_heads,
            head_width,
            norm_epsilon,
            ..
        } = *config;
        let block = &weights.blocks[number];
        let rows = batch.rows;
        let normed = sized(&mut buffers.normed, rows * width);
        let hidden = &buffers.hidden[..rows * width];
        ops::rms_norm(cpu, hidden, &block.attention_norm, norm_epsilon, normed);

        let query = sized(&mut buffers.query, rows * heads * head_width);
        let key = sized(&mut buffers.key, rows * key_heads * head_width);
        let value = sized(&mut buffers.value, rows * key_heads * head_width);
        let mut products = [
            product(&block.query, query),
            product(&block.key, key),
            product(&block.value, value),
        ];
        ops::matmul(cpu, &mut buffers.workspace, normed, &mut products);
        for (rows, bias) in [
            (&mut *query, &block.query_bias),
            (&mut *key, &block.key_bias),
            (&mut *value, &block.value_bias),
        ] {
            if let Some(bias) = bias {
                ops::add_bias(cpu, rows, bias);
            }
        }
        if let Some(norm) = &block.query_norm {
            ops::rms_norm_in_place(cpu, query, norm, norm_epsilon);
        }
        if let Some(norm) = &block.key_norm {
            ops::rms_norm_in_place(cpu, key, norm, norm_epsilon);
        }
        let is_local = config.is_local[number];
        let angles = match is_local {
            true => &batch.local_angles,
            false => &batch.angles,
        };
        angles.rotate(cpu, query, heads, head_width);
        angles.rotate(cpu, key, key_heads, head_width);
        cache.store(cpu, number, &batch.chunks, key, value);
        let shape = Attention {
            heads,
            scale: config.query_scale,
            window: is_local.then_some(config.window),
        };
        let attended = sized(&mut buffers.attended, rows * heads * head_width);
        ops::attention(
            cpu,
            &mut buffers.workspace,
            cache,
            number,
            &shape,
            &batch.chunks,
            query,
            attended,
        );
    }

    /// From what the attention made to the hidden states behind a block, for so many rows.
    fn feed_forward(&mut self, number: usize, rows: usize) {
        let Self {
            config,
            weights,
            cpu,
            buffers,
            ..
        } = self;
        let width = config.width;
        let epsilon = config.norm_epsilon;
        let block = &weights.blocks[number];
        let attended = &buffers.attended[..rows * config.heads * config.head_width];
        let projected = sized(&mut buffers.projected, rows * width);
        let hidden = &mut buffers.hidden[..rows * width];
        let workspace = &mut buffers.workspace;
        let mut products = [product(&block.attention_output, projected)];
        ops::matmul(cpu, workspace, attended, &mut products);
        if let Some(bias) = &block.attention_output_bias {
            ops::add_bias(cpu, projected, bias);
        }
        if let Some(norm) = &block.attention_post_norm {
            ops::rms_norm_in_place(cpu, projected, norm, epsilon);
        }
        ops::add(cpu, hidden, projected);

        let normed = sized(&mut buffers.normed, rows * width);
        ops::rms_norm(cpu, hidden, &block.feed_forward_norm, epsilon, normed);
        let gate = sized(&mut buffers.gate, rows * config.feed_forward_width);
        let up = sized(&mut buffers.up, rows * config.feed_forward_width);
        let mut products = [product(&block.gate, gate), product(&block.up, up)];
        ops::matmul(cpu, workspace, normed, &mut products);
        ops::gate(cpu, config.architecture.activation, gate, up);
        let mut products = [product(&block.down, projected)];
        ops::matmul(cpu, workspace, gate, &mut products);
        if let Some(norm) = &block.feed_forward_post_norm {
            ops::rms_norm_in_place(cpu, projected, norm, epsilon);
        }
        ops::add(cpu, hidden, projected);
    }

    fn logits(&mut self, rows: usize, logits: &mut [f32]) {
        let width = self.config.width;
        let buffers = &mut self.buffers;
        let normed = sized(&mut buffers.normed, rows * width);
        let hidden = &buffers.hidden[..rows * width];
        let weights = &self.weights;
        let epsilon = self.config.norm_epsilon;
        ops::rms_norm(&self.cpu, hidden, &weights.norm, epsilon, normed);
        let mut products = [product(weights.output(), logits)];
        ops::matmul(&self.cpu, &mut buffers.workspace, normed, &mut products);
    }
}

impl scheduler::Model for Model {
    fn room(&self) -> Room {
        Room {
            pages: self.cache.pages(),
            page_tokens: PAGE_POSITIONS,
            shares: true,
        }
    }

    fn forward(&mut self, spans: &[Span<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let batch = self.batch(spans)?;
        self.embed(spans, batch.rows);
        let last = self.config.block_count() - 1;
        for number in 0..last {
            self.attend(number, &batch);
            self.feed_forward(number, batch.rows);
        }
        // Behind the last attention nobody looks at the other rows.
        self.attend(last, &batch);
        let wanted = batch.wanted.len();
        logits.resize(wanted * self.config.vocabulary_size, 0.0);
        if wanted > 0 {
            keep_rows(&mut self.buffers.hidden, &batch.wanted, self.config.width);
            let attended_width = self.config.heads * self.config.head_width;
            keep_rows(&mut self.buffers.attended, &batch.wanted, attended_width);
            self.feed_forward(last, wanted);
            self.logits(wanted, logits);
        }
        Ok(())
    }

    fn share(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.cpu.pool().run(tasks, task);
    }
}

fn product<'a>(matrix: &'a Matrix, output: &'a mut [f32]) -> Product<'a> {
    Product { matrix, output }
}

/// The first `length` numbers, of which there are as many afterwards.
fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// Moves these rows, in rising order, to the front.
fn keep_rows(buffer: &mut [f32], rows: &[usize], width: usize) {
    for (to, &from) in rows.iter().enumerate() {
        let row: Range<usize> = from * width..(from + 1) * width;
        buffer.copy_within(row, to * width);
    }
}

#[cfg(test)]
mod tests;
