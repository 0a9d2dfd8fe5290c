//! The loads of a benchmark, in their order.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::measured::REQUEST_LIMIT;
use super::prompts::PromptSource;
use crate::tasks::worker::config::benchmark::{BenchmarkConfig, Measured, PREFILL_LENGTHS};
use crate::tasks::worker::load::windowed::{Budget, Requests};
use crate::tasks::worker::record::bench::{Load, ScenarioPlan};
use crate::tasks::worker::target::Subject;

/// Chance in open loops, the same in every run.
const SEED: u64 = 20_260_101;

/// Fewer requests than these say next to nothing: a scenario goes on until it has them,
const LEAST_REQUESTS: usize = 6;

/// but not for longer than so many times what was asked for.
const PATIENCE: u32 = 12;

/// One load, before it is known what the model has room for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scenario {
    /// The worker's very first request.
    Cold,
    /// One token after a prompt of this length, one request at a time.
    Prefill(u64),
    /// Many tokens after a short prompt, one request at a time.
    Decode,
    /// The same, so many at once.
    Sweep(u32),
    /// The same, whenever chance brings a request, so many a second.
    Open(f64),
    /// The requests of a file, when it says.
    Replay,
}

/// The loads that a benchmark asks for.
pub fn all(config: &BenchmarkConfig) -> Vec<Scenario> {
    if config.measured == Measured::Startup {
        return Vec::new();
    }
    let prefill = config.prompts.is_none().then_some(PREFILL_LENGTHS);
    let prefill = prefill.into_iter().flatten().map(Scenario::Prefill);
    let sweep = match config.rate_per_s.is_some() || config.replay || config.find_max_rate {
        true => Vec::new(),
        false => config.concurrency.clone(),
    };
    [Scenario::Cold]
        .into_iter()
        .chain(prefill)
        .chain([Scenario::Decode])
        .chain(sweep.into_iter().map(Scenario::Sweep))
        .chain(config.rate_per_s.map(Scenario::Open))
        .chain(config.replay.then_some(Scenario::Replay))
        .collect()
}

impl Scenario {
    /// The name of the load.
    pub fn name(&self) -> String {
        match self {
            Scenario::Cold => String::from("cold"),
            Scenario::Prefill(tokens) => format!("prefill_{tokens}"),
            Scenario::Decode => String::from("decode"),
            Scenario::Sweep(streams) => format!("sweep_{streams}"),
            Scenario::Open(rate) => format!("open_{rate}"),
            Scenario::Replay => String::from("replay"),
        }
    }

    /// The name of the verdict on it.
    pub fn id(&self) -> String {
        format!("bench.{}", self.name())
    }

    /// What stands for the `*` in its row of the table of checks.
    pub fn filling(&self) -> String {
        match self {
            Scenario::Cold | Scenario::Decode | Scenario::Replay => String::new(),
            Scenario::Prefill(tokens) => tokens.to_string(),
            Scenario::Sweep(streams) => streams.to_string(),
            Scenario::Open(rate) => rate.to_string(),
        }
    }

    /// What to say where the context had no room for what the name promises.
    pub fn cut_short(&self, plan: &ScenarioPlan) -> Option<String> {
        match (self, plan.prompt_tokens) {
            (Scenario::Prefill(wanted), Some(tokens)) if tokens < *wanted => Some(format!(
                "; prompts of {tokens} tokens, as the context has no room for more"
            )),
            (_, Some(tokens)) if tokens < plan.context_depth => Some(format!(
                "; a depth of less than {tokens} tokens, as the context has no room for more"
            )),
            _ => None,
        }
    }

    /// How long it goes on.
    pub fn budget(&self, config: &BenchmarkConfig) -> Budget {
        if *self == Scenario::Cold {
            return Budget {
                warm_up: Duration::ZERO,
                duration: Duration::ZERO,
                requests: Some(1),
                least: 1,
                at_most: REQUEST_LIMIT,
                limit: REQUEST_LIMIT,
            };
        }
        if *self == Scenario::Replay {
            return Budget {
                warm_up: Duration::ZERO,
                duration: Duration::ZERO,
                requests: Some(usize::MAX),
                least: 1,
                at_most: REQUEST_LIMIT,
                limit: REQUEST_LIMIT,
            };
        }
        Budget {
            warm_up: config.warm_up,
            duration: config.duration,
            requests: config.requests,
            least: LEAST_REQUESTS.max(self.streams() as usize),
            at_most: config.duration * PATIENCE,
            limit: REQUEST_LIMIT,
        }
    }

