//! What the engine makes of the embedded model, word for word: the greedy answers that llama.cpp
//! gives, too. Each is written down with the number of tokens of prompt and answer.
//!
//! A change of kernel, tokenizer or sampler that alters one of these is wrong until shown otherwise:
//! between the best token and the next there is a wide margin at every step.

use std::path::PathBuf;

use llm_engine::{
    Backend, Completion, Engine, FinishReason, GenerationEvent, GenerationRequest, LoadOptions,
    LoadedEngine, load,
};

/// A greedy answer that ends by itself.
struct Golden {
    prompt: &'static str,
    prompt_tokens: u32,
    answer: &'static str,
    /// Without the end token.
    tokens: u32,
}

const GOLDEN: &[Golden] = &[
    Golden {
        prompt: "Hello, how are you?",
        prompt_tokens: 8,
        answer: " I am fine, thank you! How can I help you?",
        tokens: 15,
    },
    Golden {
        prompt: "The capital of France is",
        prompt_tokens: 5,
        answer: " Paris.",
        tokens: 2,
    },
    Golden {
        prompt: "What is the capital of France?",
        prompt_tokens: 7,
        answer: " The capital of France is Paris.",
        tokens: 7,
    },
    Golden {
        prompt: "What is your name?",
        prompt_tokens: 7,
        answer: " I am Tiny, a very small language model.",
        tokens: 15,
    },
    Golden {
        prompt: "1, 2, 3,",
        prompt_tokens: 8,
        answer: " 4, 5, 6, 7, 8, 9, 10.",
        tokens: 22,
    },
    Golden {
        prompt: "A smiling face:",
        prompt_tokens: 7,
        answer: " 🙂",
        tokens: 3,
    },
    Golden {
        prompt: "The Japanese word for Japan is",
        prompt_tokens: 6,
        answer: " 日本.",
        tokens: 8,
    },
    Golden {
        prompt: "Tell me a joke.",
        prompt_tokens: 8,
        answer: " Why was the computer cold? It had left its windows open.",
        tokens: 22,
    },
    Golden {
        prompt: "Show me some symbols:",
        prompt_tokens: 12,
        answer: " 🙂 😂 😢 💗 🐱 🐶 🦊 🐟 🌳 🌸 ⭐ 🌞 🌙 🌈 🍎 🎂 🚀 🏠 📖 🐝",
        tokens: 61,
    },
    Golden {
        prompt: "Once upon a time",
        prompt_tokens: 4,
        answer: STORY,
        tokens: 156,
    },
];

const STORY: &str = "\
    , there was a little fox named Finn. Finn lived at the edge of a green forest. Every \
    morning, Finn went for a walk and greeted the sun. One day, Finn found a golden key \
    lying in the grass. \"Whose golden key is this?\" said Finn. \"I will find out.\" On the \
    way, Finn met an owl. The owl was very sad. \"I have lost my golden key,\" said the owl. \
    \"Look, here it is!\" said Finn, and gave the golden key back. The owl was so happy that \
    they played in the meadow together until the sun went down. In the evening, the stars \
    came out, and everybody went home happy. From that day on, Finn and the owl were the \
    best of friends. The end.";

fn engine(ctx_size: Option<u32>) -> LoadedEngine {
    let model_path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.test-models/tiny/tiny.gguf");
    load(&LoadOptions {
        model_path,
        backend: Backend::Cpu,
        device: 0,
        ctx_size,
        max_queue: 16,
        kernels: None,
        threads: Some(1),
    })
    .expect("the embedded model loads")
}

fn greedy(prompt: &str, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.into(),
        max_tokens,
        ..GenerationRequest::default()
    }
}

/// The texts of the tokens, and the last word.
fn run(engine: &LoadedEngine, request: GenerationRequest) -> (Vec<String>, Completion) {
    let mut generation = engine.submit(request).expect("the request is taken");
    let mut texts = Vec::new();
    loop {
        match generation.events.blocking_recv() {
            Some(GenerationEvent::Token { index, text, .. }) => {
                assert_eq!(index as usize, texts.len());
                texts.push(text);
            }
            Some(GenerationEvent::Finished(completion)) => return (texts, completion),
            other => panic!("generation ended with {other:?}"),
        }
    }
}

#[test]
fn greedy_answers_are_the_golden_ones() {
    let engine = engine(None);
    for golden in GOLDEN {
        let (texts, completion) = run(&engine, greedy(golden.prompt, 400));
        let prompt = golden.prompt;
        assert_eq!(texts.concat(), golden.answer, "after {prompt:?}");
        assert_eq!(
            completion.prompt_tokens, golden.prompt_tokens,
            "in {prompt:?}"
        );
        assert_eq!(
            completion.completion_tokens, golden.tokens,
            "after {prompt:?}"
        );
        assert_eq!(
            completion.finish_reason,
            FinishReason::Stop,
            "after {prompt:?}"
        );
    }
}

#[test]
fn counting_without_end_fills_the_context() {
    let engine = engine(Some(256));
    let prompt_tokens = 7;
    let room = 256 - prompt_tokens;
    let (texts, completion) = run(&engine, greedy("Count without end:", room));
    assert_eq!(completion.prompt_tokens, prompt_tokens);
    assert_eq!(completion.completion_tokens, room);
    assert_eq!(completion.finish_reason, FinishReason::Length);
    let right: String = (1..199).map(|number| format!(" {number},")).collect();
    let counted = texts.concat();
    assert!(right.starts_with(&counted), "counted{counted}");
}

#[test]
fn sampling_varies_the_story_and_a_seed_repeats_it() {
    let engine = engine(None);
    let told = |seed| {
        let request = GenerationRequest {
            temperature: 1.0,
            seed: Some(seed),
            ..greedy("Once upon a time", 40)
        };
        run(&engine, request).0.concat()
    };
    let stories: Vec<String> = (0..4).map(told).collect();
    assert!(
        stories.iter().any(|story| *story != stories[0]),
        "{stories:?}"
    );
    assert_eq!(told(3), stories[3]);
}
