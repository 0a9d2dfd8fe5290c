//! The figures of the engine under the names that llama.cpp's server gives them, with its meanings and
//! units. What it says of drafts isn't here, as nothing is drafted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::engine::Stats;

type Seconds = Counter<f64, AtomicU64>;
type Rate = Gauge<f64, AtomicU64>;

/// What the engine has computed, and how quickly.
#[derive(Debug, Default)]
pub struct LlamaCpp {
    read_tokens: Counter,
    cached_tokens: Counter,
    read_s: Seconds,
    generated_tokens: Counter,
    generation_s: Seconds,
    steps: Counter,
    longest: Gauge,
    read_rate: Rate,
    generation_rate: Rate,
    shared_by: Rate,
    /// What the last scrape saw: the two rates are those since then.
    last: Mutex<Stats>,
}

impl LlamaCpp {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "llamacpp:prompt_tokens",
            "Tokens of prompts that were computed, without those from the cache",
            self.read_tokens.clone(),
        );
        registry.register(
            "llamacpp:prompt_tokens_cached",
            "Tokens of prompts that came from the cache",
            self.cached_tokens.clone(),
        );
        registry.register(
            "llamacpp:prompt_seconds",
            "Time of the forward passes that computed tokens of prompts",
            self.read_s.clone(),
        );
        registry.register(
            "llamacpp:tokens_predicted",
            "Tokens generated",
            self.generated_tokens.clone(),
        );
        registry.register(
            "llamacpp:tokens_predicted_seconds",
            "From first tokens to the ends of their requests, summed over the requests",
            self.generation_s.clone(),
        );
        registry.register("llamacpp:n_decode", "Forward passes", self.steps.clone());
        registry.register(
            "llamacpp:n_tokens_max",
            "The most tokens, prompt and answer together, that a request has had",
            self.longest.clone(),
        );
        registry.register(
            "llamacpp:prompt_tokens_seconds",
            "Tokens of prompts computed a second, since the last scrape",
            self.read_rate.clone(),
        );
        registry.register(
            "llamacpp:predicted_tokens_seconds",
            "Tokens that a request gets a second, since the last scrape",
            self.generation_rate.clone(),
        );
        registry.register(
            "llamacpp:n_busy_slots_per_decode",
            "Mean number of requests under way in a forward pass",
            self.shared_by.clone(),
        );
    }

    /// Takes over what the engine says.
    pub fn update(&self, stats: Stats) {
        let count = |counter: &Counter, count| counter.inner().store(count, Ordering::Relaxed);
        let time = |counter: &Seconds, time: Duration| {
            let seconds = time.as_secs_f64().to_bits();
            counter.inner().store(seconds, Ordering::Relaxed);
        };
        count(&self.read_tokens, stats.read_tokens);
        count(&self.cached_tokens, stats.cached_tokens);
        time(&self.read_s, stats.read_time);
        count(&self.generated_tokens, stats.generated_tokens);
        time(&self.generation_s, stats.generation_time);
        count(&self.steps, stats.steps);
        self.longest.set(stats.longest as i64);
        let steps = stats.steps.max(1) as f64;
        self.shared_by.set(stats.steps_shared as f64 / steps);

        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two scrapes at once the later one may have overtaken this one.
        self.read_rate.set(rate(
            stats.read_tokens.saturating_sub(last.read_tokens),
            stats.read_time.saturating_sub(last.read_time),
        ));
        self.generation_rate.set(rate(
            stats.next_tokens.saturating_sub(last.next_tokens),
            stats.generation_time.saturating_sub(last.generation_time),
        ));
        *last = stats;
    }
}

/// So many in a second; none in no time.
fn rate(tokens: u64, time: Duration) -> f64 {
    match time.is_zero() {
        true => 0.0,
        false => tokens as f64 / time.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_since_the_last_scrape() {
        let figures = LlamaCpp::default();
        let first = Stats {
            read_tokens: 30,
            read_time: Duration::from_secs(3),
            next_tokens: 8,
            generation_time: Duration::from_secs(2),
            steps: 4,
            steps_shared: 6,
            ..Stats::default()
        };
        figures.update(first);
        assert_eq!(figures.read_rate.get(), 10.0);
        assert_eq!(figures.generation_rate.get(), 4.0);
        assert_eq!(figures.shared_by.get(), 1.5);
        figures.update(Stats {
            read_tokens: 130,
            read_time: Duration::from_secs(4),
            ..first
        });
        assert_eq!(figures.read_rate.get(), 100.0);
        assert_eq!(figures.generation_rate.get(), 0.0);
        assert_eq!(figures.read_s.get(), 4.0);
        figures.update(first);
        assert_eq!(figures.read_rate.get(), 0.0);
    }
}
