//! Loading a whole file, and what is refused on the way.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::scheduler::{Model as _, Span};
use crate::testing::gguf_writer::{CONTEXT, F32, GgufWriter, Q4_0, llama};
use crate::{FinishReason, GenerationEvent};

/// Loads the bytes and, if that works, makes the model say something. Anything but a panic will do.
fn use_bytes(file: Vec<u8>) -> Result<()> {
    let options = LoadOptions {
        threads: Some(1),
        ctx_size: Some(100),
        ..options(PathBuf::new())
    };
    let loaded = assemble(Gguf::read(Cursor::new(file))?, &options)?;
    let (mut model, tokenizer) = (loaded.model, loaded.tokenizer);
    let tokens = tokenizer.encode("the end");
    let mut logits = Vec::new();
    let span = |tokens, start| Span {
        sequence: 0,
        tokens,
        start,
        pages: &[0],
        wants_logits: true,
    };
    model.forward(&[span(&tokens, 0)], &mut logits)?;
    model.forward(&[span(&tokens[..1], tokens.len())], &mut logits)?;
    Ok(())
}

fn options(model_path: PathBuf) -> LoadOptions {
    LoadOptions {
        model_path,
        backend: Backend::Cpu,
        device: 0,
        threads: Some(2),
        ctx_size: None,
        max_queue: 4,
        kernels: None,
    }
}

fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../.test-models")
        .join(path)
}

/// A file of its own under the target folder, gone when dropped.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let name = format!("llm-worker-rbee-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn refusal(options: &LoadOptions) -> String {
    let text = format!("{:#}", load(options).expect_err("must be refused"));
    assert!(!text.contains('\n'), "{text:?}");
    text
}

fn generate(engine: &LoadedEngine, prompt: &str, max_tokens: u32) -> (String, FinishReason) {
    let request = GenerationRequest {
        prompt: prompt.into(),
        max_tokens,
        ..GenerationRequest::default()
    };
    let mut generation = engine.submit(request).unwrap();
    let mut text = String::new();
    loop {
        match generation.events.blocking_recv().unwrap() {
            GenerationEvent::Token { text: piece, .. } => text.push_str(&piece),
            GenerationEvent::Finished(completion) => return (text, completion.finish_reason),
            GenerationEvent::Failed(message) => panic!("{message}"),
        }
    }
}

#[test]
fn a_sound_file_is_loaded_and_described() {
    let file = TestFile::new("sound", &llama(Q4_0).build());
    let engine = load(&options(file.0.clone())).unwrap();
    let info = engine.info();
    assert_eq!(
        (info.architecture.as_str(), info.quantisation.as_str()),
        ("llama", "Q4_0")
    );
    assert_eq!(
        (info.context_length, info.vocabulary_size),
        (CONTEXT as u32, 268)
    );
    let short = LoadOptions {
        ctx_size: Some(100),
        ..options(file.0.clone())
    };
    assert_eq!(load(&short).unwrap().info().context_length, 100);
    let long = refusal(&LoadOptions {
        ctx_size: Some(513),
        ..options(file.0.clone())
    });
    assert!(
        long.contains("513 tokens is not possible: the model was made for 512"),
        "{long}"
    );
}

#[test]
fn kernels_are_chosen_by_name_and_unknown_ones_are_refused_with_those_that_there_are() {
    let file = TestFile::new("kernels", &llama(Q4_0).build());
    let with = |name: &str| LoadOptions {
        kernels: Some(name.to_owned()),
        ..options(file.0.clone())
    };
    let engine = load(&with("plain code")).unwrap();
    assert_eq!(engine.info().device, "cpu (2 threads, plain code)");
    let unknown = refusal(&with("MMX"));
    assert!(
        unknown.contains("no kernels `MMX`") && unknown.contains("plain code"),
        "{unknown}"
    );
}

