//! Joins the worker's parts, and is the only place that knows them all.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use llm_worker_rbee::auth::TOKEN_VARIABLE;
use llm_worker_rbee::cli::{self, Config, NoConfig};
use llm_worker_rbee::engine::{self, Engine, LoadOptions};
use llm_worker_rbee::heartbeat::{Heartbeat, Identity};
use llm_worker_rbee::log;
use llm_worker_rbee::routes::app;
use llm_worker_rbee::server::Server;
use llm_worker_rbee::shutdown::{StopRequest, StopRequests};
use llm_worker_rbee::state::Worker;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the last answers may take to leave once they are made.
const FLUSH: Duration = Duration::from_secs(1);
/// How long the last heartbeat may take.
const LAST_BEAT: Duration = Duration::from_secs(1);

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
    let outcome = runtime.block_on(live(config));
    // A model that is still being loaded ends with the process.
    runtime.shutdown_background();
    outcome
}

/// The worker's whole life. The port comes first, so that everybody can ask how far we are.
async fn live(config: Config) -> anyhow::Result<()> {
    let mut stop_requests = StopRequests::listen().context("cannot listen for signals")?;
    let (worker, changes) = Worker::new(&config.worker_id);
    let server = Server::start(
        config.address,
        app(Arc::clone(&worker), config.token.clone()),
    )
    .await
    .with_context(|| format!("cannot listen on {}", config.address))?;
    log::info(&format!("Listening on {}", server.address()));
    let identity = identity(&config, &server);
    let interval = config.heartbeat_interval;
    let heartbeat = Heartbeat::start(&config.hive, identity, interval, changes)
        .context("cannot start the heartbeat")?;
    let drain_timeout = config.drain_timeout;
    let stopped = tokio::select! {
        failure = serve(&worker, config) => Err(failure),
        stop = stop_requests.next() => Ok(stop),
    };
    // First the fact, then the word: whoever reads the log may ask at once.
    worker.drain();
    let patience = match &stopped {
        Ok(stop) => {
            log::info(&format!(
                "{} received, draining for up to {drain_timeout:?}",
                stop.name
            ));
            tokio::spawn(end_at_once(stop_requests));
            drain_timeout
        }
        Err(_) => Duration::ZERO,
    };
    wind_down(&worker, server, heartbeat, patience).await;
    stopped.map(drop)
}

fn identity(config: &Config, server: &Server) -> Identity {
    Identity {
        worker_id: config.worker_id.clone(),
        model_ref: config.model_ref.clone(),
        backend: config.backend.name().to_owned(),
        device: config.device,
        port: server.address().port(),
    }
}

/// Loads the model and serves it. Returns only with the reason why that is not possible.
async fn serve(worker: &Worker, config: Config) -> anyhow::Error {
    match load(config).await {
        Ok(engine) => {
            log::info("Model loaded successfully");
            worker.serve_with(engine);
            log::info("Worker ready, starting HTTP server");
            anyhow!(worker.until_engine_failed().await).context("cannot go on serving")
        }
        Err(error) => error,
    }
}

/// Loads on a thread of its own: it takes seconds, and nobody waits for it at the end.
async fn load(config: Config) -> anyhow::Result<Arc<dyn Engine>> {
    let (loaded, wait) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || loaded.send(load_engine(&config)))
        .context("cannot start a thread to load the model")?;
    // The sender is gone without a word only after a panic, which the log shows.
    wait.await.context("loading the model ended in a panic")?
}

/// Lets what runs finish, tells the rest that it can't, and says goodbye to the hive.
async fn wind_down(worker: &Worker, server: Server, heartbeat: Heartbeat, patience: Duration) {
    if timeout(patience, worker.idle()).await.is_err() {
        log::warn("Requests are still running after the drain timeout and are cut off");
        worker.cut_off();
        let _ = timeout(FLUSH, worker.idle()).await;
    }
    let _ = timeout(FLUSH, server.finish()).await;
    heartbeat.finish(LAST_BEAT).await;
    log::info("Stopped");
}

/// Whoever asks twice doesn't want to wait.
async fn end_at_once(mut stop_requests: StopRequests) {
    let StopRequest { name, exit_code } = stop_requests.next().await;
    log::warn(&format!("{name} received again, ending at once"));
    std::process::exit(exit_code.into());
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
    })?;
    log::info(&engine.info().to_string());
    Ok(Arc::new(engine))
}
