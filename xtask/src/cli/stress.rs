//! The options of `--stress`, as types.

use std::time::Duration;

use clap::{ArgGroup, Args};

use crate::tasks::worker::config::benchmark::parse_duration;
use crate::tasks::worker::config::stress::StressConfig;

/// Several workers at once under load, for leaks, unfairness and what one's death does to the others.
#[derive(Debug, Args)]
#[command(
    next_help_heading = "Stress",
    group = ArgGroup::new("load").args(["benchmark", "stress"]),
    group = ArgGroup::new("stressed").args(["stress", "soak"]).multiple(true)
)]
pub struct StressArgs {
    /// Put so many workers under load at once: the first on --port, the others on ports that are
    /// picked, all of them with one hive [default: 4]
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        default_missing_value = "4",
        conflicts_with_all = ["suite", "check", "calibrate", "self_test", "list_checks", "explain"]
    )]
    stress: Option<u32>,
    /// How many streams ask each worker [default: 2]
    #[arg(long, value_name = "M", requires = "stressed")]
    streams: Option<u32>,
    /// Kill one of them in the middle, and start it again
    #[arg(long, requires = "stressed")]
    kill_one: bool,
    /// Stress for so long, with a line every minute: 1h, 90m
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_duration,
        conflicts_with_all = ["benchmark", "duration", "suite", "check", "calibrate", "self_test", "list_checks", "explain"]
    )]
    soak: Option<Duration>,
}

impl StressArgs {
    /// The stress that is asked for, if any is. `duration` is what the benchmark and this share.
    pub fn into_config(self, duration: Option<Duration>) -> Option<StressConfig> {
        let defaults = StressConfig::default();
        (self.stress.is_some() || self.soak.is_some()).then(|| StressConfig {
            workers: self.stress.unwrap_or(defaults.workers),
            streams: self.streams.unwrap_or(defaults.streams),
            duration: self.soak.or(duration).unwrap_or(defaults.duration),
            kill_one: self.kill_one,
        })
    }
}
