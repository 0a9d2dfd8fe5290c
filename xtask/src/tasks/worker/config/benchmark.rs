//! What a benchmark is asked to do, validated. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use crate::tasks::worker::record::bench::Objectives;

/// More streams than this are more than one client can be trusted with.
pub const MOST_STREAMS: u32 = 512;

/// A session, a context and a wait that are longer than these are a mistake.
const MOST_TURNS: usize = 64;
const MOST_DEPTH: u64 = 1 << 20;
const MOST_STARTUPS: usize = 1000;

/// The length of the prompts of scenarios that aren't about prefill, in tokens.
pub const SHORT_PROMPT: u64 = 32;

/// The lengths of the prompts of scenarios that are, in tokens.
pub const PREFILL_LENGTHS: [u64; 3] = [32, 128, 512];

/// What a benchmark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// Prefill, decode, and concurrent streams
    Loads,
    /// How long the worker takes to become ready, and nothing else
    Startup,
}

impl Measured {
    /// How many more times the worker is started, where nobody says.
    pub fn startups(self) -> usize {
        match self {
            Measured::Loads => 0,
            Measured::Startup => 10,
        }
    }
}

/// One benchmark.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchmarkConfig {
    /// What is measured.
    pub measured: Measured,
    /// How many streams at once, one scenario each.
    pub concurrency: Vec<u32>,
    /// Requests a second that come by chance, instead of those scenarios.
    pub rate_per_s: Option<f64>,
    /// The shape of the gamma distribution of the gaps between them.
    pub burstiness: f64,
    /// Whether the highest rate is looked for that keeps the objectives, instead of those scenarios.
    pub find_max_rate: bool,
    /// How long each scenario counts.
    pub duration: Duration,
    /// Exactly so many requests a scenario, instead of a duration.
    pub requests: Option<usize>,
    /// How long each scenario goes on before it counts.
    pub warm_up: Duration,
    /// The largest number of tokens that each request asks for.
    pub max_tokens: u32,
    /// What requests have to keep to count as good.
    pub objectives: Objectives,
    /// A file of prompts, instead of made ones.
    pub prompts: Option<PathBuf>,
    /// Whether its requests are sent when their time stamps say, instead of those scenarios.
    pub replay: bool,
    /// Tokens with which each made prompt begins, the same for all.
    pub context_depth: u64,
    /// Requests of a session.
    pub turns: usize,
    /// How many more times the worker is started, to see how long that takes.
    pub startups: usize,
    /// Another worker to compare with: a binary, or a revision of this repository.
    pub against: Option<String>,
    /// Effects up to this are no regression: 0.03 is 3 %.
    pub floor: f64,
    /// The name under which the figures are kept.
    pub save_baseline: Option<String>,
    /// The name of the figures to compare with.
    pub baseline: Option<String>,
}

impl Default for BenchmarkConfig {
    fn default() -> Self {
        Self {
            measured: Measured::Loads,
            concurrency: vec![1, 2, 4, 8],
            rate_per_s: None,
            burstiness: 1.0,
            find_max_rate: false,
            duration: Duration::from_secs(5),
            requests: None,
            warm_up: Duration::from_secs(1),
            max_tokens: 128,
            objectives: Objectives::default(),
            prompts: None,
            replay: false,
            context_depth: 0,
            turns: 1,
            startups: 0,
            against: None,
            floor: 0.03,
            save_baseline: None,
            baseline: None,
        }
    }
}

impl BenchmarkConfig {
    /// Each option by its name on the command line, as the run uses it.
    pub fn options(&self) -> BTreeMap<String, Value> {
        let options = json!({
            "benchmark": self.measured,
            "concurrency": self.concurrency,
            "rate": self.rate_per_s,
            "burstiness": self.burstiness,
            "find-max-rate": self.find_max_rate,
            "duration": self.duration.as_secs_f64(),
            "requests": self.requests,
            "warmup": self.warm_up.as_secs_f64(),
            "max-tokens": self.max_tokens,
            "goodput": self.objectives,
            "prompts": self.prompts.as_deref().map(Path::to_string_lossy),
            "replay": self.replay,
            "context-depth": self.context_depth,
            "turns": self.turns,
            "startups": self.startups,
            "against": self.against,
            "floor": self.floor * 100.0,
            "save-baseline": self.save_baseline,
            "baseline": self.baseline,
        });
        serde_json::from_value(options).unwrap_or_default()
    }

