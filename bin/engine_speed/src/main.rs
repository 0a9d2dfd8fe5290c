//! How fast the engine alone is, without HTTP: load, prefill, decode, several requests side by side,
//! and the memory bandwidth that bounds decode.
//!
//! `cargo run --release -p engine-speed -- MODEL.gguf [--json]`
//!
//! `scripts/compare_engines.py` puts its figures beside those of other engines.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Parser, ValueEnum};
use llm_engine::{
    Backend, Completion, Engine, GenerationEvent, GenerationRequest, LoadOptions, LoadedEngine,
    Prompt,
};
use serde_json::{Map, Value, json};

/// Tokens that decode is measured over.
const DECODE_TOKENS: u32 = 128;
/// Ids of ordinary tokens in every vocabulary: what the text says doesn't matter for speed.
const TOKEN_IDS: std::ops::Range<u32> = 100..900;
/// Larger than any cache, so that the memory itself is measured.
const BANDWIDTH_BYTES: usize = 256 << 20;
const BANDWIDTH_PASSES: usize = 10;

/// Measures the engine.
#[derive(Parser)]
struct Options {
    /// A GGUF file.
    model: PathBuf,
    /// Threads that compute; one for each core without it.
    #[arg(long)]
    threads: Option<usize>,
    /// Kernels by their name, such as AVX2; the best that this processor can use without it.
    #[arg(long)]
    kernels: Option<String>,
    /// What to measure; everything without it.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
    /// Runs of each measurement, of which the median counts.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    #[value(name = "prefill-128")]
    Prefill128,
    #[value(name = "prefill-512")]
    Prefill512,
    Decode,
    #[value(name = "decode-1024")]
    Decode1024,
    #[value(name = "batch-8")]
    Batch8,
    #[value(name = "batch-32")]
    Batch32,
    /// Last, as its memory would count for the engine's.
    Bandwidth,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut figures = Map::new();
    let file_bytes = std::fs::metadata(&options.model)
        .with_context(|| options.model.display().to_string())?
        .len();
    figures.insert("file_bytes".to_owned(), json!(file_bytes));
    let started = Instant::now();
    let engine = llm_engine::load(&LoadOptions {
        model_path: options.model.clone(),
        backend: Backend::Cpu,
        device: 0,
        threads: options.threads,
        ctx_size: None,
        max_queue: 64,
        kernels: options.kernels.clone(),
    })?;
    let load_ms = started.elapsed().as_secs_f64() * 1000.0;
    figures.insert("load_ms".to_owned(), json!(load_ms));
    figures.insert("load_peak_rss_bytes".to_owned(), json!(peak_rss_bytes()));
    figures.insert("engine".to_owned(), json!(engine.info().to_string()));

    let mut prompts = Prompts::default();
    warm_up(&engine, &mut prompts)?;
    for measure in Measure::value_variants() {
        if *measure == Measure::Bandwidth {
            figures.insert("peak_rss_bytes".to_owned(), json!(peak_rss_bytes()));
        }
        if options.only.is_empty() || options.only.contains(measure) {
            let figure = median(options.repeat, || {
                run(*measure, &engine, &mut prompts, &options)
            })?;
            figures.insert(measure.key(), json!(figure));
        }
    }
    if options.json {
        println!("{}", Value::Object(figures));
    } else {
        for (name, value) in figures {
            println!("{name:<24} {}", shown(&value));
        }
    }
    Ok(())
}

impl Measure {
    /// The figure's name, unit included.
    fn key(self) -> String {
        let name = self.to_possible_value().expect("none is skipped");
        let name = name.get_name().replace('-', "_");
        match self {
            Self::Bandwidth => format!("{name}_bytes_per_s"),
            _ => format!("{name}_tokens_per_s"),
        }
    }
}

/// One measurement, in the unit that [`Measure::key`] names.
fn run(
    measure: Measure,
    engine: &LoadedEngine,
    prompts: &mut Prompts,
    options: &Options,
) -> Result<f64> {
    match measure {
        Measure::Bandwidth => Ok(bandwidth_bytes_per_s(options.threads)),
        Measure::Prefill128 => prefill(engine, prompts.next(128)),
        Measure::Prefill512 => prefill(engine, prompts.next(512)),
        Measure::Decode => decode(engine, prompts, 1),
        Measure::Decode1024 => decode(engine, prompts, 1024),
        Measure::Batch8 => batch(engine, prompts, 8),
        Measure::Batch32 => batch(engine, prompts, 32),
    }
}

/// Prompts of token ids, no two of which begin alike: nothing of them is known from earlier ones.
#[derive(Default)]
struct Prompts {
    count: u32,
}

