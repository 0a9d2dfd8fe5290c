//! How fast the engine alone is, without HTTP: load time, prefill and decode, and decode with
//! several requests side by side.
//!
//! `cargo run --release -p llm-worker-rbee --example engine_speed -- MODEL.gguf [CONCURRENCY]`

use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use llm_worker_rbee::engine::{
    self, Backend, Completion, Engine, GenerationEvent, GenerationRequest, LoadOptions,
};

const TOKENS: u32 = 128;

fn main() -> Result<()> {
    #[allow(unsafe_code, reason = "the engine explains")]
    // SAFETY: this is the only thread yet.
    unsafe {
        engine::claim_threads();
    }
    let mut arguments = std::env::args().skip(1);
    let model_path = arguments
        .next()
        .context("usage: engine_speed MODEL.gguf [CONCURRENCY]")?;
    let concurrency = arguments
        .next()
        .map_or(Ok(4), |count| count.parse::<usize>())?;
    let started = Instant::now();
    let engine = engine::load(&LoadOptions {
        model_path: model_path.into(),
        backend: Backend::Cpu,
        device: 0,
        threads: None,
        ctx_size: None,
        max_queue: concurrency,
    })?;
    println!("{}", engine.info());
    println!(
        "load      {:7.1} ms",
        started.elapsed().as_secs_f64() * 1000.0
    );

    let (text, _) = generate(&engine, "The capital of France is", 48)?;
    println!("says      {text:?}");
    let long = "One day a small dog walked along the river and saw ".repeat(40);
    let (_, read) = generate(&engine, &long, 1)?;
    let (tokens, timings) = (read.prompt_tokens, read.timings);
    println!(
        "prefill   {:7.1} tokens/s ({tokens} tokens)",
        rate(tokens, timings.prefill_ms)
    );
    let (_, written) = generate(&engine, "Once upon a time", TOKENS)?;
    let steps = written.completion_tokens - 1;
    println!(
        "decode    {:7.1} tokens/s",
        rate(steps, written.timings.decode_ms)
    );

    let started = Instant::now();
    let all = std::thread::scope(|scope| {
        let run = || generate(&engine, "Once upon a time", TOKENS);
        let threads: Vec<_> = (0..concurrency).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| join(thread.join()))
            .collect::<Result<Vec<_>>>()
    })?;
    let tokens = all
        .iter()
        .map(|(_, completion)| completion.completion_tokens)
        .sum();
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    println!(
        "decode x{concurrency} {:7.1} tokens/s together",
        rate(tokens, elapsed_ms)
    );
    if all.iter().any(|(text, _)| *text != all[0].0) {
        bail!("requests side by side gave different texts");
    }
    Ok(())
}

fn join<T>(outcome: std::thread::Result<Result<T>>) -> Result<T> {
    outcome.map_err(|_| anyhow!("a thread panicked"))?
}

fn rate(tokens: u32, milliseconds: f64) -> f64 {
    f64::from(tokens) / milliseconds * 1000.0
}

fn generate(engine: &impl Engine, prompt: &str, max_tokens: u32) -> Result<(String, Completion)> {
    let request = GenerationRequest {
        prompt: prompt.to_owned(),
        max_tokens,
        temperature: 0.0,
        top_p: None,
        top_k: None,
        seed: None,
        stop: Vec::new(),
    };
    let refused = |error| anyhow!("refused: {error:?}");
    let mut generation = engine.submit(request).map_err(refused)?;
    let mut text = String::new();
    loop {
        match generation
            .events
            .blocking_recv()
            .context("the engine hung up")?
        {
            GenerationEvent::Token { text: piece, .. } => text.push_str(&piece),
            GenerationEvent::Finished(completion) => return Ok((text, completion)),
            GenerationEvent::Failed(message) => bail!(message),
        }
    }
}
