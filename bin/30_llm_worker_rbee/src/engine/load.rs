//! From a model file to an engine that serves.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, DeviceLocation};

use super::backend::{self, Backend};
use super::gguf::Gguf;
use super::llama::{Cache, Llama, LlamaConfig};
use super::runner::{Model, Runner};
use super::threads;
use super::tokenizer::Tokenizer;
use super::{Engine, Generation, GenerationRequest, SubmitError};

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
    runner: Runner,
    info: ModelInfo,
}

impl LoadedEngine {
    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }
}

impl Engine for LoadedEngine {
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        self.runner.submit(request)
    }

    fn failure(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.runner.failure()
    }
}

/// Loads a model and starts the thread that serves it. Reads the whole file, so from async code
/// call it where blocking is allowed. An error names the file and the cause on one line, with
/// `{:#}`.
pub fn load(options: &LoadOptions) -> Result<LoadedEngine> {
    let device = backend::open(options.backend, options.device)?;
    let pool = threads::pool(options.threads)?;
    let path = &options.model_path;
    let loaded = pool.install(|| load_model(path, options.ctx_size, &device));
    let (model, tokenizer, info) = loaded.with_context(|| format!("model `{}`", path.display()))?;
    let runner = Runner::start(
        model,
        Arc::new(tokenizer),
        info.context_length,
        options.max_queue,
        pool,
    )?;
    Ok(LoadedEngine { runner, info })
}

fn load_model(
    path: &Path,
    ctx_size: Option<u32>,
    device: &Device,
) -> Result<(Llama, Tokenizer, ModelInfo)> {
    assemble(Gguf::open(path)?, ctx_size, device)
}

fn assemble<R: Read + Seek>(
    mut gguf: Gguf<R>,
    ctx_size: Option<u32>,
    device: &Device,
) -> Result<(Llama, Tokenizer, ModelInfo)> {
    // The cheap parts first: a file that can't be served is refused before its tensors are read.
    LlamaConfig::from_metadata(&gguf.metadata)?;
    let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
    let model = Llama::load(&mut gguf, device, threads::parts(device))?;
    let context_length = context_length(&model, ctx_size)?;
    let info = ModelInfo {
        name: gguf.metadata.text("general.name")?.map(str::to_owned),
        architecture: gguf
            .metadata
            .text("general.architecture")?
            .unwrap_or_default()
            .to_owned(),
        quantisation: main_quantisation(&gguf).to_owned(),
        parameters: gguf.tensors().map(|(_, info)| numbers(&info.shape)).sum(),
        context_length,
        vocabulary_size: tokenizer.vocabulary_size() as u32,
        device: device_name(device),
    };
    Ok((model, tokenizer, info))
}

fn context_length(model: &Llama, ctx_size: Option<u32>) -> Result<u32> {
    let own = model.config().context_length as u32;
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

fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => format!("cpu ({} threads)", rayon::current_num_threads()),
        DeviceLocation::Cuda { gpu_id } => match backend::cuda_name(device) {
            Some(name) => format!("cuda {gpu_id} ({name})"),
            None => format!("cuda {gpu_id}"),
        },
        DeviceLocation::Metal { gpu_id } => format!("metal {gpu_id}"),
    }
}

impl Model for Llama {
    type Cache = Cache;

    fn new_cache(&self) -> Cache {
        Llama::new_cache(self)
    }

    fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut Cache,
        wants_logits: bool,
    ) -> Result<Option<Vec<f32>>> {
        Llama::prefill(self, tokens, cache, wants_logits)
    }

    fn decode(&self, tokens: &[u32], caches: &mut [&mut Cache]) -> Result<Vec<Vec<f32>>> {
        Llama::decode(self, tokens, caches)
    }
}

#[cfg(test)]
mod tests;
