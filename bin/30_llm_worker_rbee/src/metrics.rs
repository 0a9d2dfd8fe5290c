//! What Prometheus is told, under the names that vLLM and llama.cpp gave these figures where they have
//! them, so that dashboards that are there already show them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::engine::{Completion, Stats};
use crate::heartbeat::BeatCounts;

mod llama_cpp;

use llama_cpp::LlamaCpp;

/// The type of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the histograms' buckets, in seconds.
const FIRST_TOKEN_S: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const NEXT_TOKEN_S: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
const WHOLE_S: [f64; 12] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// All figures of a worker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    beats: Arc<BeatCounts>,
    beats_sent: Counter,
    beats_failed: Counter,
    running: Gauge,
    waiting: Gauge,
    cache_used: Gauge<f64, AtomicU64>,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    succeeded: Family<Vec<(&'static str, &'static str)>, Counter>,
    first_token_s: Histogram,
    next_token_s: Histogram,
    whole_s: Histogram,
    llama_cpp: LlamaCpp,
}

impl Metrics {
    /// Nothing has happened yet. `labels` say which worker and model this is.
    pub fn new(beats: Arc<BeatCounts>, labels: Vec<(&'static str, String)>) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            beats,
            beats_sent: Counter::default(),
            beats_failed: Counter::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            cache_used: Gauge::default(),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            succeeded: Family::default(),
            first_token_s: Histogram::new(FIRST_TOKEN_S),
            next_token_s: Histogram::new(NEXT_TOKEN_S),
            whole_s: Histogram::new(WHOLE_S),
            llama_cpp: LlamaCpp::default(),
        };
        metrics.register(labels);
        metrics
    }

    fn register(&mut self, labels: Vec<(&'static str, String)>) {
        let Self { registry, .. } = self;
        registry.register(
            "worker",
            "Which worker and model this is",
            Info::new(labels),
        );
        for name in ["vllm:num_requests_running", "llamacpp:requests_processing"] {
            registry.register(name, "Requests being generated", self.running.clone());
        }
        for name in ["vllm:num_requests_waiting", "llamacpp:requests_deferred"] {
            registry.register(
                name,
                "Requests waiting for their turn",
                self.waiting.clone(),
            );
        }
        for name in ["vllm:kv_cache_usage_perc", "llamacpp:kv_cache_usage_ratio"] {
            registry.register(
                name,
                "Share of the cache that requests hold, 0 to 1",
                self.cache_used.clone(),
            );
        }
        registry.register(
            "vllm:prompt_tokens",
            "Tokens of prompts",
            self.prompt_tokens.clone(),
        );
        registry.register(
            "vllm:generation_tokens",
            "Tokens generated",
            self.generation_tokens.clone(),
        );
        registry.register(
            "vllm:request_success",
            "Requests served to their end",
            self.succeeded.clone(),
        );
        registry.register(
            "vllm:time_to_first_token_seconds",
            "From a request to its first token",
            self.first_token_s.clone(),
        );
        registry.register(
            "vllm:inter_token_latency_seconds",
            "From a token to the next one",
            self.next_token_s.clone(),
        );
        registry.register(
            "vllm:e2e_request_latency_seconds",
            "From a request to its end",
            self.whole_s.clone(),
        );
        registry.register(
            "worker_heartbeats_sent",
            "Heartbeats that the hive took",
            self.beats_sent.clone(),
        );
        registry.register(
            "worker_heartbeats_failed",
            "Heartbeats that were lost",
            self.beats_failed.clone(),
        );
        self.llama_cpp.register(registry);
    }

    /// A request has got its first token.
    pub fn first_token(&self, after: Duration) {
        self.first_token_s.observe(after.as_secs_f64());
    }

    /// A request has got another token.
    pub fn next_token(&self, after: Duration) {
        self.next_token_s.observe(after.as_secs_f64());
    }

    /// A request was served to its end.
    pub fn end(&self, completion: &Completion, after: Duration) {
        let labels = vec![("finished_reason", completion.finish_reason.name())];
        self.succeeded.get_or_create(&labels).inc();
        self.whole_s.observe(after.as_secs_f64());
    }

    /// All of it as text, with what the engine says of itself.
    pub fn render(&self, stats: Stats) -> String {
        self.running.set(stats.running as i64);
        self.waiting.set(stats.waiting as i64);
        let pages = stats.pages.max(1) as f64;
        self.cache_used.set(stats.pages_used as f64 / pages);
        // These are counted elsewhere, and only ever grow there, too.
        let copy = |counter: &Counter, count| counter.inner().store(count, Ordering::Relaxed);
        copy(&self.prompt_tokens, stats.prompt_tokens);
        copy(&self.generation_tokens, stats.generated_tokens);
        copy(&self.beats_sent, self.beats.sent());
        copy(&self.beats_failed, self.beats.failed());
        self.llama_cpp.update(stats);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}
