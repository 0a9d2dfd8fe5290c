//! The forward pass against its definition, for every architecture, and against itself: alone and
//! in a batch, in one portion and in several.

use super::*;
use crate::scheduler::Model as _;
use crate::testing::gguf_writer::{self as writer, F32, GgufWriter, Q4_0, Q4_1, Q8_0, llama};
use crate::testing::{model, try_model};

mod reference;

use reference::Reference;

const PROMPT: [u32; 9] = [5, 200, 7, 7, 31, 99, 0, 150, 42];
const PAGES: usize = 64;
const NAMES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

fn load(file: &GgufWriter) -> Model {
    model(file, 1, PAGES)
}

fn refusal(change: impl FnOnce(&mut GgufWriter)) -> String {
    refusal_of("llama", change)
}

fn refusal_of(architecture: &str, change: impl FnOnce(&mut GgufWriter)) -> String {
    let mut file = writer::model(architecture, F32);
    change(&mut file);
    let error = try_model(&file, 1, PAGES).err().expect("must be refused");
    format!("{error:#}")
}

/// Logits after all of these tokens, read in portions of the given length, on these pages.
fn logits_on(model: &mut Model, tokens: &[u32], portion: usize, pages: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    for (number, tokens) in tokens.chunks(portion).enumerate() {
        let span = Span {
            sequence: 0,
            tokens,
            start: number * portion,
            pages,
            wants_logits: true,
        };
        model.forward(&[span], &mut logits).unwrap();
    }
    logits
}

fn logits(model: &mut Model, tokens: &[u32], portion: usize) -> Vec<f32> {
    logits_on(model, tokens, portion, &[3, 1, 4, 2, 5, 0])
}

/// Keys and values are kept in half precision, which is as far as the two may be apart.
fn assert_close(ours: &[f32], expected: &[f64]) {
    assert_eq!(ours.len(), expected.len());
    let size = expected
        .iter()
        .fold(0.0_f64, |size, logit| size.max(logit.abs()));
    for (at, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*ours) - expected).abs() < 2e-3 * size,
            "logit {at}: {ours}, not {expected}"
        );
    }
}

#[test]
fn logits_are_those_of_the_definition() {
    for name in NAMES {
        let file = writer::model(name, F32);
        let expected = Reference::new(&file).logits(&PROMPT);
        let mut model = load(&file);
        for portion in [PROMPT.len(), 1, 2, 4] {
            assert_close(&logits(&mut model, &PROMPT, portion), &expected);
        }
    }
}

/// Without it, the test above would pass for a model that ignores the rows of its table.
#[test]
fn architectures_differ_where_they_say_so() {
    let all: Vec<_> = NAMES
        .iter()
        .map(|name| logits(&mut load(&writer::model(name, F32)), &PROMPT, 9))
        .collect();
    for (at, ours) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|others| others != ours), "{at}");
    }
}

#[test]
fn biases_count_wherever_a_llama_has_them() {
    let mut file = llama(F32);
    let mut noise = writer::Noise(7);
    for block in 0..writer::BLOCKS {
        for (part, length) in [
            ("attn_q", writer::HEADS * writer::HEAD_WIDTH),
            ("attn_k", writer::KEY_HEADS * writer::HEAD_WIDTH),
            ("attn_v", writer::KEY_HEADS * writer::HEAD_WIDTH),
            ("attn_output", writer::WIDTH),
        ] {
            let numbers = (0..length)
                .flat_map(|_| noise.unit().to_le_bytes())
                .collect();
            file.tensor(&format!("blk.{block}.{part}.bias"), &[length], F32, numbers);
        }
    }
    let expected = Reference::new(&file).logits(&PROMPT);
    assert_close(&logits(&mut load(&file), &PROMPT, 4), &expected);
}

#[test]
fn a_model_without_an_output_matrix_uses_its_embedding() {
    let mut file = llama(F32);
    file.tensors.retain(|tensor| tensor.name != "output.weight");
    let expected = Reference::new(&file).logits(&PROMPT);
    assert_close(&logits(&mut load(&file), &PROMPT, PROMPT.len()), &expected);
}