    /// The first prompt of a load that isn't about prefill, in tokens.
    pub fn first_prompt(&self) -> u64 {
        self.context_depth + SHORT_PROMPT
    }

    /// The room that the longest of them needs: a session's last has all answers before it, which may be
    /// more tokens than they were when they are read again.
    pub fn longest_prompt(&self) -> u64 {
        let answer = u64::from(self.max_tokens) * 5 / 4;
        self.first_prompt() + (SHORT_PROMPT + answer) * (self.turns as u64 - 1)
    }

    /// Refuses what can't work, in the words of the command line.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            !self.concurrency.is_empty(),
            "--concurrency needs at least one number"
        );
        for streams in &self.concurrency {
            ensure!(
                (1..=MOST_STREAMS).contains(streams),
                "--concurrency {streams}: must be from 1 to {MOST_STREAMS} streams"
            );
        }
        if let Some(rate) = self.rate_per_s {
            ensure!(
                rate.is_finite() && rate > 0.0 && rate <= 10_000.0,
                "--rate {rate}: must be more than 0 and at most 10000 requests per second"
            );
        }
        ensure!(
            self.burstiness.is_finite() && (0.01..=1000.0).contains(&self.burstiness),
            "--burstiness {}: from 0.01 to 1000",
            self.burstiness
        );
        ensure!(
            self.burstiness == 1.0 || self.rate_per_s.is_some() || self.find_max_rate,
            "--burstiness is about arrivals: it needs --rate or --find-max-rate"
        );
        ensure!(
            (1..=MOST_TURNS).contains(&self.turns),
            "--turns {}: from 1 to {MOST_TURNS}",
            self.turns
        );
        ensure!(
            self.context_depth <= MOST_DEPTH,
            "--context-depth {}: up to {MOST_DEPTH} tokens",
            self.context_depth
        );
        ensure!(
            self.startups <= MOST_STARTUPS,
            "--startups {}: up to {MOST_STARTUPS}",
            self.startups
        );
        let starts_alone = BenchmarkConfig {
            measured: Measured::Startup,
            startups: self.startups.max(1),
            max_tokens: self.max_tokens,
            ..BenchmarkConfig::default()
        };
        ensure!(
            self.measured == Measured::Loads || *self == starts_alone,
            "--benchmark startup measures starts alone: --startups, from 1, is its only option"
        );
        let most = self.concurrency.iter().max().copied().unwrap_or(1);
        if let Some(requests) = self.requests {
            ensure!(
                requests >= most as usize,
                "--requests {requests} is less than --concurrency {most}: each stream must send at least one"
            );
        }
        ensure!(!self.duration.is_zero(), "--duration must be more than 0");
        ensure!(
            self.floor.is_finite() && (0.0..1.0).contains(&self.floor),
            "--floor must be a percentage from 0 to less than 100"
        );
        for (option, name) in [
            ("--save-baseline", &self.save_baseline),
            ("--baseline", &self.baseline),
        ] {
            if let Some(name) = name {
                ensure_file_name(option, name)?;
            }
        }
        Ok(())
    }
}

/// A name that is also a file's, on every system.
fn ensure_file_name(option: &str, name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        !name.is_empty() && name.chars().all(is_plain) && !name.starts_with('.'),
        "{option} {name}: a name consists of letters, digits, `-`, `_` and `.`"
    );
    Ok(())
}

/// Concurrency levels that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    from: u32,
    to: u32,
}

impl Ramp {
    /// From the first to the last, both included.
    pub fn levels(self) -> Vec<u32> {
        let levels = std::iter::successors(Some(self.from), |level| level.checked_mul(2));
        let levels = levels.take_while(|level| *level < self.to);
        levels.chain([self.to]).collect()
    }
}

