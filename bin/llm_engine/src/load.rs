//! From a model file to an engine that serves.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;

use super::backend::{self, Backend};
use super::gguf::Gguf;
use super::kernels::Kernels;
use super::model::config::Config;
use super::model::{self, Model};
use super::ops::{Cpu, KeyValueCache, PAGE_POSITIONS};
use super::scheduler::{SLOTS, Scheduler};
use super::tokenizer::Tokenizer;
use super::{Engine, Generation, GenerationRequest, Stats, SubmitError, TokenText};

mod memory;

/// What to load, and onto what.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// A GGUF file.
    pub model_path: PathBuf,
    /// The kind of device that computes.
    pub backend: Backend,
    /// Which of its devices.
    pub device: u32,
    /// How many threads compute; as many as there are cores, if this doesn't say.
    pub threads: Option<usize>,
    /// A context shorter than the model's own.
    pub ctx_size: Option<u32>,
    /// How many requests may wait beside those that are served.
    pub max_queue: usize,
    /// Kernels for the processor by their name, to compare them; the best without it.
    pub kernels: Option<String>,
}

/// What is worth saying about a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The model's own name, if the file gives one.
    pub name: Option<String>,
    /// The architecture, as the file names it.
    pub architecture: String,
    /// The quantisation that most of its numbers have.
    pub quantisation: String,
    /// How many numbers it is made of.
    pub parameters: u64,
    /// Prompt and answer together fit into this many tokens.
    pub context_length: u32,
    /// Number of tokens that it knows.
    pub vocabulary_size: u32,
    /// Where it is computed.
    pub device: String,
    /// How its authors put messages into a prompt, if the file says it.
    pub chat_template: Option<String>,
}

impl fmt::Display for ModelInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("unnamed").escape_debug();
        let millions = self.parameters as f64 / 1e6;
        write!(
            formatter,
            "Model {name}: {} {} with {millions:.1} million parameters, {} tokens of context, {} in \
             the vocabulary, on {}",
            self.architecture,
            self.quantisation,
            self.context_length,
            self.vocabulary_size,
            self.device
        )
    }
}

/// A loaded model that serves requests.
#[derive(Debug)]
pub struct LoadedEngine {
    scheduler: Scheduler,
    tokenizer: Arc<Tokenizer>,
    info: ModelInfo,
}

impl LoadedEngine {
    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The tokens of a prompt, as the engine takes them.
    pub fn tokenize(&self, prompt: &str) -> Vec<u32> {
        self.tokenizer.encode(prompt)
    }
}

impl Engine for LoadedEngine {
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        self.scheduler.submit(request)
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.scheduler.failure()
    }

    fn stats(&self) -> Stats {
        self.scheduler.stats()
    }

    fn token(&self, token: u32) -> Option<TokenText<'_>> {
        self.tokenizer.token(token)
    }

    fn chat_template(&self) -> Option<&str> {
        self.info.chat_template.as_deref()
    }
}

/// Loads a model and starts the thread that serves it. Reads the whole file, so from async code
/// call it where blocking is allowed. An error names the file and the cause on one line, with
/// `{:#}`.
pub fn load(options: &LoadOptions) -> Result<LoadedEngine> {
    backend::check(options.backend, options.device)?;
    let path = &options.model_path;
    let loaded = match options.backend {
        Backend::Cpu => Gguf::open(path).and_then(|gguf| {
            let loaded = assemble(gguf, options)?;
            start(loaded, options)
        }),
        #[cfg(feature = "candle")]
        Backend::Cuda | Backend::Metal => Gguf::open(path).and_then(|gguf| {
            let loaded = super::candle::assemble(gguf, options)?;
            start(loaded, options)
        }),
        #[cfg(not(feature = "candle"))]
        Backend::Cuda | Backend::Metal => unreachable!("the check refused it"),
    };
    loaded.with_context(|| format!("model `{}`", path.display()))
}

/// A model that can be served.
pub(super) struct Assembled<M> {
    pub(super) model: M,
    pub(super) tokenizer: Tokenizer,
    pub(super) info: ModelInfo,
}

fn start<M: super::scheduler::Model>(
    loaded: Assembled<M>,
    options: &LoadOptions,
) -> Result<LoadedEngine> {
    let Assembled {
        model,
        tokenizer,
        info,
    } = loaded;
    let tokenizer = Arc::new(tokenizer);
    let scheduler = Scheduler::start(
        model,
        Arc::clone(&tokenizer),
        info.context_length,
        options.max_queue,
    )?;
    Ok(LoadedEngine {
        scheduler,
        tokenizer,
        info,
    })
}

