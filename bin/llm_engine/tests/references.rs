//! The engine says what llama.cpp says: the same tokens, and next to the same probabilities.
//!
//! The references in `.test-models/references` tell how they were made. Those of models that are
//! not downloaded on this machine are left out; the committed models are always there.

use std::path::{Path, PathBuf};

use llm_engine::{
    Backend, Engine, GenerationEvent, GenerationRequest, LoadOptions, LoadedEngine, Prompt,
};
use serde::Deserialize;

/// How far half of the log-probabilities may be from the reference's, in nats. The references are
/// computed with 32-bit floats; this engine rounds activations to 8 bits, as other fast ones do.
const MIDDLE_NATS: f32 = 0.08;
/// How far 95 of 100 may be, and every one. A wrong constant or a part left out moves most by more.
const MOST_NATS: f32 = 0.25;
const ALL_NATS: f32 = 0.8;
/// The likeliest token must be the reference's where that is ahead by more than this.
const CLEAR_MARGIN_NATS: f32 = 0.35;
/// Among so many candidates is every token that the references ask about.
const CANDIDATES: usize = 4000;
const SEEDS: u64 = 1000;

#[derive(Deserialize)]
struct Reference {
    model: String,
    file: String,
    passages: Vec<Tokenized>,
    positions: Vec<Position>,
    strings: Vec<Tokenized>,
}

#[derive(Deserialize)]
struct Tokenized {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Position {
    passage: usize,
    /// The prefix in bytes of the passage's text.
    bytes: usize,
    /// The same prefix in tokens.
    tokens: usize,
    next: (u32, f32),
    top: Vec<(u32, f32, Option<String>)>,
    margin: f32,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.test-models")
}

/// All references whose model is on this machine.
fn present() -> Vec<(Reference, LoadedEngine)> {
    let mut found = Vec::new();
    let folder = models().join("references");
    for entry in std::fs::read_dir(&folder).expect("the references are committed") {
        let path = entry.expect("readable").path();
        if path.file_name().is_some_and(|name| name == "blocks.json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        let reference: Reference = serde_json::from_str(&text).expect("as the script writes it");
        let model_path = models().join(&reference.file);
        if !model_path.exists() {
            println!("{} is not on this machine", reference.model);
            continue;
        }
        let engine = llm_engine::load(&LoadOptions {
            model_path,
            backend: Backend::Cpu,
            device: 0,
            threads: None,
            ctx_size: None,
            max_queue: 1,
            kernels: None,
        });
        let engine = engine.unwrap_or_else(|error| panic!("{}: {error:#}", reference.model));
        found.push((reference, engine));
    }
    let names: Vec<_> = found
        .iter()
        .map(|(known, _)| known.model.as_str())
        .collect();
    for committed in [
        "tiny",
        "random-llama",
        "random-qwen2",
        "random-qwen3",
        "random-gemma3",
    ] {
        assert!(
            names.contains(&committed),
            "{committed} is not among {names:?}"
        );
    }
    found
}

/// What the model gives the likeliest tokens after a prompt, best first. Where it would end the text
/// there is no event that tells them, so that another token is drawn: the probabilities are the
/// model's own whatever is chosen.
fn next_tokens(engine: &LoadedEngine, prompt: &[u32]) -> Vec<(u32, f32)> {
    (0..SEEDS)
        .find_map(|seed| token_event(engine, prompt, seed))
        .expect("one of the seeds draws a token that doesn't end the text")
}

fn token_event(engine: &LoadedEngine, prompt: &[u32], seed: u64) -> Option<Vec<(u32, f32)>> {
    let mut generation = engine
        .submit(GenerationRequest {
            prompt: Prompt::Tokens(prompt.to_vec()),
            max_tokens: 1,
            temperature: 2.0,
            seed: Some(seed),
            top_logprobs: CANDIDATES,
            ..GenerationRequest::default()
        })
        .expect("taken");
    match generation.events.blocking_recv() {
        Some(GenerationEvent::Token { top, .. }) => {
            Some(top.iter().map(|top| (top.token, top.logprob)).collect())
        }
        Some(GenerationEvent::Finished(_)) => None,
        other => panic!("no token but {other:?}"),
    }
}

#[test]
fn awkward_strings_have_the_references_tokens() {
    for (reference, engine) in present() {
        for string in reference.strings.iter().chain(&reference.passages) {
            assert_eq!(
                engine.tokenize(&string.text),
                string.ids,
                "{}: {:?}",
                reference.model,
                string.text
            );
        }
        for position in &reference.positions {
            let passage = &reference.passages[position.passage];
            assert_eq!(
                engine.tokenize(&passage.text[..position.bytes]),
                passage.ids[..position.tokens],
                "{}: a prefix of {:?}",
                reference.model,
                passage.text
            );
        }
    }
}

#[test]
fn next_tokens_are_as_likely_as_the_references_are() {
    for (reference, engine) in present() {
        let name = &reference.model;
        assert!(reference.positions.len() >= 100, "{name}");
        let mut off = Vec::new();
        for position in &reference.positions {
            let prefix = &reference.passages[position.passage].ids[..position.tokens];
            let found = next_tokens(&engine, prefix);
            let likeliest = position
                .top
                .iter()
                .map(|&(token, logprob, _)| (token, logprob));
            for (token, expected) in likeliest.chain([position.next]) {
                let place = found.iter().find(|(id, _)| *id == token);
                let logprob = place.map_or(f32::NEG_INFINITY, |(_, logprob)| *logprob);
                off.push((logprob - expected).abs());
            }
            assert!(
                position.margin <= CLEAR_MARGIN_NATS || found[0].0 == position.top[0].0,
                "{name}: passage {}, {} tokens: {} is likeliest, not {} by {} nats",
                position.passage,
                position.tokens,
                found[0].0,
                position.top[0].0,
                position.margin
            );
        }
        off.sort_by(f32::total_cmp);
        let at = |share: f32| off[((off.len() - 1) as f32 * share) as usize];
        let [middle, most, all] = [0.5, 0.95, 1.0].map(at);
        println!("{name}: off by {middle:.3}, 95 % by at most {most:.3}, all by at most {all:.3}");
        assert!(
            middle <= MIDDLE_NATS && most <= MOST_NATS && all <= ALL_NATS,
            "{name}: half of the log-probabilities are off by more than {middle}, 5 % by {most}, one by {all}"
        );
    }
}