#[test]
fn files_that_cannot_be_served_are_refused_with_name_and_cause() {
    let missing = refusal(&options(PathBuf::from("/no/such/model.gguf")));
    assert!(
        missing.starts_with("model `/no/such/model.gguf`: cannot be opened"),
        "{missing}"
    );
    let folder = refusal(&options(std::env::temp_dir()));
    assert!(
        folder.contains("folder") || folder.contains("directory"),
        "{folder}"
    );
    let text = TestFile::new("text", b"Once upon a time");
    assert!(refusal(&options(text.0.clone())).contains("not a GGUF file (it starts with `Once`"));
    let whole = llama(Q4_0).build();
    let cut = TestFile::new("cut", &whole[..whole.len() - 5]);
    let cut = refusal(&options(cut.0.clone()));
    assert!(
        cut.contains("truncated: tensor `output.weight` ends at byte"),
        "{cut}"
    );
    // Each block that is looked for takes memory.
    let mut high = llama(Q4_0);
    high.u32("llama.block_count", 1 << 24);
    let high = TestFile::new("high", &high.build());
    assert!(refusal(&options(high.0.clone())).contains("`llama.block_count` is 16777216"));
    let mut foreign = llama(Q4_0);
    foreign.text("general.architecture", "mamba\nfoo");
    let foreign = TestFile::new("foreign", &foreign.build());
    assert!(
        refusal(&options(foreign.0.clone())).contains(r"unsupported architecture `mamba\nfoo`")
    );
}

#[test]
fn the_embedded_model_says_its_piece() {
    let engine = load(&options(in_repository("tiny/tiny.gguf"))).unwrap();
    let said = generate(&engine, "The capital of France is", 20);
    assert_eq!(said, (" Paris.".to_owned(), FinishReason::Stop));
}

/// Runs where somebody downloaded it; two other engines give these tokens too.
#[test]
fn smollm2_gives_the_tokens_that_other_engines_give() {
    let name = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let Some(path) = find(&in_repository(""), name) else {
        println!("skipped: {name} is not under .test-models");
        return;
    };
    let engine = load(&options(path)).unwrap();
    let mut generation = engine
        .submit(GenerationRequest {
            prompt: "The capital of France is".into(),
            max_tokens: 6,
            top_logprobs: 2,
            ..GenerationRequest::default()
        })
        .unwrap();
    let mut tokens = Vec::new();
    for expected in [7042, 30, 198, 198, 504, 1797] {
        let event = generation.events.blocking_recv();
        let Some(GenerationEvent::Token { chosen, top, .. }) = &event else {
            panic!("{event:?} after {tokens:?}");
        };
        // Engines round differently: where the two likeliest are this close, either is right.
        if top[0].logprob - top[1].logprob < 0.2 {
            assert!(
                top.iter().any(|one| one.token == expected),
                "{top:?} after {tokens:?}"
            );
            break;
        }
        assert_eq!(chosen.token, expected, "{top:?} after {tokens:?}");
        tokens.push(chosen.token);
    }
    assert!(
        tokens.len() >= 5,
        "only {tokens:?} before two tokens were about as likely"
    );
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut paths = entries.flatten().map(|entry| entry.path().join(name));
    paths.find(|path| path.is_file())
}

#[test]
fn a_model_cut_anywhere_is_refused() {
    let file = llama(Q4_0).build();
    let table_ends = file.len()
        - llama(Q4_0)
            .tensors
            .iter()
            .map(|tensor| tensor.data.len())
            .sum::<usize>();
    // Every byte of the tables, and around the borders of the tensors behind them.
    let borders = (table_ends..file.len()).step_by(32);
    for length in (0..table_ends).chain(borders.flat_map(|at| [at - 1, at])) {
        assert!(use_bytes(file[..length].to_vec()).is_err(), "{length}");
    }
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
}

fn compact(kind: u32) -> Vec<u8> {
    let mut file: GgufWriter = llama(kind);
    // Small tensors leave most of the damage to the tables, which is where it is interesting.
    file.tensors.retain(|tensor| tensor.name != "output.weight");
    file.build()
}

proptest! {
    #[test]
    fn fuzzed_bytes_never_panic(damage in damage(), in_tables in any::<bool>()) {
        let mut file = compact(Q4_0);
        let reach = if in_tables { file.len() / 3 } else { file.len() };
        for (at, byte) in damage {
            file[at.index(reach)] ^= byte;
        }
        let _ = use_bytes(file);
    }

    #[test]
    fn fuzzed_numbers_anywhere_never_panic(
        at in any::<prop::sample::Index>(),
        number in prop_oneof![
            Just(u64::MAX), Just(u64::MAX - 7), Just(1 << 63), Just(1 << 40), Just(1 << 32),
            Just(0xFFFF_FFFF), Just(0), 0..200_u64,
        ],
        bytes in prop_oneof![Just(4_usize), Just(8)],
    ) {
        let mut file = compact(F32);
        let at = at.index(file.len() / 4);
        file[at..at + bytes].copy_from_slice(&number.to_le_bytes()[..bytes]);
        let _ = use_bytes(file);
    }
}
