//! The forward pass as its definition has it: plain loops over all positions, nothing kept.

use crate::testing::gguf_writer::{self as writer, GgufWriter};

/// A file, and how its positions are stretched.
pub struct Reference<'a> {
    pub file: &'a GgufWriter,
    pub architecture: String,
    pub rope_scale: f64,
    pub rope_factors: Vec<f64>,
}

impl<'a> Reference<'a> {
    pub fn new(file: &'a GgufWriter) -> Self {
        let (_, value) = file
            .entries
            .iter()
            .find(|(key, _)| key == "general.architecture")
            .unwrap();
        // Behind a type and a length.
        let architecture = String::from_utf8(value[12..].to_vec()).unwrap();
        Self {
            file,
            architecture,
            rope_scale: 1.0,
            rope_factors: vec![1.0; writer::HEAD_WIDTH as usize / 2],
        }
    }

    fn is_gemma(&self) -> bool {
        self.architecture == "gemma3"
    }

    /// In gemma every second block looks back all the way.
    fn is_local(&self, block: u64) -> bool {
        self.is_gemma() && block.is_multiple_of(2)
    }
    fn tensor(&self, name: &str) -> Option<Vec<f64>> {
        let tensor = self
            .file
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)?;
        let numbers = tensor
            .data
            .chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        Some(numbers.map(f64::from).collect())
    }

    fn weight(&self, block: u64, part: &str) -> Vec<f64> {
        self.tensor(&format!("blk.{block}.{part}.weight")).unwrap()
    }

    /// The logits after all of these tokens.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let width = writer::WIDTH as usize;
        let embedding = self.tensor("token_embd.weight").unwrap();
        let scale = if self.is_gemma() {
            (width as f64).sqrt()
        } else {
            1.0
        };
        let row = |&token: &u32| -> Vec<f64> {
            let row = &embedding[token as usize * width..][..width];
            row.iter().map(|number| number * scale).collect()
        };
        let mut hidden: Vec<Vec<f64>> = tokens.iter().map(row).collect();
        for block in 0..writer::BLOCKS {
            self.block(block, &mut hidden);
        }
        let normed = norm(
            hidden.last().unwrap(),
            &self.tensor("output_norm.weight").unwrap(),
        );
        times(&self.tensor("output.weight").unwrap_or(embedding), &normed)
    }

    fn block(&self, block: u64, hidden: &mut [Vec<f64>]) {
        let (heads, width) = (writer::HEADS as usize, writer::HEAD_WIDTH as usize);
        let group = heads / writer::KEY_HEADS as usize;
        let project = |part: &str| -> Vec<Vec<f64>> {
            let (weight, before) = (self.weight(block, part), self.weight(block, "attn_norm"));
            let bias = self.tensor(&format!("blk.{block}.{part}.bias"));
            let head_norm = self.tensor(&format!("blk.{block}.{part}_norm.weight"));
            hidden
                .iter()
                .map(|state| {
                    let mut row = times(&weight, &norm(state, &before));
                    if let Some(bias) = &bias {
                        add(&mut row, bias);
                    }
                    match &head_norm {
                        Some(weight) => row
                            .chunks(width)
                            .flat_map(|head| norm(head, weight))
                            .collect(),
                        None => row,
                    }
                })
                .collect()
        };
        let (mut queries, mut keys, values) =
            (project("attn_q"), project("attn_k"), project("attn_v"));
        for (position, (query, key)) in queries.iter_mut().zip(&mut keys).enumerate() {
            self.rotate(query, position, block);
            self.rotate(key, position, block);
        }
        let output = self.weight(block, "attn_output");
        let output_bias = self.tensor(&format!("blk.{block}.attn_output.bias"));
        for (position, state) in hidden.iter_mut().enumerate() {
            let mut attended = Vec::new();
            for head in 0..heads {
                let part = |rows: &[Vec<f64>], at: usize, head: usize| {
                    rows[at][head * width..][..width].to_vec()
                };
                let query = part(&queries, position, head);
                let first = match self.is_local(block) {
                    true => (position + 1).saturating_sub(writer::WINDOW as usize),
                    false => 0,
                };
                let scores: Vec<f64> = (first..=position)
                    .map(|past| {
                        dot(&query, &part(&keys, past, head / group)) / (width as f64).sqrt()
                    })
                    .map(f64::exp)
                    .collect();
                let sum: f64 = scores.iter().sum();
                attended.extend((0..width).map(|at| {
                    let weighted = (first..).zip(&scores);
                    weighted
                        .map(|(past, score)| score / sum * values[past][head / group * width + at])
                        .sum::<f64>()
                }));
            }
            let mut change = times(&output, &attended);
            if let Some(bias) = &output_bias {
                add(&mut change, bias);
            }
            add(state, &self.normed(block, "post_attention_norm", change));
        }
        for state in hidden {
            let normed = norm(state, &self.weight(block, "ffn_norm"));
            let gate = times(&self.weight(block, "ffn_gate"), &normed);
            let up = times(&self.weight(block, "ffn_up"), &normed);
            let gated: Vec<_> = gate
                .iter()
                .zip(&up)
                .map(|(gate, up)| self.activate(*gate) * up)
                .collect();
            let change = times(&self.weight(block, "ffn_down"), &gated);
            add(state, &self.normed(block, "post_ffw_norm", change));
        }
    }

    /// Where the file has such a norm.
    fn normed(&self, block: u64, part: &str, change: Vec<f64>) -> Vec<f64> {
        match self.tensor(&format!("blk.{block}.{part}.weight")) {
            Some(weight) => norm(&change, &weight),
            None => change,
        }
    }

    fn activate(&self, x: f64) -> f64 {
        match self.is_gemma() {
            true => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())
            }
            false => x / (1.0 + (-x).exp()),
        }
    }

    /// Llama turns neighbouring pairs, the others the first half with the second.
    fn rotate(&self, heads: &mut [f64], position: usize, block: u64) {
        let width = writer::HEAD_WIDTH as usize;
        let (base, scale): (f64, f64) = match self.is_local(block) {
            true => (500.0, 1.0),
            false => (10_000.0, self.rope_scale),
        };
        for head in heads.chunks_mut(width) {
            for pair in 0..width / 2 {
                let turn = base.powf(-2.0 * pair as f64 / width as f64);
                let angle = position as f64 * turn / scale / self.rope_factors[pair];
                let (first, second) = match self.architecture == "llama" {
                    true => (2 * pair, 2 * pair + 1),
                    false => (pair, pair + width / 2),
                };
                let (x, y) = (head[first], head[second]);
                head[first] = x * angle.cos() - y * angle.sin();
                head[second] = x * angle.sin() + y * angle.cos();
            }
        }
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter()
        .zip(right)
        .map(|(left, right)| left * right)
        .sum()
}

fn times(matrix: &[f64], vector: &[f64]) -> Vec<f64> {
    matrix
        .chunks(vector.len())
        .map(|row| dot(row, vector))
        .collect()
}

fn add(state: &mut [f64], change: &[f64]) {
    state
        .iter_mut()
        .zip(change)
        .for_each(|(state, change)| *state += change);
}

fn norm(state: &[f64], weight: &[f64]) -> Vec<f64> {
    let scale = (dot(state, state) / state.len() as f64 + 1e-5).sqrt();
    state
        .iter()
        .zip(weight)
        .map(|(state, weight)| state / scale * weight)
        .collect()
}
