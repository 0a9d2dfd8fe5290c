//! How exact the load generator is: measured against a server whose timing is known, so that its own
//! error stands beside the figures.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::tasks::worker::load::calibrated::{Seen, calibrate};
use crate::tasks::worker::load::calibration_server::{CalibrationServer, Script};
use crate::tasks::worker::net::recording::record;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::{CalibratedLoad, Calibration, Load, RequestRecord};
use crate::tasks::worker::record::scenario::ScenarioRecord;

/// One stream alone: how late a time stamp is.
const ALONE: Script = script(300, 1);

/// Streams and paces, from what any machine can do to what few can.
const LOADS: [(u32, Script); 4] = [
    (1, script(500, 1)),
    (32, script(125, 4)),
    (256, script(125, 4)),
    (512, script(20, 60)),
];

/// As fast as they go: how many events a reader takes.
const FLOOD: Script = script(100_000, 0);

/// How long the rate of a load is held to be calibrated at it,
const HELD: Duration = Duration::from_millis(500);

/// with so many tokens of each stream at least,
const FEWEST_TOKENS: u64 = 10;

/// and no longer between two of them than this, which is calm enough for anybody.
const LONGEST_GAP: Duration = Duration::from_millis(50);

/// Nothing in here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);

const fn script(tokens: u64, gap_ms: u64) -> Script {
    Script {
        tokens,
        gap: Duration::from_millis(gap_ms),
    }
}

/// Measures what holds for every load. Takes about a second.
pub fn measure(stop: &StopFlag) -> Result<Calibration> {
    let alone = calibrate(1, ALONE, stop)?;
    Ok(Calibration {
        error_ms: alone.error_ms,
        crowded_error_ms: None,
        streams: 1,
        events_per_s: ceiling(stop)?,
    })
}

/// Measures loads of several rates. Takes a few seconds.
pub fn across(stop: &StopFlag) -> Result<Vec<CalibratedLoad>> {
    let loads = LOADS.iter();
    loads
        .map(|(streams, script)| calibrate(*streams, *script, stop))
        .collect()
}

/// Measures it at the rate of a load that was measured: as many streams, each with as many reads a
/// second. `None` where there is no rate: a load of single tokens is all about the first.
pub fn at_rate_of(
    record: &ScenarioRecord,
    requests: &[RequestRecord],
    stop: &StopFlag,
) -> Result<Option<CalibratedLoad>> {
    let window = record.window;
    let inside = requests.iter().flat_map(|request| {
        let chunks = request.chunks.iter();
        chunks.filter(|(at, _)| window.contains(request.sent_ms + at))
    });
    let reads = inside.count() as f64;
    let busy_ms: f64 = requests.iter().map(|request| request.took_ms).sum();
    let streams = match record.plan.load {
        Load::Closed { streams } => streams,
        // As many as were under way, on average.
        Load::Open { .. } | Load::Trace { .. } => {
            (busy_ms / 1e3 / window.seconds()).ceil().clamp(1.0, 512.0) as u32
        }
    };
    if record.plan.max_tokens == 1 || reads == 0.0 {
        return Ok(None);
    }
    let gap = Duration::from_secs_f64(f64::from(streams) * window.seconds() / reads);
    let gap = gap.min(LONGEST_GAP);
    let tokens = FEWEST_TOKENS.max((HELD.as_secs_f64() / gap.as_secs_f64()) as u64);
    calibrate(streams, Script { tokens, gap }, stop).map(Some)
}

/// How many events a second the reader takes that has a core for itself.
fn ceiling(stop: &StopFlag) -> Result<f64> {
    let server = CalibrationServer::start(FLOOD)?;
    let began = Instant::now();
    let request = CalibrationServer::request(0).to_closing_bytes(server.port);
    let recording = record(server.port, &request, LIMIT, stop);
    let took = began.elapsed();
    Seen::of(&server, 0, &recording)?;
    Ok(FLOOD.tokens as f64 / took.as_secs_f64())
}
