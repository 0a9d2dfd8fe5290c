//! Percentiles and intervals, each with the number of samples that it rests on. Pure.

use serde::{Deserialize, Serialize};

/// 97.5 % quantile of the standard normal distribution: two-sided intervals of 95 %.
const Z_95: f64 = 1.959_964;

/// p99 is told only from this many samples on.
const P99_SAMPLES: usize = 100;

/// The shape of a set of samples, all in the samples' own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many samples.
    pub n: usize,
    /// The smallest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// A 95 % interval of the median; `None` with fewer than six samples.
    pub p50_interval: Option<(f64, f64)>,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile; `None` with fewer than 100 samples.
    pub p99: Option<f64>,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of these samples, in any order; `None` without any, or where one isn't finite.
    pub fn of(samples: &[f64]) -> Option<Summary> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        Some(Summary {
            n,
            min: sorted[0],
            p50: percentile(&sorted, 50.0),
            p50_interval: median_interval(&sorted),
            p90: percentile(&sorted, 90.0),
            p95: percentile(&sorted, 95.0),
            p99: (n >= P99_SAMPLES).then(|| percentile(&sorted, 99.0)),
            max: sorted[n - 1],
        })
    }
}

/// The nearest-rank percentile of sorted samples: the smallest sample that at least `p` percent of
/// them don't exceed.
///
/// # Panics
///
/// Without samples.
pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    // The product is exact for whole percentages, so that p50 of 2 samples has rank 1, not 2.
    let rank = (p * sorted.len() as f64 / 100.0).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// A distribution-free interval of the median that covers it in at least about 95 % of all cases:
/// the order statistics around n/2 by the normal approximation of the binomial distribution
/// (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2).
fn median_interval(sorted: &[f64]) -> Option<(f64, f64)> {
    let n = sorted.len();
    // With fewer than six samples not even the extremes cover the median in 95 % of all cases.
    if n < 6 {
        return None;
    }
    let half_width = Z_95 * (n as f64).sqrt() / 2.0;
    let low = (n as f64 / 2.0 - half_width).floor().max(1.0) as usize;
    let high = (n as f64 / 2.0 + half_width).ceil() as usize + 1;
    Some((sorted[low - 1], sorted[high.min(n) - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f64> {
        (1..=n).map(|i| i as f64).collect()
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        // The worked example of the nearest-rank method: 15, 20, 35, 40, 50.
        let sorted = [15.0, 20.0, 35.0, 40.0, 50.0];
        let found = [5.0, 30.0, 40.0, 50.0, 100.0].map(|p| percentile(&sorted, p));
        assert_eq!(found, [15.0, 20.0, 20.0, 35.0, 50.0]);
        assert_eq!(percentile(&numbers(2), 50.0), 1.0);
        assert_eq!(percentile(&numbers(100), 99.0), 99.0);
    }

    #[test]
    fn a_p99_needs_a_hundred_samples_and_an_interval_six() {
        let summary = |n: usize| Summary::of(&numbers(n)).unwrap();
        assert_eq!((summary(99).p99, summary(100).p99), (None, Some(99.0)));
        assert_eq!(
            (summary(5).p50_interval, summary(6).p50_interval),
            (None, Some((1.0, 6.0)))
        );
        assert_eq!(summary(100).p50_interval, Some((40.0, 61.0)));
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn the_order_of_samples_does_not_matter() {
        let mut reversed = numbers(37);
        reversed.reverse();
        assert_eq!(Summary::of(&reversed), Summary::of(&numbers(37)));
    }
}
