//! How exact the load generator is: measured against a worker whose timing is known, so that its own
//! error stands beside the figures.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::tasks::worker::load::calibration_server::{CalibrationServer, Script};
use crate::tasks::worker::load::generator::{Turn, at_once};
use crate::tasks::worker::load::sample::RequestSample;
use crate::tasks::worker::net::recording::{Recording, record};
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
    server: &CalibrationServer,
    streams: usize,
    script: Script,
    stop: &StopFlag,
) -> Result<Vec<f64>> {
    let mut errors = Vec::new();
    for (number, recording) in read(server, streams, stop)?.iter().enumerate() {
        let sample = whole(recording, script)?;
        let mut sent = server.sent(number).into_iter();
        for (since, tokens) in sample.chunks {
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
    let server = CalibrationServer::start(FLOOD)?;
    let began = Instant::now();
    let recordings = read(&server, 1, stop)?;
    let took = began.elapsed();
    for recording in &recordings {
        whole(recording, FLOOD)?;
    }
    Ok(FLOOD.tokens as f64 / took.as_secs_f64())
}

/// Reads so many streams at once, each on a thread of its own.
fn read(server: &CalibrationServer, streams: usize, stop: &StopFlag) -> Result<Vec<Recording>> {
    let (port, flag) = (server.port, stop.clone());
    at_once(streams as u32, LIMIT, stop, move |number| {
        let request = CalibrationServer::request(number as usize);
        record(port, &request.to_closing_bytes(port), LIMIT, &flag)
    })
}

fn whole(recording: &Recording, script: Script) -> Result<RequestSample> {
    let turn = Turn {
        stream: 0,
        scheduled: None,
    };
    let spelling = CalibrationServer::SPELLING;
    let sample = RequestSample::of(recording, turn, "calibration", spelling);
    ensure!(
        sample.outcome == RequestOutcome::Valid && sample.tokens() == script.tokens,
        "the load generator lost a part of a stream: {} of {} tokens, {:?}",
        sample.tokens(),
        script.tokens,
        sample.outcome
    );
    Ok(sample)
}