/// For the processor.
fn assemble<R: Read + Seek + Send>(
    mut gguf: Gguf<R>,
    options: &LoadOptions,
) -> Result<Assembled<Model>> {
    // The cheap parts first: a file that can't be served is refused before its tensors are read.
    let config = Config::from_metadata(&gguf.metadata)?;
    let context_length = context_length(config.context_length, options.ctx_size)?;
    let threads = match options.threads {
        Some(threads) => threads.max(1),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let metadata = std::mem::take(&mut gguf.metadata);
    let (tokenizer, weights) = std::thread::scope(|scope| {
        let tokenizer = scope.spawn(|| Tokenizer::from_metadata(&metadata));
        let weights = model::load(&mut gguf, &config, threads);
        (tokenizer.join(), weights)
    });
    let tokenizer = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let weights = weights?;
    gguf.metadata = metadata;
    let pages = cache_pages(&config, context_length);
    let cpu = Cpu::with_kernels(threads, kernels(options.kernels.as_deref())?)
        .with_context(|| format!("cannot start {threads} threads to compute with"))?;
    let device = format!("cpu ({threads} threads, {})", cpu.kernels());
    let info = describe(&gguf, &tokenizer, context_length, device)?;
    Ok(Assembled {
        model: Model::new(config, weights, cpu, pages),
        tokenizer,
        info,
    })
}

/// Those of that name, or the best.
fn kernels(name: Option<&str>) -> Result<&'static Kernels> {
    let Some(name) = name else {
        return Ok(Kernels::best());
    };
    let usable = Kernels::usable();
    let named = usable.iter().find(|kernels| kernels.name == name);
    named.copied().with_context(|| {
        let names: Vec<_> = usable.iter().map(|kernels| kernels.name).collect();
        format!(
            "this processor has no kernels `{name}` but: {}",
            names.join(", ")
        )
    })
}

/// Room for as many full contexts as may be served at once, as far as memory allows; for one in
/// any case. Memory is used as pages are written, so room that nobody needs costs nothing.
fn cache_pages(config: &Config, context_length: u32) -> usize {
    let page_bytes =
        KeyValueCache::page_bytes(config.block_count(), config.key_heads, config.head_width);
    let one_context = (context_length as usize).div_ceil(PAGE_POSITIONS);
    let affordable = memory::available_bytes() / 2 / page_bytes as u64;
    let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
    affordable.clamp(one_context, one_context * SLOTS)
}

/// What is said about the model.
pub(super) fn describe<R: Read + Seek>(
    gguf: &Gguf<R>,
    tokenizer: &Tokenizer,
    context_length: u32,
    device: String,
) -> Result<ModelInfo> {
    let text = |key: &str| gguf.metadata.text(key).map(|text| text.map(str::to_owned));
    Ok(ModelInfo {
        name: text("general.name")?,
        architecture: text("general.architecture")?.unwrap_or_default(),
        quantisation: main_quantisation(gguf).to_owned(),
        parameters: gguf.tensors().map(|(_, info)| numbers(&info.shape)).sum(),
        context_length,
        vocabulary_size: tokenizer.vocabulary_size() as u32,
        device,
        chat_template: text("tokenizer.chat_template")?,
    })
}

/// The context that was asked for, if the model has it.
pub(super) fn context_length(own: usize, ctx_size: Option<u32>) -> Result<u32> {
    let own = own as u32;
    let wanted = ctx_size.unwrap_or(own);
    ensure!(
        (1..=own).contains(&wanted),
        "a context of {wanted} tokens is not possible: the model was made for {own} (use \
         `--ctx-size` from 1 to {own}, or leave it out)"
    );
    Ok(wanted)
}

fn main_quantisation<R: Read + Seek>(gguf: &Gguf<R>) -> &'static str {
    let mut by_kind = BTreeMap::<&str, u64>::new();
    for (_, info) in gguf.tensors() {
        *by_kind.entry(info.kind.name()).or_default() += numbers(&info.shape);
    }
    by_kind
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or("none", |(name, _)| name)
}

fn numbers(shape: &[usize]) -> u64 {
    shape.iter().map(|&length| length as u64).product()
}

#[cfg(test)]
mod tests;