impl Prompts {
    fn next(&mut self, length: u32) -> Prompt {
        self.count += 1;
        let ids = TOKEN_IDS.end - TOKEN_IDS.start;
        let token = |at: u32| TOKEN_IDS.start + (self.count * 97 + at * 37) % ids;
        Prompt::Tokens((0..length).map(token).collect())
    }
}

fn warm_up(engine: &LoadedEngine, prompts: &mut Prompts) -> Result<()> {
    generate(engine, prompts.next(16), 16)?;
    Ok(())
}

fn prefill(engine: &LoadedEngine, prompt: Prompt) -> Result<f64> {
    let (_, completion) = generate(engine, prompt, 1)?;
    ensure!(completion.cached_tokens == 0, "the prompt was known");
    Ok(rate(
        completion.prompt_tokens,
        completion.timings.prefill_ms,
    ))
}

/// Decode after a prompt of `depth` tokens.
fn decode(engine: &LoadedEngine, prompts: &mut Prompts, depth: u32) -> Result<f64> {
    let (_, completion) = endless(engine, prompts, depth)?;
    Ok(rate(
        completion.completion_tokens - 1,
        completion.timings.decode_ms,
    ))
}

/// All tokens of `count` equal requests at once, in the time from the first submission to the last
/// token. Also holds that company changes no answer.
fn batch(engine: &LoadedEngine, prompts: &mut Prompts, count: usize) -> Result<f64> {
    let (prompt, _) = endless(engine, prompts, 1)?;
    let started = Instant::now();
    let all = std::thread::scope(|scope| {
        let run = || generate(engine, prompt.clone(), DECODE_TOKENS + 1);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a thread panicked"))
                    .flatten()
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
    if all.iter().any(|(tokens, _)| *tokens != all[0].0) {
        bail!("equal requests side by side gave different answers");
    }
    let tokens = all
        .iter()
        .map(|(_, completion)| completion.completion_tokens);
    Ok(rate(tokens.sum(), elapsed_ms))
}

/// A prompt after which the model doesn't end early, and what came after it.
fn endless(
    engine: &LoadedEngine,
    prompts: &mut Prompts,
    depth: u32,
) -> Result<(Prompt, Completion)> {
    for _ in 0..50 {
        let prompt = prompts.next(depth);
        let (_, completion) = generate(engine, prompt.clone(), DECODE_TOKENS + 1)?;
        if completion.completion_tokens == DECODE_TOKENS + 1 {
            return Ok((prompt, completion));
        }
    }
    bail!("after 50 prompts of {depth} tokens, the model always ended early")
}

fn generate(
    engine: &LoadedEngine,
    prompt: Prompt,
    max_tokens: u32,
) -> Result<(Vec<u32>, Completion)> {
    let request = GenerationRequest {
        prompt,
        max_tokens,
        ..GenerationRequest::default()
    };
    let refused = |error| anyhow!("refused: {error:?}");
    let mut generation = engine.submit(request).map_err(refused)?;
    let mut tokens = Vec::new();
    loop {
        match generation
            .events
            .blocking_recv()
            .context("the engine hung up")?
        {
            GenerationEvent::Token { chosen, .. } => tokens.push(chosen.token),
            GenerationEvent::Finished(completion) => return Ok((tokens, completion)),
            GenerationEvent::Failed(message) => bail!(message),
        }
    }
}

fn rate(tokens: u32, milliseconds: f64) -> f64 {
    f64::from(tokens) / milliseconds * 1000.0
}

fn median(repeat: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut figures = (0..repeat.max(1))
        .map(|_| measure())
        .collect::<Result<Vec<_>>>()?;
    figures.sort_by(f64::total_cmp);
    Ok(figures[figures.len() / 2])
}

/// What all threads together read from memory: a plain sum over more than the caches hold. The best
/// of several passes, since it is to say what the machine could do.
fn bandwidth_bytes_per_s(threads: Option<usize>) -> f64 {
    let threads = threads.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    let words = BANDWIDTH_BYTES / size_of::<u64>();
    let memory: Vec<u64> = (0..words as u64).collect();
    let pass = || {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for part in memory.chunks(words.div_ceil(threads)) {
                scope.spawn(move || std::hint::black_box(sum(part)));
            }
        });
        BANDWIDTH_BYTES as f64 / started.elapsed().as_secs_f64()
    };
    (0..BANDWIDTH_PASSES).map(|_| pass()).fold(0.0, f64::max)
}

/// Several sums side by side, so that additions don't wait for each other.
fn sum(words: &[u64]) -> [u64; 32] {
    let mut sums = [0_u64; 32];
    for words in words.as_chunks::<32>().0 {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums
}

/// The most memory that this process ever held; none where the system doesn't tell.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes << 10)
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number >= 1e6 => format!("{:.1} million", number / 1e6),
        Some(number) => format!("{number:.1}"),
        None => value.to_string(),
    }
}
