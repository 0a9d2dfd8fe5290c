//! Rotary position embeddings.

use super::{Cpu, pieces_of_rows};

/// Which numbers of a head are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours, 0 with 1: llama, as GGUF files hold it.
    Interleaved,
    /// The two halves, 0 with `width / 2`: qwen, gemma.
    Halves,
}

/// How positions turn pairs of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    style: RopeStyle,
    /// Radians a position, for each pair.
    frequencies: Vec<f64>,
}

/// The turns of the rows of one batch, for all heads and all layers that share a [`Rope`].
pub struct Angles {
    style: RopeStyle,
    pairs: usize,
    /// Cosines, then sines, of each row.
    turns: Vec<f32>,
}

impl Rope {
    /// Turns `2 * frequencies.len()` numbers, by `frequencies` radians for each position.
    pub fn with_frequencies(style: RopeStyle, frequencies: Vec<f64>) -> Self {
        Self { style, frequencies }
    }

    /// The usual frequencies of heads of `width` numbers: powers of `1 / base`, divided by `scale`.
    pub fn new(style: RopeStyle, width: usize, base: f64, scale: f64) -> Self {
        let frequency = |pair: usize| base.powf(-2.0 * pair as f64 / width as f64) / scale;
        Self::with_frequencies(style, (0..width / 2).map(frequency).collect())
    }

    /// The turns of rows at these positions.
    pub fn angles(&self, positions: &[usize]) -> Angles {
        let mut turns = Vec::with_capacity(positions.len() * self.frequencies.len() * 2);
        for &position in positions {
            let angles = self.frequencies.iter().map(|f| f * position as f64);
            turns.extend(angles.clone().map(|angle| angle.cos() as f32));
            turns.extend(angles.map(|angle| angle.sin() as f32));
        }
        Angles {
            style: self.style,
            pairs: self.frequencies.len(),
            turns,
        }
    }
}

impl Angles {
    /// Turns each head of each row. Numbers of a head beyond those that turn stay as they are.
    pub fn rotate(&self, cpu: &Cpu, rows: &mut [f32], heads: usize, head_width: usize) {
        let width = heads * head_width;
        let turn = match self.style {
            RopeStyle::Interleaved => turn_neighbours,
            RopeStyle::Halves => turn_halves,
        };
        assert_eq!(
            rows.len() / width * 2 * self.pairs,
            self.turns.len(),
            "not the rows of these angles"
        );
        let piece = pieces_of_rows(cpu, rows.len(), width);
        cpu.pool.for_pieces(rows, piece, |number, rows| {
            let first = number * piece / width;
            let turns = self.turns.chunks_exact(2 * self.pairs).skip(first);
            for (row, turns) in rows.chunks_exact_mut(width).zip(turns) {
                let (cosines, sines) = turns.split_at(self.pairs);
                for head in row.chunks_exact_mut(head_width) {
                    turn(&mut head[..2 * self.pairs], cosines, sines);
                }
            }
        });
    }
}

#[inline]
fn turn_neighbours(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    for ((pair, cos), sin) in head.chunks_exact_mut(2).zip(cosines).zip(sines) {
        let (x, y) = (pair[0], pair[1]);
        pair[0] = x * cos - y * sin;
        pair[1] = x * sin + y * cos;
    }
}

#[inline]
fn turn_halves(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (first, second) = head.split_at_mut(cosines.len());
    let turns = cosines.iter().zip(sines);
    for ((first, second), (cos, sin)) in first.iter_mut().zip(second).zip(turns) {
        let (x, y) = (*first, *second);
        *first = x * cos - y * sin;
        *second = x * sin + y * cos;
    }
}