#[test]
fn stretched_positions_are_followed_however_they_are_said() {
    let mut scaled = llama(F32);
    scaled
        .text("llama.rope.scaling.type", "linear")
        .f32("llama.rope.scaling.factor", 4.0);
    let mut without_type = llama(F32);
    without_type.f32("llama.rope.scaling.factor", 4.0);
    let mut old = llama(F32);
    old.f32("llama.rope.scale_linear", 4.0);
    for file in [&mut scaled, &mut without_type, &mut old] {
        let factors: Vec<f32> = (0..writer::HEAD_WIDTH / 2)
            .map(|at| 1.0 + at as f32)
            .collect();
        let bytes = factors
            .iter()
            .flat_map(|factor| factor.to_le_bytes())
            .collect();
        file.tensor("rope_freqs.weight", &[writer::HEAD_WIDTH / 2], F32, bytes);
        let reference = Reference {
            rope_scale: 4.0,
            rope_factors: factors.iter().map(|&factor| f64::from(factor)).collect(),
            ..Reference::new(file)
        };
        assert_close(
            &logits(&mut load(file), &PROMPT, 4),
            &reference.logits(&PROMPT),
        );
    }
    let mut none = llama(F32);
    none.text("llama.rope.scaling.type", "none")
        .f32("llama.rope.scaling.factor", 4.0);
    let plain = logits(&mut load(&llama(F32)), &PROMPT, 4);
    assert_eq!(logits(&mut load(&none), &PROMPT, 4), plain);
}

#[test]
fn stretching_leaves_local_blocks_alone() {
    let mut file = writer::model("gemma3", F32);
    file.f32("gemma3.rope.scaling.factor", 8.0);
    let reference = Reference {
        rope_scale: 8.0,
        ..Reference::new(&file)
    };
    assert_close(
        &logits(&mut load(&file), &PROMPT, 4),
        &reference.logits(&PROMPT),
    );
}

#[test]
fn a_sequence_gets_the_same_bits_alone_and_in_any_company() {
    for kind in [F32, Q8_0, Q4_0, Q4_1] {
        for name in NAMES {
            company(&writer::model(name, kind), kind);
        }
    }
}

fn company(file: &GgufWriter, kind: u32) {
    let mut model = load(file);
    let tokens = |number: usize| -> Vec<u32> {
        (0..12 + number * 7)
            .map(|at| (at * 31 + number) as u32 % 268)
            .collect()
    };
    let sequences: Vec<_> = (0..6).map(tokens).collect();
    let pages = |number: usize| [number as u32 * 2 + 20, number as u32 * 2 + 21];
    let alone: Vec<_> = sequences
        .iter()
        .map(|tokens| logits_on(&mut model, tokens, tokens.len(), &[7, 8]))
        .collect();
    // The first tokens of each one by one or in two portions; the last ones of all together.
    let mut together = Vec::new();
    for (number, tokens) in sequences.iter().enumerate() {
        let before = tokens.len() - 1 - number % 3 * 4;
        let portion = if number.is_multiple_of(2) { 1 } else { before };
        let _ = logits_on(&mut model, &tokens[..before], portion, &pages(number));
        together.push((before, pages(number)));
    }
    let spans: Vec<_> = together
        .iter()
        .zip(&sequences)
        .map(|((before, pages), tokens)| Span {
            sequence: 0,
            tokens: &tokens[*before..],
            start: *before,
            pages,
            wants_logits: true,
        })
        .collect();
    let mut beside = Vec::new();
    model.forward(&spans, &mut beside).unwrap();
    for (number, (ours, expected)) in beside.chunks(268).zip(&alone).enumerate() {
        let same = ours
            .iter()
            .zip(expected)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "type {kind}, sequence {number}");
    }
}

