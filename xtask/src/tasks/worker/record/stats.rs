//! Percentiles and intervals, each with the number of samples that it rests on. Pure.

use serde::{Deserialize, Serialize};

/// Up to so many samples the binomial distribution is summed up; beyond, the normal one is close.
const EXACT_SAMPLES: usize = 500;

/// p99 is told only from this many samples on.
const P99_SAMPLES: usize = 100;

/// How sure an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// It misses in 5 % of all cases: for figures that people read.
    P95,
    /// It misses in 1 % of all cases: for verdicts, of which a run has several.
    P99,
}

impl Confidence {
    /// How often it misses.
    fn miss(self) -> f64 {
        match self {
            Confidence::P95 => 0.05,
            Confidence::P99 => 0.01,
        }
    }

    /// The two-sided quantile of the standard normal distribution.
    fn z(self) -> f64 {
        match self {
            Confidence::P95 => 1.959_964,
            Confidence::P99 => 2.575_829,
        }
    }
}

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
            p50_interval: median_interval(&sorted, Confidence::P95),
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

/// A distribution-free interval of the median of sorted samples: the narrowest pair of order
/// statistics, equally far from both ends, by the binomial distribution (Conover, Practical
/// Nonparametric Statistics, 3rd ed., section 3.2). `None` with so few samples that not even their
/// extremes are sure enough: five, or seven.
pub fn median_interval(sorted: &[f64], confidence: Confidence) -> Option<(f64, f64)> {
    let n = sorted.len();
    let rank = if n <= EXACT_SAMPLES {
        // The largest rank r with 2 P(B < r) <= miss, where B counts the samples below the median.
        let mut probability = 0.5f64.powi(n as i32);
        let (mut below, mut rank) = (probability, 0);
        while 2.0 * below <= confidence.miss() {
            rank += 1;
            probability *= (n - rank + 1) as f64 / rank as f64;
            below += probability;
        }
        rank
    } else {
        (n as f64 / 2.0 - confidence.z() * (n as f64).sqrt() / 2.0).floor() as usize
    };
    (rank > 0).then(|| (sorted[rank - 1], sorted[n - rank]))
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
        // From a table of the sign test: n = 10, 12, 100.
        assert_eq!(summary(10).p50_interval, Some((2.0, 9.0)));
        assert_eq!(summary(12).p50_interval, Some((3.0, 10.0)));
        assert_eq!(summary(100).p50_interval, Some((40.0, 61.0)));
        let sure = |n: usize| median_interval(&numbers(n), Confidence::P99);
        assert_eq!(
            [sure(7), sure(8), sure(12)],
            [None, Some((1.0, 8.0)), Some((2.0, 11.0))]
        );
        // Exact and by approximation, where the one takes over from the other.
        assert_eq!(summary(500).p50_interval, Some((228.0, 273.0)));
        assert_eq!(summary(501).p50_interval, Some((228.0, 274.0)));
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