    /// How many requests are under way at once.
    pub fn streams(&self) -> u32 {
        match self {
            Scenario::Sweep(streams) => *streams,
            _ => 1,
        }
    }

    /// Makes the requests: those of the warm-up, and those that count.
    ///
    /// The first load of all is prepared without asking the worker anything: it is to be cold.
    pub fn prepare(
        &self,
        subject: &Subject<'_>,
        config: &BenchmarkConfig,
        source: &mut Option<PromptSource>,
    ) -> Result<(ScenarioPlan, Requests)> {
        if *self == Scenario::Cold {
            let requests = PromptSource::cold(subject.dialect(), config.max_tokens);
            let plan = self.plan(None, config);
            return Ok((plan, requests));
        }
        let source = match source {
            Some(source) => source,
            None => source.insert(PromptSource::open(subject, config)?),
        };
        self.prepare_from(subject, config, source)
    }

    /// The same for any load but the cold one, with prompts from this source.
    pub fn prepare_from(
        &self,
        subject: &Subject<'_>,
        config: &BenchmarkConfig,
        source: &mut PromptSource,
    ) -> Result<(ScenarioPlan, Requests)> {
        if *self == Scenario::Replay {
            let requests = source.trace(subject.dialect(), config.max_tokens)?;
            let mut plan = self.plan(None, config);
            plan.load = Load::Trace {
                requests: requests.dues.len() as u32,
            };
            return Ok((plan, requests));
        }
        let (prompt_tokens, max_tokens) = match self {
            Scenario::Prefill(tokens) => (*tokens, 1),
            _ => (config.longest_prompt(), config.max_tokens),
        };
        let mut cut = source.cut(prompt_tokens, max_tokens);
        let is_cut = cut
            .prompt_tokens
            .is_some_and(|tokens| tokens < prompt_tokens);
        ensure!(
            !is_cut || config.turns == 1,
            "the context has no room for {} turns\n  try: fewer --turns, or a smaller --max-tokens",
            config.turns
        );
        if config.turns > 1 && !matches!(self, Scenario::Prefill(_)) {
            cut.prompt_tokens = Some(config.first_prompt());
        }
        let mut plan = self.plan(cut.prompt_tokens, config);
        plan.max_tokens = cut.max_tokens;
        if !matches!(self, Scenario::Prefill(_)) {
            plan.context_depth = config.context_depth;
            plan.turns = if config.turns > 1 {
                config.turns as u64
            } else {
                0
            };
        }
        let requests = source.requests(subject, cut)?;
        Ok((plan, requests))
    }

    fn plan(&self, prompt_tokens: Option<u64>, config: &BenchmarkConfig) -> ScenarioPlan {
        let load = match self {
            Scenario::Sweep(streams) => Load::Closed { streams: *streams },
            Scenario::Open(rate_per_s) => Load::Open {
                rate_per_s: *rate_per_s,
                burstiness: config.burstiness,
                seed: SEED,
            },
            _ => Load::Closed { streams: 1 },
        };
        ScenarioPlan {
            name: self.name(),
            load,
            prompt_tokens,
            max_tokens: config.max_tokens,
            context_depth: 0,
            turns: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(config: &BenchmarkConfig) -> Vec<String> {
        let loads = all(config).into_iter();
        loads.map(|scenario| scenario.name()).collect()
    }

    #[test]
    fn a_rate_takes_the_place_of_the_sweep_and_a_file_that_of_prefill() {
        let mut config = BenchmarkConfig::default();
        let default =
            "cold prefill_32 prefill_128 prefill_512 decode sweep_1 sweep_2 sweep_4 sweep_8";
        assert_eq!(names(&config).join(" "), default);
        config.rate_per_s = Some(2.5);
        config.prompts = Some("p.jsonl".into());
        assert_eq!(names(&config), ["cold", "decode", "open_2.5"]);
        (config.rate_per_s, config.replay) = (None, true);
        assert_eq!(names(&config), ["cold", "decode", "replay"]);
        config.measured = Measured::Startup;
        assert!(names(&config).is_empty());
    }
}
