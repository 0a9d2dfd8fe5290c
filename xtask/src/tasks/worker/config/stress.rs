//! What a stress run is asked to do, validated. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// More workers than these don't fit on a machine that is to be judged.
const MOST_WORKERS: u32 = 64;

/// More streams than these find every queue full.
const MOST_STREAMS: u32 = 128;

/// Shorter than this, nobody beats twice and no trend is seen.
const SHORTEST: Duration = Duration::from_secs(1);

/// Several workers at once under load.
#[derive(Debug, Clone, PartialEq)]
pub struct StressConfig {
    /// How many workers.
    pub workers: u32,
    /// How many streams ask each of them.
    pub streams: u32,
    /// How long they ask.
    pub duration: Duration,
    /// Whether one of them is killed in the middle.
    pub kill_one: bool,
}

impl Default for StressConfig {
    fn default() -> Self {
        Self {
            workers: 4,
            streams: 2,
            duration: Duration::from_secs(10),
            kill_one: false,
        }
    }
}

impl StressConfig {
    /// Each option by its name on the command line, as the run uses it.
    pub fn options(&self) -> BTreeMap<String, Value> {
        let options = json!({
            "stress": self.workers,
            "streams": self.streams,
            "duration": self.duration.as_secs_f64(),
            "kill-one": self.kill_one,
        });
        serde_json::from_value(options).unwrap_or_default()
    }

    /// Refuses what can't work, in the words of the command line.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            (1..=MOST_WORKERS).contains(&self.workers),
            "--stress {}: must be from 1 to {MOST_WORKERS} workers",
            self.workers
        );
        ensure!(
            (1..=MOST_STREAMS).contains(&self.streams),
            "--streams {}: must be from 1 to {MOST_STREAMS} streams per worker",
            self.streams
        );
        ensure!(
            self.duration >= SHORTEST,
            "--duration and --soak must be at least {} s for a stress run",
            SHORTEST.as_secs()
        );
        ensure!(
            !self.kill_one || self.workers > 1,
            "--kill-one needs at least 2 workers, since the others must keep running\n  try: --stress 2"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_options_are_refused_by_name() {
        let refused = |change: fn(&mut StressConfig)| {
            let mut config = StressConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.workers = 0).contains("--stress 0"));
        assert!(refused(|c| c.workers = 65).contains("64"));
        assert!(refused(|c| c.streams = 0).contains("--streams 0"));
        assert!(refused(|c| c.duration = Duration::from_millis(999)).contains("--duration"));
        let alone = |c: &mut StressConfig| (c.workers, c.kill_one) = (1, true);
        assert!(refused(alone).contains("--stress 2"));
        StressConfig::default().validate().unwrap();
    }
}