#[test]
fn a_batch_that_failed_can_be_tried_again() {
    let mut model = load(&llama(Q8_0));
    let expected = logits(&mut model, &PROMPT, 9);
    let _ = logits_on(&mut model, &PROMPT[..8], 8, &[9]);
    let span = |tokens| Span {
        sequence: 0,
        tokens,
        start: 8,
        pages: &[9],
        wants_logits: true,
    };
    let mut again = Vec::new();
    assert!(model.forward(&[span(&[9999])], &mut again).is_err());
    model.forward(&[span(&PROMPT[8..])], &mut again).unwrap();
    assert_eq!(again, expected);
}

#[test]
fn models_that_it_cannot_run_are_refused_with_the_cause() {
    let text = refusal(|file| {
        file.text("general.architecture", "mamba");
    });
    assert_eq!(
        text,
        "unsupported architecture `mamba`: this worker runs llama, qwen2, qwen3, gemma3"
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
    let text = refusal(|file| {
        file.u32("llama.attention.sliding_window", 100);
    });
    assert!(text.contains("sliding_window` is 100"), "{text}");
    let text = refusal_of("gemma3", |file| {
        file.remove("gemma3.attention.sliding_window");
    });
    assert!(text.contains("gemma3 without"), "{text}");
    let text = refusal(|file| {
        file.text("general.type", "adapter");
    });
    assert!(text.contains("`adapter`"), "{text}");
}

#[test]
fn what_would_change_the_text_is_refused_by_name() {
    for (key, neutral, changed) in [
        ("logit_scale", 1.0, 0.25),
        ("attention.scale", 0.0, 0.1),
        ("attn_logit_softcapping", 0.0, 50.0),
        ("final_logit_softcapping", 0.0, 30.0),
        ("rope.scaling.attn_factor", 1.0, 1.2),
    ] {
        let mut file = llama(F32);
        file.f32(&format!("llama.{key}"), neutral);
        assert!(try_model(&file, 1, PAGES).is_ok(), "{key}");
        let text = refusal(|file| {
            file.f32(&format!("llama.{key}"), changed);
        });
        assert!(
            text.contains(&format!("`llama.{key}` is {changed}")),
            "{text}"
        );
    }
    let text = refusal(|file| {
        file.u32("llama.new_fangled_option", 1);
    });
    assert!(text.contains("`llama.new_fangled_option` is 1"), "{text}");
    let mut file = llama(F32);
    file.u32("llama.vocab_size", 268)
        .u32("general.file_type", 7)
        .u32("qwen2.logit_scale", 7);
    assert!(try_model(&file, 1, PAGES).is_ok());
}

#[test]
fn a_tensor_without_a_use_and_one_that_lacks_are_refused_by_name() {
    for (architecture, tensor) in [
        ("llama", "blk.1.attn_q_norm.weight"),
        ("llama", "blk.2.attn_norm.weight"),
        ("llama", "blk.0.ffn_gate.bias"),
        ("llama", "rope_factors_long.weight"),
        ("qwen2", "rope_freqs.weight"),
        ("qwen3", "blk.0.attn_q.bias"),
        ("gemma3", "blk.0.attn_output.bias"),
    ] {
        let text = refusal_of(architecture, |file| {
            file.tensor(tensor, &[1], F32, vec![0; 4]);
        });
        assert!(
            text.contains(&format!("tensor `{tensor}` has no use")),
            "{text}"
        );
    }
    for (architecture, tensor) in [
        ("qwen2", "blk.1.attn_k.bias"),
        ("qwen3", "blk.1.attn_k_norm.weight"),
        ("gemma3", "blk.0.post_ffw_norm.weight"),
        ("llama", "output_norm.weight"),
    ] {
        let text = refusal_of(architecture, |file| {
            file.tensors.retain(|other| other.name != tensor);
        });
        assert_eq!(text, format!("tensor `{tensor}` is missing"));
    }
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

#[test]
fn a_list_of_equal_numbers_is_as_good_as_one() {
    let mut file = llama(F32);
    file.i32s("llama.attention.head_count_kv", &[2, 2]);
    assert!(try_model(&file, 1, PAGES).is_ok());
    let text = refusal(|file| {
        file.i32s("llama.attention.head_count_kv", &[2, 1]);
    });
    assert!(text.contains("differs from block to block"), "{text}");
}
