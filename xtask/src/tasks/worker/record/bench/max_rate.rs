//! The search for the highest rate at which a worker keeps its objectives. Pure.

use crate::tasks::worker::record::stats::{Confidence, share_interval};

/// A rate is kept where so many of its requests keep every objective.
pub const KEPT_SHARE: f64 = 0.9;

/// Where the search begins, in requests a second.
const FIRST: f64 = 4.0;

/// The lowest and the highest rate that are tried.
const LIMITS: (f64, f64) = (0.25, 8192.0);

/// The search ends where a rate that isn't kept is no more than this many times one that is.
const RESOLUTION: f64 = 1.1;

/// What came of one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateStep {
    /// Requests a second that were due.
    pub rate_per_s: f64,
    /// Of so many that were sent,
    pub sent: usize,
    /// so many kept every objective.
    pub good: usize,
}

/// The rates that were tried.
#[derive(Debug, Default)]
pub struct RateSearch {
    steps: Vec<RateStep>,
}

impl RateStep {
    /// Whether enough of them kept every objective.
    pub fn is_kept(&self) -> bool {
        self.sent > 0 && self.good as f64 >= KEPT_SHARE * self.sent as f64
    }

    /// "97 % (91 to 99) of 60".
    pub fn in_words(&self) -> String {
        let (low, high) = share_interval(self.good, self.sent, Confidence::P95);
        let share = self.good as f64 / self.sent.max(1) as f64;
        let [share, low, high] = [share, low, high].map(|share| share * 100.0);
        format!("{share:.0} % ({low:.0} to {high:.0}) of {}", self.sent)
    }
}

impl RateSearch {
    /// The rate to try next; `None` where the answer is known as exactly as it has to be.
    pub fn next(&self) -> Option<f64> {
        match (self.kept(), self.missed()) {
            (None, None) => Some(FIRST),
            (Some(kept), None) => Some(kept.rate_per_s * 2.0).filter(|rate| *rate <= LIMITS.1),
            (None, Some(missed)) => Some(missed.rate_per_s / 2.0).filter(|rate| *rate >= LIMITS.0),
            (Some(kept), Some(missed)) => {
                let (low, high) = (kept.rate_per_s, missed.rate_per_s);
                // Rates are factors apart.
                (high / low > RESOLUTION).then(|| (low * high).sqrt())
            }
        }
    }

    /// What came of it.
    pub fn tried(&mut self, step: RateStep) {
        self.steps.push(step);
    }

    /// The highest rate that was kept below every one that wasn't.
    pub fn kept(&self) -> Option<RateStep> {
        let missed = self
            .missed()
            .map_or(f64::INFINITY, |missed| missed.rate_per_s);
        let kept = self
            .steps
            .iter()
            .filter(|step| step.is_kept() && step.rate_per_s < missed);
        kept.copied()
            .max_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s))
    }

    /// The lowest rate that wasn't kept.
    pub fn missed(&self) -> Option<RateStep> {
        let missed = self.steps.iter().filter(|step| !step.is_kept());
        missed
            .copied()
            .min_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches over a worker that keeps its objectives up to a rate; gives both ends, and the steps.
    fn search(capacity: f64) -> (Option<f64>, Option<f64>, usize) {
        let mut search = RateSearch::default();
        while let Some(rate_per_s) = search.next() {
            let good = if rate_per_s <= capacity { 100 } else { 50 };
            search.tried(RateStep {
                rate_per_s,
                sent: 100,
                good,
            });
            assert!(search.steps.len() < 40, "{search:?}");
        }
        let rate = |step: RateStep| step.rate_per_s;
        (
            search.kept().map(rate),
            search.missed().map(rate),
            search.steps.len(),
        )
    }

    #[test]
    fn a_search_encloses_what_a_worker_can_do() {
        for capacity in [0.3, 1.0, 37.0, 900.0] {
            let (kept, missed, steps) = search(capacity);
            let (kept, missed) = (kept.unwrap(), missed.unwrap());
            assert!(kept <= capacity && capacity < missed, "{kept} {missed}");
            assert!(missed / kept <= RESOLUTION && steps < 20, "{steps}");
        }
    }

    #[test]
    fn what_no_rate_or_every_rate_keeps_has_one_end() {
        let (kept, missed, _) = search(0.0);
        assert_eq!((kept, missed), (None, Some(LIMITS.0)));
        let (kept, missed, _) = search(f64::INFINITY);
        assert_eq!((kept, missed), (Some(LIMITS.1), None));
    }

    #[test]
    fn nine_in_ten_are_enough_and_fewer_are_not() {
        let step = |good| RateStep {
            rate_per_s: 1.0,
            sent: 60,
            good,
        };
        assert_eq!((step(54).is_kept(), step(53).is_kept()), (true, false));
        let nobody = RateStep { sent: 0, ..step(0) };
        assert!(!nobody.is_kept());
        assert_eq!(step(58).in_words(), "97 % (89 to 99) of 60");
    }
}
