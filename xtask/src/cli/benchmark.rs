//! The options of `--benchmark`, as types.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::tasks::worker::config::benchmark::{BenchmarkConfig, parse_duration, parse_objectives};
use crate::tasks::worker::record::bench::Objectives;

/// Measure instead of check: TTFT, ITL, TPOT, E2E, tokens per second.
#[derive(Debug, Args)]
#[command(next_help_heading = "Benchmark")]
pub struct BenchmarkArgs {
    /// Measure the worker: prefill, decode, and several streams at once
    #[arg(long)]
    pub benchmark: bool,
    /// How many streams at once, one load each [default: 1,2,4,8]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        requires = "benchmark"
    )]
    concurrency: Vec<u32>,
    /// Requests a second that come by chance, whatever the worker does, instead of streams that
    /// wait for their answers; judged from the time at which each was due
    #[arg(
        long,
        value_name = "R",
        requires = "benchmark",
        conflicts_with = "concurrency"
    )]
    rate: Option<f64>,
    /// How long each load counts: 5s, 500ms, 2m [default: 5s, or 10s for --stress]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "load")]
    pub duration: Option<Duration>,
    /// Exactly so many requests a load, instead of a duration
    #[arg(
        long,
        value_name = "N",
        requires = "benchmark",
        conflicts_with = "duration"
    )]
    requests: Option<usize>,
    /// How long each load goes on before it counts [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "benchmark")]
    warmup: Option<Duration>,
    /// What a request must keep to count as good: ttft:200ms,tpot:50ms,e2e:2s
    #[arg(long, value_name = "LIMITS", value_parser = parse_objectives, requires = "benchmark")]
    goodput: Option<Objectives>,
    /// Measure the client instead of a worker: its own error and its limits
    #[arg(long, alias = "tare", conflicts_with_all = ["benchmark", "list_checks", "explain", "self_test"])]
    pub calibrate: bool,
    /// Prompts to use, a JSON string or an object with `prompt` a line [default: made to a length]
    #[arg(long, value_name = "FILE.jsonl", requires = "benchmark")]
    prompts: Option<PathBuf>,
    /// Another worker to compare with, turn about in one run: a binary, or a revision of this
    /// repository. A regression is a failure
    #[arg(long, value_name = "PATH|REVISION", requires = "benchmark")]
    against: Option<String>,
    /// Effects up to so many percent are no regression [default: 3]
    #[arg(long, value_name = "PERCENT", requires = "benchmark")]
    floor: Option<f64>,
    /// Keep the figures of a green run under this name
    #[arg(
        long,
        value_name = "NAME",
        requires = "benchmark",
        conflicts_with = "against"
    )]
    save_baseline: Option<String>,
    /// Compare with the figures that were kept under this name, on the same machine with the same
    /// model. A regression is a failure
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
        self.benchmark.then(|| BenchmarkConfig {
            concurrency: if self.concurrency.is_empty() {
                defaults.concurrency
            } else {
                self.concurrency
            },
            rate_per_s: self.rate,
            duration: self.duration.unwrap_or(defaults.duration),
            requests: self.requests,
            warm_up: self.warmup.unwrap_or(defaults.warm_up),
            max_tokens: max_tokens.unwrap_or(defaults.max_tokens),
            objectives: self.goodput.unwrap_or_default(),
            prompts: self.prompts,
            against: self.against,
            floor: self.floor.map_or(defaults.floor, |percent| percent / 100.0),
            save_baseline: self.save_baseline,
            baseline: self.baseline,
        })
    }
}
