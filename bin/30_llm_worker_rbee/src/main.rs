//! The process: command line in, exit status out. What happens between is `life`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

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
    match life::run(config, Box::new(load_engine)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal(&error);
            ExitCode::FAILURE
        }
    }
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
