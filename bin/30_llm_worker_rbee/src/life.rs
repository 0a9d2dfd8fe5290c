//! A worker's life from the port to the farewell, and the only place that knows all its parts. How
//! an engine comes to be is the caller's business.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cli::Config;
use crate::engine::Engine;
use crate::heartbeat::{BeatCounts, Heartbeat, Identity};
use crate::log;
use crate::routes::{About, Desk, app};
use crate::server::{Limits, Server};
use crate::shutdown::{StopRequest, StopRequests};
use crate::state::Worker;

/// How long the last answers may take to leave where the drain timeout leaves them no more.
const FLUSH: Duration = Duration::from_secs(1);
/// How long the last heartbeat may take.
const LAST_BEAT: Duration = Duration::from_secs(1);

/// How a caller loads the engine that is served. Boxed, so that a worker's life is compiled once, in
/// this crate, and not again in each program that begins one.
pub type Load = Box<dyn FnOnce(&Config) -> anyhow::Result<Arc<dyn Engine>> + Send>;

/// A whole life, on a runtime of its own. Returns as [`live`] does.
pub fn run(config: Config, load: Load) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Serving is waiting; the cores belong to the engine.
        .worker_threads(2)
        // These tokenize prompts. More at once would only slow each other down.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(live(config, load));
    // A model that is still being loaded ends with the process.
    runtime.shutdown_background();
    outcome
}

/// The port comes first, so that everybody can ask how far we are. Returns after an orderly end, or
/// with the reason why there is nothing to serve with.
pub async fn live(config: Config, load: Load) -> anyhow::Result<()> {
    let mut stop_requests = StopRequests::listen().context("cannot listen for signals")?;
    let (worker, changes) = Worker::new(&config.worker_id);
    let beats: Arc<BeatCounts> = Arc::default();
    let desk = Desk::new(Arc::clone(&worker), about(&config), Arc::clone(&beats));
    let app = app(desk, config.token.clone());
    let server = Server::start(&config.addresses, app, Limits::of_this_process())
        .await
        .with_context(|| format!("cannot listen on {}", config.addresses[0]))?;
    for address in server.addresses() {
        log::info(&format!("Listening on {address}"));
    }
    let identity = identity(&config, &server);
    let interval = config.heartbeat_interval;
    let heartbeat = Heartbeat::start(&config.hive, identity, interval, changes, beats)
        .context("cannot start the heartbeat")?;
    let drain_timeout = config.drain_timeout;
    let stopped = tokio::select! {
        failure = serve(&worker, config, load) => Err(failure),
        stop = stop_requests.next() => Ok(stop),
    };
    match stopped {
        Ok(stop) => {
            // First the fact, then the word: whoever reads the log may ask at once.
            worker.drain();
            log::info(&format!(
                "{} received, draining for up to {drain_timeout:?}",
                stop.name
            ));
            tokio::spawn(end_at_once(stop_requests));
            drain(&worker, server, Instant::now() + drain_timeout).await;
            heartbeat.finish(LAST_BEAT).await;
        }
        Err(failure) => {
            worker.fail(&format!("{failure:#}"));
            give_up(&worker, server, heartbeat).await;
            return Err(failure);
        }
    }
    if let Some(reason) = worker.failure() {
        return Err(gone(reason));
    }
    log::info("Stopped");
    Ok(())
}

fn about(config: &Config) -> About {
    About {
        model_ref: config.model_ref.clone(),
        backend: config.backend.name().to_owned(),
        device: config.device,
    }
}

fn identity(config: &Config, server: &Server) -> Identity {
    Identity {
        worker_id: config.worker_id.clone(),
        model_ref: config.model_ref.clone(),
        backend: config.backend.name().to_owned(),
        device: config.device,
        port: server.addresses()[0].port(),
    }
}

/// Loads the model and serves it. Returns only with the reason why that is not possible.
async fn serve(worker: &Arc<Worker>, config: Config, load: Load) -> anyhow::Error {
    let engine = match load_apart(config, load).await {
        Ok(engine) => engine,
        Err(error) => return error,
    };
    log::info("Model loaded successfully");
    worker.serve_with(engine);
    let watched = Arc::clone(worker);
    // A task of its own, so that a drain has it, too.
    tokio::spawn(async move { watched.watch_engine().await });
    log::info("Worker ready, starting HTTP server");
    gone(worker.until_failed().await)
}

fn gone(reason: String) -> anyhow::Error {
    anyhow!(reason).context("cannot go on serving")
}

/// Loads on a thread of its own: it takes seconds, and nobody waits for it at the end.
async fn load_apart(config: Config, load: Load) -> anyhow::Result<Arc<dyn Engine>> {
    let (loaded, wait) = oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || loaded.send(load(&config)))
        .context("cannot start a thread to load the model")?;
    // The sender is gone without a word only after a panic, which the log shows.
    wait.await.context("loading the model ended in a panic")?
}

/// Lets what runs finish and what was made be read, tells the rest that it can't.
async fn drain(worker: &Worker, server: Server, until: Instant) {
    let all_done = async {
        tokio::select! {
            () = worker.idle() => {}
            _ = worker.until_failed() => {}
        }
    };
    if timeout_at(until, all_done).await.is_err() {
        log::warn("Requests are still running after the drain timeout and are cut off");
        worker.cut_off();
    }
    let until = match worker.failure() {
        Some(_) => Instant::now(),
        None => until,
    };
    let until = until.max(Instant::now() + FLUSH);
    let _ = timeout_at(until, worker.idle()).await;
    let _ = timeout_at(until, server.quiet()).await;
    let _ = timeout(FLUSH, server.finish()).await;
}

/// Tells everybody that there is nothing to wait for. All of it together, as whoever watches waits
/// to start another worker.
async fn give_up(worker: &Worker, server: Server, heartbeat: Heartbeat) {
    let answers = timeout(FLUSH, async {
        worker.idle().await;
        server.quiet().await;
        server.finish().await;
    });
    let _ = tokio::join!(answers, heartbeat.finish(LAST_BEAT));
}

/// Whoever asks twice doesn't want to wait.
async fn end_at_once(mut stop_requests: StopRequests) {
    let StopRequest { name, exit_code } = stop_requests.next().await;
    log::warn(&format!("{name} received again, ending at once"));
    std::process::exit(exit_code.into());
}
