//! Attention of new rows to everything before them in their sequence.

use std::ops::Range;

use crate::engine::quant::half;

use super::{Cpu, KeyValueCache, PAGE_POSITIONS};

/// Consecutive rows of a batch that continue one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Which rows of the batch.
    pub rows: Range<usize>,
    /// The position of the first of them in its sequence.
    pub start: usize,
    /// The sequence's pages, as far as its positions go with these rows.
    pub pages: &'a [u32],
}

/// What differs between models and layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads; a multiple of the key heads, each of which serves as many.
    pub heads: usize,
    /// Scores are multiplied with this.
    pub scale: f32,
    /// How many positions a row sees, its own included; `None` for all.
    pub window: Option<usize>,
}

/// Attends from the chunks' rows (`heads * head_width` numbers each) to what the cache keeps of
/// their sequences, these rows included: store them first.
pub fn attention(
    cpu: &Cpu,
    cache: &KeyValueCache,
    layer: usize,
    shape: &Attention,
    chunks: &[Chunk<'_>],
    queries: &[f32],
    output: &mut [f32],
) {
    let width = cache.head_width();
    let group = shape.heads / cache.heads();
    assert_eq!(queries.len(), output.len());
    let owner: Vec<_> = chunks
        .iter()
        .flat_map(|chunk| {
            chunk
                .rows
                .clone()
                .enumerate()
                .map(move |(step, row)| (row, step, chunk))
        })
        .collect();
    cpu.pool()
        .for_pieces(output, shape.heads * width, |row, output| {
            let Some((_, step, chunk)) = owner.iter().find(|owner| owner.0 == row) else {
                return;
            };
            let end = chunk.start + step + 1;
            let begin = shape.window.map_or(0, |window| end.saturating_sub(window));
            for (head, output) in output.chunks_exact_mut(width).enumerate() {
                let query = &queries[(row * shape.heads + head) * width..][..width];
                let page = |position: usize| {
                    let page = chunk.pages[position / PAGE_POSITIONS] as usize;
                    cache.page(layer, page, head / group)
                };
                let mut scores: Vec<_> = (begin..end)
                    .map(|position| {
                        let keys = page(position).0.iter().skip(position % PAGE_POSITIONS);
                        let keys = keys.step_by(PAGE_POSITIONS);
                        let score: f32 = query
                            .iter()
                            .zip(keys)
                            .map(|(q, k)| q * half::to_f32(*k))
                            .sum();
                        score * shape.scale
                    })
                    .collect();
                let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores
                    .iter_mut()
                    .for_each(|score| *score = (*score - most).exp());
                let sum: f32 = scores.iter().sum();
                output.fill(0.0);
                for (position, score) in (begin..end).zip(scores) {
                    let values = &page(position).1[position % PAGE_POSITIONS * width..];
                    for (output, value) in output.iter_mut().zip(values) {
                        *output += score / sum * half::to_f32(*value);
                    }
                }
            }
        });
}
