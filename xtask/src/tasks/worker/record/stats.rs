//! Percentiles, intervals and slopes, each with the number of samples that it rests on. Pure.

use serde::{Deserialize, Serialize};

/// Up to so many samples the binomial distribution is summed up; beyond, the normal one is close.
const EXACT_SAMPLES: usize = 500;

/// p99 needs at least this many samples.
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
pub struct Distribution {
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

impl Distribution {
    /// Of these samples, in any order; `None` without any, or where one isn't finite.
    pub fn of(samples: &[f64]) -> Option<Distribution> {
        if samples.is_empty() || samples.iter().any(|sample| !sample.is_finite()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        Some(Distribution {
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

impl Distribution {
    /// Of one figure that rests on `n` samples, such as a rate.
    pub fn single(value: f64, n: usize) -> Distribution {
        Distribution {
            n,
            min: value,
            p50: value,
            p50_interval: None,
            p90: value,
            p95: value,
            p99: None,
            max: value,
        }
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

/// The smallest sample, the percentiles 1 to 99, and the largest; nothing without samples.
pub fn quantiles(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(smallest) = sorted.first() else {
        return Vec::new();
    };
    let above = (1..=100).map(|p| percentile(&sorted, f64::from(p)));
    std::iter::once(*smallest).chain(above).collect()
}

/// A 95 % interval of the mean of samples (Student's t); `None` with fewer than three.
pub fn mean_interval(samples: &[f64]) -> Option<(f64, f64)> {
    let n = samples.len();
    if n < 3 {
        return None;
    }
    let mean = samples.iter().sum::<f64>() / n as f64;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    let error = (squares / (n - 1) as f64 / n as f64).sqrt();
    let margin = student_t(n - 1, Confidence::P95) * error;
    Some((mean - margin, mean + margin))
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

/// An interval of a share, `good` of `n` (Wilson, Probable inference, JASA 22, 1927).
pub fn share_interval(good: usize, n: usize, confidence: Confidence) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, z) = (n as f64, confidence.z());
    let share = good as f64 / n;
    let middle = share + z * z / (2.0 * n);
    let margin = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + z * z / n;
    let ends = [middle - margin, middle + margin].map(|end| (end / whole).clamp(0.0, 1.0));
    (ends[0], ends[1])
}

/// A straight line through points, by least squares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// How many points.
    pub n: usize,
    /// Rise of y for one x.
    pub slope: f64,
    /// An interval of the slope.
    pub interval: (f64, f64),
    /// The share of y's variance that the line explains, 0 to 1.
    pub r_squared: f64,
}

/// The line through `(x, y)` points; `None` with fewer than three, or where all x are the same.
pub fn slope(points: &[(f64, f64)], confidence: Confidence) -> Option<Slope> {
    let n = points.len();
    if n < 3 {
        return None;
    }
    let count = n as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let sum = |f: fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| f(x - mean_x, y - mean_y)).sum()
    };
    let (xx, xy, yy) = (sum(|x, _| x * x), sum(|x, y| x * y), sum(|_, y| y * y));
    if xx == 0.0 {
        return None;
    }
    let slope = xy / xx;
    let residual = (yy - slope * xy).max(0.0);
    let degrees = n - 2;
    let error = (residual / degrees as f64 / xx).sqrt();
    let margin = student_t(degrees, confidence) * error;
    Some(Slope {
        n,
        slope,
        interval: (slope - margin, slope + margin),
        r_squared: if yy == 0.0 { 1.0 } else { 1.0 - residual / yy },
    })
}

/// The two-sided quantile of Student's t distribution: tabulated where the normal one is far off,
/// then the first terms of the Cornish-Fisher expansion (Abramowitz and Stegun, 26.7.5).
fn student_t(degrees: usize, confidence: Confidence) -> f64 {
    let small = match confidence {
        Confidence::P95 => [12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582],
        Confidence::P99 => [63.656_741, 9.924_843, 5.840_909, 4.604_095, 4.032_143],
    };
    if let Some(quantile) = small.get(degrees.max(1) - 1) {
        return *quantile;
    }
    let (z, v) = (confidence.z(), degrees as f64);
    let first = (z.powi(3) + z) / (4.0 * v);
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v);
    let third =
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3));
    z + first + second + third
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
        let summary = |n: usize| Distribution::of(&numbers(n)).unwrap();
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
        assert_eq!(Distribution::of(&[]), None);
        assert_eq!(Distribution::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn the_order_of_samples_does_not_matter() {
        let mut reversed = numbers(37);
        reversed.reverse();
        assert_eq!(Distribution::of(&reversed), Distribution::of(&numbers(37)));
    }

    #[test]
    fn quantiles_go_from_the_smallest_to_the_largest() {
        let found = quantiles(&numbers(200));
        assert_eq!(
            (found[0], found[50], found[99], found[100]),
            (1.0, 100.0, 198.0, 200.0)
        );
        assert!(quantiles(&[]).is_empty());
    }

    #[test]
    fn the_interval_of_a_mean_is_students() {
        // Mean 2, deviation 1, t(2) = 4.3027.
        let (low, high) = mean_interval(&[1.0, 2.0, 3.0]).unwrap();
        let margin = 4.302_653 / 3f64.sqrt();
        assert!((low - (2.0 - margin)).abs() < 1e-6 && (high - (2.0 + margin)).abs() < 1e-6);
        assert_eq!(mean_interval(&[1.0, 2.0]), None);
    }

    #[test]
    fn the_interval_of_a_share_is_that_of_the_literature() {
        // Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263, and 0 of 20.
        let (low, high) = share_interval(81, 263, Confidence::P95);
        assert!(
            (low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4,
            "{low} {high}"
        );
        let (low, high) = share_interval(0, 20, Confidence::P95);
        assert!(
            low.abs() < 1e-9 && (high - 0.1611).abs() < 1e-4,
            "{low} {high}"
        );
        assert_eq!(share_interval(0, 0, Confidence::P95), (0.0, 1.0));
    }

    #[test]
    fn a_slope_has_the_interval_of_the_textbook() {
        // y = 2x + 1 with errors +1, -1, -1, +1: slope 2, residual 4, xx 5, t(2) = 4.3027.
        let points = [(0.0, 2.0), (1.0, 2.0), (2.0, 4.0), (3.0, 8.0)];
        let line = slope(&points, Confidence::P95).unwrap();
        let margin = 4.302_653 * (4.0f64 / 2.0 / 5.0).sqrt();
        assert!((line.slope - 2.0).abs() < 1e-12);
        assert!((line.interval.0 - (2.0 - margin)).abs() < 1e-9);
        assert!((line.r_squared - (1.0 - 4.0 / 24.0)).abs() < 1e-12);
        let line = |points: &[(f64, f64)]| slope(points, Confidence::P95);
        assert_eq!(line(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(line(&[(1.0, 1.0), (2.0, 2.0)]), None);
    }

    #[test]
    fn quantiles_of_student_agree_with_the_table() {
        let table = [
            (Confidence::P95, 6, 2.446_912),
            (Confidence::P95, 10, 2.228_139),
            (Confidence::P95, 30, 2.042_272),
            (Confidence::P95, 1000, 1.962_339),
            (Confidence::P99, 6, 3.707_428),
            (Confidence::P99, 10, 3.169_273),
            (Confidence::P99, 30, 2.749_996),
            (Confidence::P99, 1000, 2.580_755),
        ];
        for (confidence, degrees, expected) in table {
            let found = student_t(degrees, confidence);
            assert!((found - expected).abs() < 0.03, "{degrees}: {found}");
        }
    }
}
