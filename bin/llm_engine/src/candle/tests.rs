//! The forward pass on candle's processor: against the engine that the processor has otherwise, and
//! alone against beside others. Run with `--features candle`.

use super::*;
use crate::testing::gguf_writer::{self as writer, F32, GgufWriter, Q4_0, Q8_0, llama};
use crate::testing::{self, open};

const PROMPT: [u32; 9] = [5, 200, 7, 7, 31, 99, 0, 150, 42];

fn load(file: &GgufWriter) -> OnDevice {
    OnDevice {
        llama: Llama::load(&mut open(file), &Device::Cpu).expect("the model is sound"),
        caches: HashMap::new(),
        context_length: 500,
    }
}

fn span(sequence: u64, tokens: &[u32], start: usize) -> Span<'_> {
    Span {
        sequence,
        tokens,
        start,
        pages: &[3, 1, 2],
        wants_logits: true,
    }
}

fn logits(model: &mut impl Model, spans: &[Span<'_>]) -> Vec<f32> {
    let mut logits = Vec::new();
    model.forward(spans, &mut logits).unwrap();
    logits
}

#[test]
fn it_gives_the_logits_that_the_other_engine_gives() {
    let file = llama(F32);
    let (mut ours, mut other) = (load(&file), testing::model(&file, 1, 8));
    for (tokens, start) in [(&PROMPT[..4], 0), (&PROMPT[4..5], 4), (&PROMPT[5..], 5)] {
        let ours = logits(&mut ours, &[span(0, tokens, start)]);
        let other = logits(&mut other, &[span(0, tokens, start)]);
        let size = other
            .iter()
            .fold(0.0_f32, |size, logit| size.max(logit.abs()));
        for (ours, other) in ours.iter().zip(&other) {
            assert!((ours - other).abs() < 3e-3 * size, "{ours} and {other}");
        }
    }
}

#[test]
fn a_sequence_gets_the_same_bits_alone_and_beside_others() {
    for kind in [Q8_0, Q4_0] {
        let mut model = load(&llama(kind));
        let prompts: Vec<_> = (1..=8).map(|length| &PROMPT[..length]).collect();
        let mut alone = Vec::new();
        for (number, prompt) in (0..).zip(&prompts) {
            logits(&mut model, &[span(number, prompt, 0)]);
            alone.extend(logits(&mut model, &[span(number, &[77], prompt.len())]));
        }
        let spans: Vec<_> = (0..)
            .zip(&prompts)
            .map(|(number, prompt)| span(number, &[77], prompt.len()))
            .collect();
        let beside = logits(&mut model, &spans);
        assert!(
            alone
                .iter()
                .zip(&beside)
                .all(|(a, b)| a.to_bits() == b.to_bits())
        );
    }
}

#[test]
fn a_batch_that_failed_can_be_tried_again() {
    let mut model = load(&llama(Q8_0));
    logits(&mut model, &[span(0, &PROMPT, 0)]);
    let mut nothing = Vec::new();
    assert!(model.forward(&[span(0, &[9999], 9)], &mut nothing).is_err());
    let again = logits(&mut model, &[span(0, &[8], 9)]);
    logits(&mut model, &[span(1, &PROMPT, 0)]);
    assert_eq!(again, logits(&mut model, &[span(1, &[8], 9)]));
    model.forget(0);
    assert_eq!(model.caches.len(), 1);
}

#[test]
fn what_it_does_not_do_is_refused_by_name() {
    let refusal = |file: &GgufWriter| {
        let error = Llama::load(&mut open(file), &Device::Cpu).err();
        format!("{:#}", error.expect("must be refused"))
    };
    let text = refusal(&writer::model("qwen3", F32));
    assert!(text.contains("the architecture qwen3"), "{text}");
    let mut file = llama(F32);
    file.tensor("blk.0.attn_q.bias", &[64], F32, vec![0; 256]);
    assert!(refusal(&file).contains("tensor `blk.0.attn_q.bias`"));
}
