//! The options of `--benchmark`, as types.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::tasks::worker::config::benchmark::{
    BenchmarkConfig, Measured, Ramp, parse_duration, parse_objectives, parse_ramp,
};
use crate::tasks::worker::record::bench::Objectives;

/// Measure instead of check: TTFT, ITL, TPOT, E2E, tokens per second.
#[derive(Debug, Args)]
#[command(next_help_heading = "Benchmark")]
pub struct BenchmarkArgs {
    /// Measure the worker instead of checking it [default: loads]
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        num_args = 0..=1,
        default_missing_value = "loads"
    )]
    pub benchmark: Option<Measured>,
    /// Concurrency levels, one load each [default: 1,2,4,8]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        requires = "benchmark"
    )]
    concurrency: Vec<u32>,
    /// Concurrency levels that double from one number to another
    #[arg(
        long,
        value_name = "FROM..TO",
        value_parser = parse_ramp,
        requires = "benchmark",
        conflicts_with = "concurrency"
    )]
    ramp: Option<Ramp>,
    /// Open loop instead of concurrency levels: requests arrive as a Poisson process at this many
    /// a second, and latencies count from the intended start
    #[arg(
        long,
        value_name = "R",
        requires = "benchmark",
        conflicts_with_all = ["concurrency", "ramp"]
    )]
    rate: Option<f64>,
    /// The shape of the gamma distribution of the gaps between arrivals: less than 1 comes in bursts,
    /// more comes evenly [default: 1, a Poisson process]
    #[arg(long, value_name = "SHAPE", requires = "benchmark", conflicts_with_all = ["concurrency", "ramp"])]
    burstiness: Option<f64>,
    /// Find the highest rate at which nine in ten requests meet the objectives of --slo
    #[arg(
        long,
        requires = "goodput",
        conflicts_with_all = ["rate", "concurrency", "ramp", "requests", "against"]
    )]
    find_max_rate: bool,
    /// How long each load is measured: 5s, 500ms, 2m [default: 5s, or 10s for --stress]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "load")]
    pub duration: Option<Duration>,
    /// Send this many requests in each load, instead of a duration
    #[arg(
        long,
        value_name = "N",
        requires = "benchmark",
        conflicts_with = "duration"
    )]
    requests: Option<usize>,
    /// How long each load warms up before it is measured [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "benchmark")]
    warmup: Option<Duration>,
    /// Objectives that a good request meets: ttft:200ms,tpot:50ms,e2e:2s
    #[arg(long, visible_alias = "slo", value_name = "LIMITS", value_parser = parse_objectives, requires = "benchmark")]
    goodput: Option<Objectives>,
    /// Measure the load generator instead of a worker: its own error and its limits
    #[arg(long, alias = "tare", conflicts_with_all = ["benchmark", "list_checks", "explain", "self_test"])]
    pub calibrate: bool,
    /// A file of prompts: JSON lines (strings, objects with `prompt` or `text`, or the lengths of a
    /// mooncake trace), or conversations as ShareGPT has them [default: generated to a length]
    #[arg(long, value_name = "FILE", requires = "benchmark")]
    prompts: Option<PathBuf>,
    /// Send each request of --prompts when its `timestamp` says, instead of concurrency levels
    #[arg(
        long,
        requires = "prompts",
        conflicts_with_all = ["rate", "concurrency", "ramp", "find_max_rate", "requests", "against"]
    )]
    replay: bool,
    /// Begin every generated prompt with this many tokens, the same for all
    #[arg(
        long,
        value_name = "TOKENS",
        requires = "benchmark",
        conflicts_with = "prompts"
    )]
    context_depth: Option<u64>,
    /// Sessions of N requests, one after the other: each prompt is the previous one, its answer and 32
    /// more tokens
    #[arg(
        long,
        value_name = "N",
        requires = "benchmark",
        conflicts_with_all = ["prompts", "rate", "find_max_rate"]
    )]
    turns: Option<usize>,
    /// Start the worker N more times, and measure how long it takes to become ready [default: 10 for
    /// --benchmark startup, else 0]
    #[arg(long, value_name = "N", requires = "benchmark")]
    startups: Option<usize>,
    /// Another worker to compare with in the same run, interleaved (ABBA): a binary, or a revision
    /// of this repository. A regression is a failure
    #[arg(long, value_name = "PATH|REVISION", requires = "benchmark")]
    against: Option<String>,
    /// Differences up to this many percent are no regression [default: 3]
    #[arg(long, value_name = "PERCENT", requires = "benchmark")]
    floor: Option<f64>,
    /// Save the figures of a passing run under this name
    #[arg(
        long,
        value_name = "NAME",
        requires = "benchmark",
        conflicts_with = "against"
    )]
    save_baseline: Option<String>,
    /// Compare with the figures saved under this name, on the same machine with the same model. A
    /// regression is a failure
    #[arg(
        long,
        value_name = "NAME",
        requires = "benchmark",
        conflicts_with = "against"
    )]
    baseline: Option<String>,
}

impl BenchmarkArgs {
    /// The benchmark that is asked for, if one is.
    pub fn into_config(self, max_tokens: Option<u32>) -> Option<BenchmarkConfig> {
        let defaults = BenchmarkConfig::default();
        self.benchmark.map(|measured| BenchmarkConfig {
            measured,
            concurrency: match (self.ramp, self.concurrency.is_empty()) {
                (Some(ramp), _) => ramp.levels(),
                (None, true) => defaults.concurrency,
                (None, false) => self.concurrency,
            },
            rate_per_s: self.rate,
            burstiness: self.burstiness.unwrap_or(defaults.burstiness),
            find_max_rate: self.find_max_rate,
            duration: self.duration.unwrap_or(defaults.duration),
            requests: self.requests,
            warm_up: self.warmup.unwrap_or(defaults.warm_up),
            max_tokens: max_tokens.unwrap_or(defaults.max_tokens),
            objectives: self.goodput.unwrap_or_default(),
            prompts: self.prompts,
            replay: self.replay,
            context_depth: self.context_depth.unwrap_or_default(),
            turns: self.turns.unwrap_or(defaults.turns),
            startups: self.startups.unwrap_or(measured.startups()),
            against: self.against,
            floor: self.floor.map_or(defaults.floor, |percent| percent / 100.0),
            save_baseline: self.save_baseline,
            baseline: self.baseline,
        })
    }
}
