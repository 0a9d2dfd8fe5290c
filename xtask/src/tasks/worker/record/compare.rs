//! Two sets of figures side by side: ratios, their intervals, and what may be said of them. Pure.

use serde::{Deserialize, Serialize};

use super::stats::{Confidence, Distribution, median_interval};

/// One figure before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The scenario and the measure: "decode tpot".
    pub name: String,
    /// Of both figures.
    pub unit: String,
    /// The median of what it is compared with.
    pub before: f64,
    /// The median of what is tested.
    pub after: f64,
    /// After by before: the median of the pairs' ratios, or the ratio of the medians.
    pub ratio: f64,
    /// A 99 % interval of the ratio; `None` with too few samples.
    pub interval: Option<(f64, f64)>,
    /// Pairs, or samples of the smaller side.
    pub n: usize,
    /// Smaller effects don't count: 0.03 is 3 %.
    pub floor: f64,
    /// What may be said.
    pub judgement: Change,
}

/// What may be said of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The interval lies beyond 1 on the good side, and the effect beyond the floor.
    Better,
    /// The interval holds 1, or the effect is below the floor.
    Same,
    /// The interval lies beyond 1 on the bad side, and the effect beyond the floor.
    Worse,
    /// Too few samples to say anything.
    Unclear,
}

/// Which way is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Times and sizes.
    LessIsBetter,
    /// Rates.
    MoreIsBetter,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The scenario and the measure: "decode tpot".
    pub name: String,
    /// Of both figures.
    pub unit: &'static str,
    /// Which way is the better one.
    pub better: Direction,
    /// Smaller effects don't count: 0.03 is 3 %.
    pub floor: f64,
}

impl Compared {
    /// Compares figures that were taken in pairs, each pair under the same conditions: before, after.
    ///
    /// `None` without pairs, or where a figure isn't positive.
    pub fn in_pairs(self, pairs: &[(f64, f64)]) -> Option<Comparison> {
        if pairs
            .iter()
            .any(|(before, after)| *before <= 0.0 || *after <= 0.0)
        {
            return None;
        }
        let median = |of: fn(&(f64, f64)) -> f64| {
            let figures: Vec<f64> = pairs.iter().map(of).collect();
            Distribution::of(&figures).map(|figures| figures.p50)
        };
        let mut ratios: Vec<f64> = pairs.iter().map(|(before, after)| after / before).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = Distribution::of(&ratios)?.p50;
        let interval = median_interval(&ratios, Confidence::P99);
        Some(Comparison {
            before: median(|(before, _)| *before)?,
            after: median(|(_, after)| *after)?,
            ratio,
            interval,
            n: ratios.len(),
            floor: self.floor,
            judgement: self.judge(ratio, interval),
            name: self.name,
            unit: self.unit.to_owned(),
        })
    }

    /// Compares two sets of samples that are independent of each other.
    ///
    /// The interval goes from the one median's lower end by the other's upper end to the reverse:
    /// wider than need be, so that no difference is claimed that isn't there.
    pub fn by_medians(self, before: &Distribution, after: &Distribution) -> Option<Comparison> {
        if before.min <= 0.0 || after.min <= 0.0 {
            return None;
        }
        let ratio = after.p50 / before.p50;
        let intervals = after.p50_interval.zip(before.p50_interval);
        let interval = intervals.map(|(after, before)| (after.0 / before.1, after.1 / before.0));
        Some(Comparison {
            before: before.p50,
            after: after.p50,
            ratio,
            interval,
            n: before.n.min(after.n),
            floor: self.floor,
            judgement: self.judge(ratio, interval),
            name: self.name,
            unit: self.unit.to_owned(),
        })
    }

    fn judge(&self, ratio: f64, interval: Option<(f64, f64)>) -> Change {
        let Some((low, high)) = interval else {
            return Change::Unclear;
        };
        let is_less = high < 1.0 && ratio < 1.0 - self.floor;
        let is_more = low > 1.0 && ratio > 1.0 + self.floor;
        match (is_less, is_more, self.better) {
            (false, false, _) => Change::Same,
            (true, _, Direction::LessIsBetter) | (_, true, Direction::MoreIsBetter) => {
                Change::Better
            }
            _ => Change::Worse,
        }
    }
}

impl Change {
    /// As tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Better => "better",
            Change::Same => "same",
            Change::Worse => "worse",
            Change::Unclear => "unclear",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(ratio: f64, spread: f64) -> Vec<(f64, f64)> {
        (0..12)
            .map(|i| {
                let noise = 1.0 + spread * (f64::from(i) / 11.0 - 0.5);
                (10.0, 10.0 * ratio * noise)
            })
            .collect()
    }

    fn compared(better: Direction) -> Compared {
        Compared {
            name: String::from("s"),
            unit: "ms",
            better,
            floor: 0.03,
        }
    }

    fn judged(better: Direction, pairs: &[(f64, f64)]) -> Change {
        compared(better).in_pairs(pairs).unwrap().judgement
    }

    #[test]
    fn a_regression_needs_an_interval_beyond_1_and_an_effect_beyond_the_floor() {
        assert_eq!(
            judged(Direction::LessIsBetter, &pairs(1.10, 0.05)),
            Change::Worse
        );
        assert_eq!(
            judged(Direction::MoreIsBetter, &pairs(1.10, 0.05)),
            Change::Better
        );
        assert_eq!(
            judged(Direction::LessIsBetter, &pairs(0.90, 0.05)),
            Change::Better
        );
        assert_eq!(
            judged(Direction::MoreIsBetter, &pairs(0.90, 0.05)),
            Change::Worse
        );
        // A clear effect that is below the floor, and a large one that isn't clear.
        assert_eq!(
            judged(Direction::LessIsBetter, &pairs(1.02, 0.01)),
            Change::Same
        );
        assert_eq!(
            judged(Direction::LessIsBetter, &pairs(1.05, 0.60)),
            Change::Same
        );
        assert_eq!(
            judged(Direction::LessIsBetter, &pairs(1.10, 0.05)[..5]),
            Change::Unclear
        );
        assert_eq!(
            compared(Direction::LessIsBetter).in_pairs(&[(0.0, 1.0)]),
            None
        );
    }

    #[test]
    fn medians_are_compared_with_care() {
        let summary = |from: f64| {
            let samples: Vec<f64> = (0..20).map(|i| from + f64::from(i) * 0.01).collect();
            Distribution::of(&samples).unwrap()
        };
        let compare = |before: f64, after: f64| {
            let (before, after) = (summary(before), summary(after));
            compared(Direction::LessIsBetter)
                .by_medians(&before, &after)
                .unwrap()
        };
        assert_eq!(compare(10.0, 11.0).judgement, Change::Worse);
        assert_eq!(compare(10.0, 10.1).judgement, Change::Same);
        let comparison = compare(10.0, 9.0);
        assert_eq!(comparison.judgement, Change::Better);
        let (low, high) = comparison.interval.unwrap();
        assert!(low < comparison.ratio && comparison.ratio < high);
    }
}
