//! What the client sees of a server whose timing is known: at the rate of a load, and beside one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::calibration_server::{CalibrationServer, Script};
use super::generator::{LoadGenerator, Next, Turn, at_once};
use super::sample::RequestSample;
use crate::tasks::worker::net::recording::{Recording, record};
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::{CalibratedLoad, Load, RequestOutcome};
use crate::tasks::worker::record::stats::Distribution;

/// What is read beside a load: seldom enough to cost it nothing.
const PROBE: Script = Script {
    tokens: 10,
    gap: Duration::from_millis(10),
};

/// Files that a run has open besides.
const OTHER_FILES: u64 = 256;

/// Nothing in here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// What was seen of one answer.
#[derive(Debug)]
pub struct Seen {
    /// When each token was seen, and by how much later than it was sent.
    pub tokens: Vec<(Instant, Duration)>,
    /// How many of them shared a read with another.
    pub coalesced: usize,
    /// The median time between two that were sent: one pause of a busy machine doesn't move it.
    pub sent_gap: Duration,
}

impl Seen {
    /// Holds a recording against what the server knows of it. Fails where a part of it is missing.
    pub fn of(server: &CalibrationServer, number: usize, recording: &Recording) -> Result<Self> {
        let turn = Turn {
            stream: 0,
            scheduled: None,
        };
        let spelling = CalibrationServer::SPELLING;
        let sample = RequestSample::of(recording, turn, "calibration", spelling);
        ensure!(
            sample.outcome == RequestOutcome::Valid && sample.tokens() == server.script.tokens,
            "the load generator lost a part of a stream: {} of {} tokens, {:?}",
            sample.tokens(),
            server.script.tokens,
            sample.outcome
        );
        let sent = server.take_sent(number);
        let mut gaps: Vec<Duration> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        let sent_gap = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
        let (mut tokens, mut coalesced) = (Vec::with_capacity(sent.len()), 0);
        let mut sent = sent.into_iter();
        for (since, count) in sample.chunks {
            let seen = recording.sent + since;
            if count > 1 {
                coalesced += count as usize;
            }
            // Where several came at once, each has an error of its own.
            let sent = sent.by_ref().take(count as usize);
            tokens.extend(sent.map(|sent| (seen, seen.saturating_duration_since(sent))));
        }
        Ok(Self {
            tokens,
            coalesced,
            sent_gap,
        })
    }
}

/// Measures the client's error under so many streams of this pace, or as many as the system has files for.
pub fn calibrate(streams: u32, script: Script, stop: &StopFlag) -> Result<CalibratedLoad> {
    // Both ends of each stream are ours.
    let files = platform::allow_open_files(2 * u64::from(streams) + OTHER_FILES);
    let streams = streams.min((files.saturating_sub(OTHER_FILES) / 2).max(1) as u32);
    let server = CalibrationServer::start(script)?;
    let (port, flag) = (server.port, stop.clone());
    let recordings = at_once(streams, LIMIT, stop, move |number| {
        let request = CalibrationServer::request(number as usize);
        record(port, &request.to_closing_bytes(port), LIMIT, &flag)
    })?;
    let (mut errors, mut coalesced, mut reached) = (Vec::new(), 0, 0.0);
    for (number, recording) in recordings.iter().enumerate() {
        let seen = Seen::of(&server, number, recording)?;
        let late = seen.tokens.iter().map(|(_, late)| late.as_secs_f64() * 1e3);
        errors.extend(late);
        coalesced += seen.coalesced;
        let longest = seen.sent_gap.max(script.gap).as_secs_f64();
        reached += script.gap.as_secs_f64() / longest.max(f64::MIN_POSITIVE);
    }
    Ok(CalibratedLoad {
        streams,
        gap_ms: script.gap.as_secs_f64() * 1e3,
        coalesced: coalesced as f64 / errors.len().max(1) as f64,
        reached: reached / recordings.len().max(1) as f64,
        error_ms: Distribution::of(&errors).context("no token came")?,
    })
}

/// A stream of known timing that is read beside a load, by the same thread: what it sees late, the load
/// sees late.
#[derive(Debug)]
pub struct Probe {
    generator: LoadGenerator,
    tokens: Arc<Mutex<Vec<(Instant, Duration)>>>,
}

impl Probe {
    /// Begins to read.
    pub fn start(stop: &StopFlag) -> Result<Self> {
        let server = CalibrationServer::start(PROBE)?;
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let (seen, flag, numbers) = (Arc::clone(&tokens), stop.clone(), AtomicUsize::new(0));
        let job = move |_: Turn| {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let request = CalibrationServer::request(number).to_closing_bytes(server.port);
            let recording = record(server.port, &request, LIMIT, &flag);
            match Seen::of(&server, number, &recording) {
                Ok(one) => {
                    lock(&seen).extend(one.tokens);
                    Next::Again
                }
                Err(_) => Next::AfterFailure,
            }
        };
        Ok(Self {
            generator: LoadGenerator::start(Load::Closed { streams: 1 }, &Arc::new(job))?,
            tokens,
        })
    }

    /// Ends it, and gives by how much tokens were late that were seen between these moments.
    pub fn end(self, (from, to): (Instant, Instant), stop: &StopFlag) -> Result<Vec<Duration>> {
        self.generator.end();
        self.generator.settle(LIMIT, stop, || Ok(()))?;
        let tokens = lock(&self.tokens);
        let inside = tokens.iter().filter(|(at, _)| *at >= from && *at < to);
        Ok(inside.map(|(_, late)| *late).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_beyond_what_the_machine_can_do_is_said_to_be_missed() {
        // Two million tokens a second, each with a write and a read of its own.
        let script = Script {
            tokens: 100,
            gap: Duration::from_micros(128),
        };
        let calibrated = calibrate(256, script, &StopFlag::default()).unwrap();
        assert!(calibrated.reached < 0.5, "{calibrated:?}");
        let record = crate::tasks::worker::record::bench::ClientRecord {
            error_ms: None,
            calibrated: Some(calibrated),
        };
        assert!(record.doubt(Some(0.128)).is_some());
    }

    #[test]
    fn a_calm_rate_is_reached() {
        let script = Script {
            tokens: 10,
            gap: Duration::from_millis(20),
        };
        let calibrated = calibrate(2, script, &StopFlag::default()).unwrap();
        assert_eq!(calibrated.error_ms.n, 20);
        assert!(calibrated.reached > 0.5, "{calibrated:?}");
    }

    #[test]
    fn a_probe_tells_of_the_time_that_is_asked_for_and_of_no_other() {
        let stop = StopFlag::default();
        let probe = Probe::start(&stop).unwrap();
        let began = Instant::now();
        stop.let_pass(Duration::from_millis(250)).unwrap();
        let all = (began, began + LIMIT);
        let late = probe.end(all, &stop).unwrap();
        assert!(late.len() >= PROBE.tokens as usize, "{late:?}");
        let probe = Probe::start(&stop).unwrap();
        let before = (began, began);
        assert!(probe.end(before, &stop).unwrap().is_empty());
    }
}
