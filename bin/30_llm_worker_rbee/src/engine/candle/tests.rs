//! The forward pass against itself: alone and in a batch, in one portion and in several.

use super::*;
use crate::engine::testing::gguf_writer::{
    self as writer, F32, GgufWriter, Q4_0, Q4_1, Q8_0, llama,
};
use crate::engine::testing::open;

fn load(file: &GgufWriter) -> Llama {
    Llama::load(&mut open(file), &Device::Cpu, 1).expect("the model is sound")
}

fn refusal(change: impl FnOnce(&mut GgufWriter)) -> String {
    let mut file = llama(F32);
    change(&mut file);
    let error = Llama::load(&mut open(&file), &Device::Cpu, 1)
        .err()
        .expect("must be refused");
    format!("{error:#}")
}

/// Logits after all of these tokens, read in portions of the given length.
fn logits(model: &Llama, tokens: &[u32], portion: usize) -> Vec<f32> {
    let mut cache = model.new_cache();
    let mut last = None;
    for tokens in tokens.chunks(portion) {
        last = model.prefill(tokens, &mut cache, true).unwrap();
    }
    last.unwrap()
}

fn assert_close(ours: &[f32], expected: &[f64]) {
    assert_eq!(ours.len(), expected.len());
    for (at, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*ours) - expected).abs() < 1e-3,
            "logit {at}: {ours}, not {expected}"
        );
    }
}

const PROMPT: [u32; 9] = [5, 200, 7, 7, 31, 99, 0, 150, 42];

/// The forward pass as its definition has it: plain loops over all positions, nothing kept.
struct Reference<'a> {
    file: &'a GgufWriter,
    rope_scale: f64,
    rope_factors: Vec<f64>,
}

impl<'a> Reference<'a> {
    fn new(file: &'a GgufWriter) -> Self {
        Self {
            file,
            rope_scale: 1.0,
            rope_factors: vec![1.0; writer::HEAD_WIDTH as usize / 2],
        }
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

    fn logits(&self, tokens: &[u32]) -> Vec<f64> {
        let width = writer::WIDTH as usize;
        let embedding = self.tensor("token_embd.weight").unwrap();
        let row = |&token: &u32| embedding[token as usize * width..][..width].to_vec();
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
            hidden
                .iter()
                .map(|state| times(&weight, &norm(state, &before)))
                .collect()
        };
        let (mut queries, mut keys, values) =
            (project("attn_q"), project("attn_k"), project("attn_v"));
        for (position, (query, key)) in queries.iter_mut().zip(&mut keys).enumerate() {
            self.rotate(query, position);
            self.rotate(key, position);
        }
        let output = self.weight(block, "attn_output");
        for (position, state) in hidden.iter_mut().enumerate() {
            let mut attended = Vec::new();
            for head in 0..heads {
                let part = |rows: &[Vec<f64>], at: usize, head: usize| {
                    rows[at][head * width..][..width].to_vec()
                };
                let query = part(&queries, position, head);
                let scores: Vec<f64> = (0..=position)
                    .map(|past| {
                        dot(&query, &part(&keys, past, head / group)) / (width as f64).sqrt()
                    })
                    .map(f64::exp)
                    .collect();
                let sum: f64 = scores.iter().sum();
                attended.extend((0..width).map(|at| {
                    let weighted = scores.iter().enumerate();
                    weighted
                        .map(|(past, score)| score / sum * values[past][head / group * width + at])
                        .sum::<f64>()
                }));
            }
            add(state, &times(&output, &attended));
        }
        for state in hidden {
            let normed = norm(state, &self.weight(block, "ffn_norm"));
            let gate = times(&self.weight(block, "ffn_gate"), &normed);
            let up = times(&self.weight(block, "ffn_up"), &normed);
            let gated: Vec<_> = gate
                .iter()
                .zip(&up)
                .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
                .collect();
            add(state, &times(&self.weight(block, "ffn_down"), &gated));
        }
    }

