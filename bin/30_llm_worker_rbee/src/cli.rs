//! The command line: what may be asked for, checked before anything is touched. No IO but the
//! messages that a wrong command line earns.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, ValueEnum};

use crate::auth::{ApiToken, TOKEN_VARIABLE};
use crate::hive_url::HiveUrl;
use crate::log::LogFormat;

/// Serves one GGUF model over HTTP and sends heartbeats to its hive.
#[derive(Debug, Parser)]
#[command(name = "llm-worker-rbee", version)]
struct Args {
    /// Name of this worker in health answers and heartbeats
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    worker_id: String,
    /// The GGUF file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Where the model came from, in the hive's terms; sent with heartbeats
    #[arg(long, value_name = "REF", value_parser = NonEmptyStringValueParser::new())]
    model_ref: String,
    /// Backend to compute on; the worker never falls back to another one
    #[arg(long)]
    backend: Backend,
    /// Which of the backend's devices; 0 for cpu
    #[arg(long, value_name = "N")]
    device: u32,
    /// TCP port to listen on; 0 takes a free one
    #[arg(long)]
    port: u16,
    /// Heartbeats go to URL/heartbeat/workers
    #[arg(long, value_name = "URL")]
    hive_url: HiveUrl,
    /// Address to listen on; any but loopback needs WORKER_API_TOKEN in the environment
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = parse_host)]
    host: Host,
    /// Seconds between heartbeats
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_interval)]
    heartbeat_interval: Duration,
    /// Seconds that running requests get to finish when the worker is asked to stop
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    drain_timeout: Duration,
    /// Compute threads [default: one per physical core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Most tokens of prompt and answer together [default: the model's limit]
    #[arg(long, value_name = "N")]
    ctx_size: Option<NonZeroU32>,
    /// Requests that may wait for their turn
    #[arg(long, value_name = "N", default_value = "64")]
    max_queue: NonZeroUsize,
    /// Format of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

impl Backend {
    /// As the command line and heartbeats spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

/// A command line that makes sense.
pub struct Config {
    /// Name of this worker.
    pub worker_id: String,
    /// The GGUF file.
    pub model: PathBuf,
    /// Where the model came from.
    pub model_ref: String,
    /// What computes.
    pub backend: Backend,
    /// Which of the backend's devices.
    pub device: u32,
    /// Where to listen: the first has to be there, the others where the machine has them.
    pub addresses: Vec<SocketAddr>,
    /// What every request must carry.
    pub token: Option<ApiToken>,
    /// Where heartbeats go.
    pub hive: HiveUrl,
    /// How often they go.
    pub heartbeat_interval: Duration,
    /// How long running requests may take to finish at the end.
    pub drain_timeout: Duration,
    /// Threads that compute; `None` leaves it to the engine.
    pub threads: Option<usize>,
    /// Tokens of context; `None` leaves it to the model.
    pub ctx_size: Option<u32>,
    /// Requests that may wait.
    pub max_queue: usize,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum NoConfig {
    /// `--help` or `--version`: the text for standard output.
    Answered(String),
    /// The command line is wrong.
    Wrong(anyhow::Error),
}

/// Reads the command line; `token` is the environment's, if it has one.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    token: Option<OsString>,
) -> Result<Config, NoConfig> {
    let args = Args::try_parse_from(args).map_err(|error| match error.use_stderr() {
        false => NoConfig::Answered(error.render().to_string()),
        true => NoConfig::Wrong(in_one_line(&error)),
    })?;
    validate(args, token).map_err(NoConfig::Wrong)
}

fn validate(args: Args, token: Option<OsString>) -> anyhow::Result<Config> {
    // An empty variable is how many launchers say that there is none.
    let token = token
        .filter(|token| !token.is_empty())
        .map(|token| {
            let token = token.to_str().ok_or("it is not text");
            token
                .and_then(ApiToken::new)
                .map_err(|cause| anyhow!(cause))
        })
        .transpose()
        .with_context(|| format!("cannot use the token in {TOKEN_VARIABLE}"))?;
    let Host(hosts) = args.host;
    let reachable = hosts.iter().find(|host| !host.to_canonical().is_loopback());
    if let (None, Some(host)) = (&token, reachable) {
        bail!(
            "cannot listen on {host}: others can reach it, so {TOKEN_VARIABLE} must be set in the \
             environment"
        );
    }
    Ok(Config {
        worker_id: args.worker_id,
        model: args.model,
        model_ref: args.model_ref,
        backend: args.backend,
        device: args.device,
        addresses: hosts
            .into_iter()
            .map(|host| SocketAddr::new(host, args.port))
            .collect(),
        token,
        hive: args.hive_url,
        heartbeat_interval: args.heartbeat_interval,
        drain_timeout: args.drain_timeout,
        threads: args.threads.map(NonZeroUsize::get),
        ctx_size: args.ctx_size.map(NonZeroU32::get),
        max_queue: args.max_queue.get(),
        log_format: args.log_format,
    })
}

/// The parser's own message is a paragraph with usage and tips; whoever started us wants a line.
fn in_one_line(error: &clap::Error) -> anyhow::Error {
    let text = error.render().to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_start_matches("error: "));
    anyhow!(
        "wrong command line: {}",
        lines.collect::<Vec<_>>().join(" ")
    )
}

/// The addresses that one word stands for.
#[derive(Debug, Clone)]
struct Host(Vec<IpAddr>);

/// Clients try either address for `localhost`, so it means both.
fn parse_host(text: &str) -> Result<Host, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Host(vec![
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ]));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(address) => Ok(Host(vec![address])),
        Err(_) => Err("not an IP address".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    match (0.0..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("not from 0 to 86400 seconds".to_owned()),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_seconds(text)?;
    match interval >= Duration::from_millis(100) {
        true => Ok(interval),
        false => Err("not from 0.1 to 86400 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests;
