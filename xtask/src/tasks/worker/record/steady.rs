//! Whether a load was steady in its window. Pure.

use super::bench::{RequestRecord, Window};
use super::stats::{Confidence, mean_interval, slope};

/// The window is looked at in so many parts.
const PARTS: usize = 10;

/// Parts with fewer tokens than these say nothing.
const LEAST_TOKENS: f64 = 20.0;

/// A rate that changes by less than this part over the window is steady.
const DRIFT: f64 = 0.1;

/// By which part of itself the rate of tokens changed from the beginning of the window to its end, by a
/// straight line through ten parts of it; 0 where the line's 99 % interval has 0 in it. `None` where
/// there are too few tokens to say.
pub fn drift(window: Window, requests: &[RequestRecord]) -> Option<f64> {
    let parts = tokens_in_parts(window, requests);
    let mean = parts.iter().sum::<f64>() / PARTS as f64;
    if mean < LEAST_TOKENS {
        return None;
    }
    let points: Vec<(f64, f64)> = (0..)
        .zip(parts)
        .map(|(at, tokens)| (f64::from(at), tokens))
        .collect();
    let line = slope(&points, Confidence::P99)?;
    let is_sure = line.interval.0 > 0.0 || line.interval.1 < 0.0;
    Some(if is_sure {
        line.slope * PARTS as f64 / mean
    } else {
        0.0
    })
}

/// A 95 % interval of the rate of tokens in the window, per second: that of the mean of its ten parts.
/// `None` where there are too few tokens to say.
pub fn rate_interval(window: Window, requests: &[RequestRecord]) -> Option<(f64, f64)> {
    let parts = tokens_in_parts(window, requests);
    let seconds = window.seconds() / PARTS as f64;
    let is_enough = parts.iter().sum::<f64>() / PARTS as f64 >= LEAST_TOKENS;
    let (low, high) = mean_interval(&parts).filter(|_| is_enough)?;
    Some((low.max(0.0) / seconds, high / seconds))
}

/// Tokens of valid requests in each tenth of the window.
fn tokens_in_parts(window: Window, requests: &[RequestRecord]) -> [f64; PARTS] {
    let length_ms = window.to_ms - window.from_ms;
    let mut parts = [0.0; PARTS];
    for request in requests.iter().filter(|request| request.is_valid()) {
        for (at, tokens) in &request.chunks {
            let share = (request.sent_ms + at - window.from_ms) / length_ms;
            if (0.0..1.0).contains(&share) {
                parts[(share * PARTS as f64) as usize] += f64::from(*tokens);
            }
        }
    }
    parts
}

/// Whether that is no steady state.
pub fn is_missing(drift: f64) -> bool {
    drift.abs() > DRIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::bench::RequestOutcome;

    /// The drift of a load with so many tokens in each tenth of its window.
    fn drift_of(parts: [u32; PARTS]) -> Option<f64> {
        let window = Window {
            from_ms: 1000.0,
            to_ms: 2000.0,
        };
        let chunks = (0..)
            .zip(parts)
            .map(|(part, tokens)| (f64::from(part) * 100.0 + 50.0, tokens));
        let request = RequestRecord {
            scenario: String::from("s"),
            stream: 0,
            scheduled_ms: None,
            sent_ms: 1000.0,
            took_ms: 1000.0,
            chunks: chunks.collect(),
            knows_chunks: true,
            prompt_tokens: 1,
            queue_ms: None,
            outcome: RequestOutcome::Valid,
        };
        drift(window, &[request])
    }

    #[test]
    fn a_rate_that_rises_is_no_steady_state_and_one_that_varies_is() {
        let rising = drift_of([50, 60, 70, 80, 90, 100, 110, 120, 130, 140]).unwrap();
        assert!((rising - 100.0 / 95.0).abs() < 0.01, "{rising}");
        assert!(is_missing(rising));
        let varying = drift_of([100, 90, 110, 95, 105, 100, 90, 110, 95, 105]).unwrap();
        assert!(!is_missing(varying), "{varying}");
        assert!(!is_missing(drift_of([100; PARTS]).unwrap()));
        assert_eq!(drift_of([1; PARTS]), None);
    }
}