    /// Turns neighbouring pairs, which is how llama files are laid out.
    fn rotate(&self, heads: &mut [f64], position: usize) {
        let width = writer::HEAD_WIDTH as usize;
        for head in heads.chunks_mut(width) {
            for pair in 0..width / 2 {
                let turn = 10_000_f64.powf(-2.0 * pair as f64 / width as f64);
                let angle = position as f64 * turn / self.rope_scale / self.rope_factors[pair];
                let (x, y) = (head[2 * pair], head[2 * pair + 1]);
                head[2 * pair] = x * angle.cos() - y * angle.sin();
                head[2 * pair + 1] = x * angle.sin() + y * angle.cos();
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

#[test]
fn logits_are_those_of_the_definition() {
    let file = llama(F32);
    let expected = Reference::new(&file).logits(&PROMPT);
    let model = load(&file);
    assert_close(&logits(&model, &PROMPT, PROMPT.len()), &expected);
    for portion in [1, 2, 4] {
        assert_close(&logits(&model, &PROMPT, portion), &expected);
    }
}

#[test]
fn a_model_without_an_output_matrix_uses_its_embedding() {
    let mut file = llama(F32);
    file.tensors.retain(|tensor| tensor.name != "output.weight");
    let expected = Reference::new(&file).logits(&PROMPT);
    assert_close(&logits(&load(&file), &PROMPT, PROMPT.len()), &expected);
}

#[test]
fn stretched_positions_are_followed() {
    let mut file = llama(F32);
    file.text("llama.rope.scaling.type", "linear")
        .f32("llama.rope.scaling.factor", 4.0);
    let factors: Vec<f32> = (0..writer::HEAD_WIDTH / 2)
        .map(|at| 1.0 + at as f32)
        .collect();
    let bytes = factors
        .iter()
        .flat_map(|factor| factor.to_le_bytes())
        .collect();
    file.tensor("rope_freqs.weight", &[writer::HEAD_WIDTH / 2], F32, bytes);
    let reference = Reference {
        file: &file,
        rope_scale: 4.0,
        rope_factors: factors.iter().map(|&factor| f64::from(factor)).collect(),
    };
    assert_close(
        &logits(&load(&file), &PROMPT, 4),
        &reference.logits(&PROMPT),
    );
}

#[test]
fn a_sequence_gets_the_same_bits_alone_and_beside_others() {
    for kind in [F32, Q8_0, Q4_0, Q4_1] {
        let model = load(&llama(kind));
        let prompts: Vec<Vec<u32>> = (0..8)
            .map(|number| PROMPT[..=number % 9].to_vec())
            .collect();
        let start = |prompt: &Vec<u32>| {
            let mut cache = model.new_cache();
            model.prefill(prompt, &mut cache, false).unwrap();
            cache
        };
        let mut alone: Vec<_> = prompts.iter().map(start).collect();
        let mut beside: Vec<_> = prompts.iter().map(start).collect();
        let mut tokens: Vec<u32> = (60..68).collect();
        for step in 0..5 {
            let expected: Vec<_> = alone
                .iter_mut()
                .zip(&tokens)
                .map(|(cache, &token)| model.decode(&[token], &mut [cache]).unwrap().remove(0))
                .collect();
            let mut caches: Vec<_> = beside.iter_mut().collect();
            let together = model.decode(&tokens, &mut caches).unwrap();
            for (number, (ours, expected)) in together.iter().zip(&expected).enumerate() {
                let same = ours
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "type {kind}, step {step}, sequence {number}");
            }
            tokens
                .iter_mut()
                .for_each(|token| *token = (*token * 7 + 3) % 268);
        }
    }
}

#[test]
fn cutting_matrices_changes_nothing() {
    for kind in [Q8_0, Q4_1] {
        let file = llama(kind);
        let whole = load(&file);
        let cut = Llama::load(&mut open(&file), &Device::Cpu, 3).unwrap();
        assert_eq!(logits(&whole, &PROMPT, 4), logits(&cut, &PROMPT, 4));
    }
}

#[test]
fn a_long_text_outgrows_its_first_room_unharmed() {
    let file = llama(F32);
    let tokens: Vec<u32> = (0..150).map(|at| at * 31 % 268).collect();
    let expected = Reference::new(&file).logits(&tokens);
    assert_close(&logits(&load(&file), &tokens, 16), &expected);
}

#[test]
fn a_batch_that_failed_can_be_tried_again() {
    let model = load(&llama(Q8_0));
    let mut cache = model.new_cache();
    model.prefill(&PROMPT, &mut cache, false).unwrap();
    assert!(model.decode(&[9999], &mut [&mut cache]).is_err());
    let mut fresh = model.new_cache();
    model.prefill(&PROMPT, &mut fresh, false).unwrap();
    let again = model.decode(&[8], &mut [&mut cache]).unwrap();
    assert_eq!(again, model.decode(&[8], &mut [&mut fresh]).unwrap());
}

#[test]
fn models_that_it_cannot_run_are_refused_with_the_cause() {
    let text = refusal(|file| {
        file.text("general.architecture", "mamba");
    });
    assert_eq!(
        text,
        "unsupported architecture `mamba`: this worker runs llama"
    );
    let text = refusal(|file| {
        file.u32("llama.expert_count", 8);
    });
    assert!(text.contains("8 experts"), "{text}");
    let text = refusal(|file| {
        file.text("llama.rope.scaling.type", "yarn");
    });
    assert!(text.contains("`yarn`"), "{text}");
    let text = refusal(|file| {
        file.u32("llama.attention.head_count_kv", 3);
    });
    assert!(text.contains("4 attention heads don't share 3"), "{text}");
    let text = refusal(|file| {
        file.u32("llama.rope.dimension_count", 4);
    });
    assert!(text.contains("rope.dimension_count` is 4"), "{text}");
}

#[test]
fn damaged_dimensions_are_refused_with_the_cause() {
    for key in [
        "block_count",
        "context_length",
        "embedding_length",
        "attention.head_count",
    ] {
        for value in [0, u32::MAX] {
            let text = refusal(|file| {
                file.u32(&format!("llama.{key}"), value);
            });
            assert!(
                text.contains(&format!("`llama.{key}` is {value}")),
                "{text}"
            );
        }
        let text = refusal(|file| {
            file.remove(&format!("llama.{key}"));
        });
        assert!(text.contains("is missing"), "{text}");
    }
    let text = refusal(|file| {
        file.u32("llama.block_count", 3);
    });
    assert_eq!(text, "tensor `blk.2.attn_norm.weight` is missing");
    let text = refusal(|file| {
        file.u32("llama.feed_forward_length", 128);
    });
    assert!(
        text.contains("has the shape [96, 64], the metadata asks for [128, 64]"),
        "{text}"
    );
}
