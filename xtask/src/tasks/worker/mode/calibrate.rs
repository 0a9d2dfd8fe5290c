//! How exact the load generator is: measured against a worker whose timing is known, so that its own
//! error stands beside the figures.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::tasks::worker::load::calibration_server::{CalibrationServer, Script};
use crate::tasks::worker::load::timed;
use crate::tasks::worker::load::timed::{Recording, Timed};
use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::{Calibration, RequestOutcome};
use crate::tasks::worker::record::stats::Distribution;

/// One stream alone: how late a time stamp is.
const ALONE: Script = Script {
    tokens: 300,
    gap: Duration::from_millis(1),
};

/// Many streams at once: how late it is then.
const CROWD: Script = Script {
    tokens: 20,
    gap: Duration::from_millis(60),
};

/// As fast as they go: how many events a reader takes.
const FLOOD: Script = Script {
    tokens: 100_000,
    gap: Duration::ZERO,
};

/// How many streams there are at once, where the system allows so many open files.
const STREAMS: usize = 512;

/// Files that a run has open besides.
const OTHER_FILES: u64 = 256;

/// Nothing in here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Measures it. Takes about two seconds.
pub fn measure(stop: &StopFlag) -> Result<Calibration> {
    // Both ends of each stream are ours.
    let files = platform::allow_open_files(2 * STREAMS as u64 + OTHER_FILES);
    let streams = STREAMS.min((files.saturating_sub(OTHER_FILES) / 2).max(1) as usize);
    let alone = errors(&CalibrationServer::start(ALONE)?, 1, ALONE, stop)?;
    let crowd = errors(&CalibrationServer::start(CROWD)?, streams, CROWD, stop)?;
    Ok(Calibration {
        error_ms: Distribution::of(&alone).context("no token came")?,
        crowded_error_ms: Distribution::of(&crowd),
        streams: streams as u32,
        events_per_s: ceiling(stop)?,
    })
}

/// By how many milliseconds each token was seen later than it was sent.
fn errors(
    worker: &CalibrationServer,
    streams: usize,
    script: Script,
    stop: &StopFlag,
) -> Result<Vec<f64>> {
    let recordings = record(worker, streams, stop)?;
    let mut errors = Vec::new();
    for (number, recording) in recordings {
        let timed = whole(&recording, script)?;
        let mut sent = worker.sent(number).into_iter();
        for (since, tokens) in timed.chunks {
            let seen = recording.sent + since;
            // Where several came at once, each has an error of its own.
            for sent in sent.by_ref().take(tokens as usize) {
                errors.push(seen.saturating_duration_since(sent).as_secs_f64() * 1e3);
            }
        }
    }
    Ok(errors)
}

/// How many events a second a reader takes that has a core for itself.
fn ceiling(stop: &StopFlag) -> Result<f64> {
    let worker = CalibrationServer::start(FLOOD)?;
    let began = Instant::now();
    let recordings = record(&worker, 1, stop)?;
    let took = began.elapsed();
    for (_, recording) in &recordings {
        whole(recording, FLOOD)?;
    }
    Ok(FLOOD.tokens as f64 / took.as_secs_f64())
}

/// Reads so many streams at once, each on a thread of its own.
fn record(
    worker: &CalibrationServer,
    streams: usize,
    stop: &StopFlag,
) -> Result<Vec<(usize, Recording)>> {
    let (sender, receiver) = channel();
    for number in 0..streams {
        let sender = sender.clone();
        let port = worker.port;
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        thread
            .spawn(move || {
                let request = timed::spell(&CalibrationServer::request(number));
                // Nobody listens any more after an interruption.
                let _ = sender.send((number, timed::record(port, &request, LIMIT)));
            })
            .context("cannot start another thread")?;
    }
    drop(sender);
    let mut recordings = Vec::new();
    stop.wait_for("the streams of the tare", LIMIT, || {
        recordings.extend(receiver.try_iter());
        Ok((recordings.len() == streams).then_some(()))
    })?;
    Ok(recordings)
}

fn whole(recording: &Recording, script: Script) -> Result<Timed> {
    let timed = recording.digest();
    let tokens: u64 = timed
        .chunks
        .iter()
        .map(|(_, tokens)| u64::from(*tokens))
        .sum();
    ensure!(
        timed.outcome == RequestOutcome::Valid && tokens == script.tokens,
        "the load generator lost a part of a stream: {tokens} of {} tokens, {:?}",
        script.tokens,
        timed.outcome
    );
    Ok(timed)
}
