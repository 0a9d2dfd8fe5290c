//! The process: command line in, exit status out. What happens between is `life`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use llm_worker_rbee::auth::TOKEN_VARIABLE;
use llm_worker_rbee::cli::{self, Config, NoConfig};
use llm_worker_rbee::engine::{self, Engine, LoadOptions};
use llm_worker_rbee::{life, log};

fn main() -> ExitCode {
    let config = match cli::parse(std::env::args_os(), std::env::var_os(TOKEN_VARIABLE)) {
        Ok(config) => config,
        Err(NoConfig::Answered(text)) => {
            // Whoever closed the pipe has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(NoConfig::Wrong(error)) => {
            log::fatal(&error);
            return ExitCode::from(2);
        }
    };
    log::init(config.log_format);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Serving is waiting; the cores belong to the engine.
        .worker_threads(2)
        // These tokenize prompts. More at once would only slow each other down.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(life::live(config, load_engine));
    // A model that is still being loaded ends with the process.
    runtime.shutdown_background();
    outcome
}

fn load_engine(config: &Config) -> anyhow::Result<Arc<dyn Engine>> {
    let backend = match config.backend {
        cli::Backend::Cpu => engine::Backend::Cpu,
        cli::Backend::Cuda => engine::Backend::Cuda,
        cli::Backend::Metal => engine::Backend::Metal,
    };
    let engine = engine::load(&LoadOptions {
        model_path: config.model.clone(),
        backend,
        device: config.device,
        threads: config.threads,
        ctx_size: config.ctx_size,
        max_queue: config.max_queue,
        kernels: None,
    })?;
    log::info(&engine.info().to_string());
    Ok(Arc::new(engine))
}