/// Reads `1..64`.
pub fn parse_ramp(text: &str) -> Result<Ramp> {
    let numbers = text
        .split_once("..")
        .map(|(from, to)| (from.trim().parse(), to.trim().parse()));
    match numbers {
        Some((Ok(from), Ok(to))) if from >= 1 && from <= to => Ok(Ramp { from, to }),
        _ => bail!("`{text}` is no ramp: FROM..TO, as in 1..64"),
    }
}

/// Reads `ttft:200ms,tpot:50ms`.
pub fn parse_objectives(text: &str) -> Result<Objectives> {
    let mut objectives = Objectives::default();
    for part in text.split(',') {
        let Some((name, limit)) = part.split_once(':') else {
            bail!("`{part}` is not an objective: write NAME:DURATION, as in ttft:200ms");
        };
        let limit_ms = parse_duration(limit)?.as_secs_f64() * 1e3;
        let place = match name.trim() {
            "ttft" => &mut objectives.ttft_ms,
            "tpot" => &mut objectives.tpot_ms,
            "e2e" => &mut objectives.e2e_ms,
            other => bail!("there is no objective `{other}`: use ttft, tpot or e2e"),
        };
        ensure!(place.replace(limit_ms).is_none(), "`{name}` is given twice");
    }
    Ok(objectives)
}

/// Reads `200ms`, `1.5s`, `10m` or `1h`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let text = text.trim();
    let digits = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => bail!("`{text}` has no known unit: use ms, s, m or h"),
    };
    let seconds = number.trim().parse::<f64>().map(|number| number * factor);
    match seconds {
        Ok(seconds) if seconds.is_finite() && (0.0..1e9).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => bail!("`{text}` is not a duration, such as 200ms, 1.5s, 10m or 1h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text: &str| parse_duration(text).unwrap().as_millis();
        assert_eq!(
            [ms("200ms"), ms("1.5s"), ms("2"), ms(" 10m"), ms("1h")],
            [200, 1500, 2000, 600_000, 3_600_000]
        );
        for text in ["", "ms", "-1s", "1x", "1e99s", "nan", "inf"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ramp_doubles_and_ends_where_it_is_to() {
        let levels = |text: &str| parse_ramp(text).unwrap().levels();
        assert_eq!(levels("1..64"), [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(levels("3..20"), [3, 6, 12, 20]);
        assert_eq!(levels("5..5"), [5]);
        for text in ["", "1", "0..4", "4..1", "a..b", "1..2..3"] {
            assert!(parse_ramp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn objectives_have_names_and_limits() {
        let objectives = parse_objectives("ttft:200ms,tpot:0.05s").unwrap();
        assert_eq!(
            (objectives.ttft_ms, objectives.tpot_ms, objectives.e2e_ms),
            (Some(200.0), Some(50.0), None)
        );
        for text in ["", "ttft", "ttft:", "speed:1s", "ttft:1s,ttft:2s"] {
            assert!(parse_objectives(text).is_err(), "{text}");
        }
    }

    #[test]
    fn impossible_options_are_refused_by_name() {
        let refused = |change: fn(&mut BenchmarkConfig)| {
            let mut config = BenchmarkConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.concurrency.clear()).contains("--concurrency"));
        assert!(refused(|c| c.concurrency = vec![0]).contains("--concurrency 0"));
        assert!(refused(|c| c.concurrency = vec![513]).contains("512"));
        assert!(refused(|c| c.rate_per_s = Some(0.0)).contains("--rate"));
        assert!(refused(|c| c.burstiness = 0.0).contains("--burstiness 0"));
        assert!(refused(|c| c.burstiness = 2.0).contains("--rate"));
        assert!(refused(|c| c.turns = 0).contains("--turns"));
        assert!(refused(|c| c.context_depth = u64::MAX).contains("--context-depth"));
        assert!(refused(|c| c.startups = 1001).contains("--startups"));
        assert!(refused(|c| c.measured = Measured::Startup).contains("--startups, from 1"));
        assert!(refused(|c| c.requests = Some(7)).contains("--requests 7"));
        assert!(refused(|c| c.duration = Duration::ZERO).contains("--duration"));
        assert!(refused(|c| c.floor = 1.0).contains("--floor"));
        assert!(refused(|c| c.baseline = Some("../x".into())).contains("--baseline"));
        BenchmarkConfig::default().validate().unwrap();
    }
}
