//! How far a load's figures are the worker's, and not those of the client that took them. Pure.

use serde::{Deserialize, Serialize};

use crate::tasks::worker::record::stats::Distribution;

/// A client whose median error is within this is exact enough for anybody.
const ERROR_MS: f64 = 1.0;

/// Beyond that, it may be this part of the shortest time that the load measured.
const ERROR_SHARE: f64 = 0.1;

/// Where more tokens than this share a read although each was sent alone, times between tokens are the
/// client's.
const COALESCED_SHARE: f64 = 0.2;

/// A client that takes less than this of a rate wasn't calibrated at it.
const REACHED_SHARE: f64 = 0.9;

/// What is known of the client under one load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// By how much a token of known timing was seen late while the load went on, in milliseconds.
    pub error_ms: Option<Distribution>,
    /// The same under a load of the same rate, each of whose tokens has a known timing.
    pub calibrated: Option<CalibratedLoad>,
}

/// How exact the client is at one rate, measured against a server that sends each token alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibratedLoad {
    /// How many streams were read at once.
    pub streams: u32,
    /// The time between two tokens of a stream.
    pub gap_ms: f64,
    /// By how much a token was seen later than it was sent, in milliseconds.
    pub error_ms: Distribution,
    /// The share of tokens that shared a read with another, 0 to 1.
    pub coalesced: f64,
    /// The share of that rate that client and server reached together on this machine.
    pub reached: f64,
}

impl ClientRecord {
    /// Why the figures of a load can't be told from the client's own, if they can't. `shortest_ms` is
    /// the shortest median of the times that the load measured.
    pub fn doubt(&self, shortest_ms: Option<f64>) -> Option<String> {
        let limit_ms = shortest_ms.map_or(ERROR_MS, |ms| ERROR_MS.max(ms * ERROR_SHARE));
        let calibrated = self.calibrated.as_ref();
        let errors = [
            self.error_ms.as_ref(),
            calibrated.map(|load| &load.error_ms),
        ];
        let late = errors
            .into_iter()
            .flatten()
            .find(|error| error.p50 > limit_ms);
        let late = late.map(|error| {
            format!(
                "it sees tokens {:.1} ms late in the median, and {limit_ms:.1} ms is the limit",
                error.p50
            )
        });
        let slow = calibrated.filter(|load| load.reached < REACHED_SHARE);
        let slow = slow.map(|load| {
            let percent = load.reached * 100.0;
            format!("of this rate, only {percent:.0} % were reached when it was calibrated")
        });
        let bundled = calibrated.filter(|load| load.coalesced > COALESCED_SHARE);
        let bundled = bundled.map(|load| {
            let percent = load.coalesced * 100.0;
            format!("at this rate it reads {percent:.0} % of tokens together with others")
        });
        let doubt = late.or(slow).or(bundled)?;
        Some(format!(
            "the load generator can't measure this load: {doubt}\n  try: fewer streams, or more cores"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(error_ms: f64, coalesced: f64, reached: f64) -> CalibratedLoad {
        CalibratedLoad {
            streams: 256,
            gap_ms: 4.0,
            error_ms: Distribution::single(error_ms, 100),
            coalesced,
            reached,
        }
    }

    fn doubt(calibrated: CalibratedLoad, shortest_ms: f64) -> Option<String> {
        let record = ClientRecord {
            error_ms: None,
            calibrated: Some(calibrated),
        };
        record.doubt(Some(shortest_ms))
    }

    #[test]
    fn figures_are_in_doubt_beyond_each_limit_and_not_before() {
        assert_eq!(doubt(load(1.0, 0.2, 0.9), 4.0), None);
        let said = |load, shortest_ms| doubt(load, shortest_ms).unwrap_or_default();
        assert!(said(load(1.1, 0.0, 1.0), 4.0).contains("1.1 ms late"));
        assert!(said(load(0.1, 0.21, 1.0), 4.0).contains("21 % of tokens together"));
        assert!(said(load(0.1, 0.0, 0.89), 4.0).contains("only 89 % were reached"));
        // What takes long may be seen late by a part of it.
        assert_eq!(doubt(load(5.0, 0.0, 1.0), 50.0), None);
        let during = ClientRecord {
            error_ms: Some(Distribution::single(6.0, 100)),
            calibrated: None,
        };
        assert!(during.doubt(Some(50.0)).is_some());
        assert_eq!(ClientRecord::default().doubt(None), None);
    }
}
