//! Logits to one token: greedy, or drawn with a seed.
//!
//! Everything here is deterministic: the same seed and the same logits give the same tokens on
//! every run, whatever runs beside it.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

use anyhow::{Result, ensure};

/// Chooses the tokens of one generation.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f64>,
    random: SplitMix64,
}

impl Sampler {
    /// A temperature of 0 is greedy and uses none of the rest. Without a seed one is drawn.
    pub fn new(
        temperature: f32,
        top_k: Option<u32>,
        top_p: Option<f32>,
        seed: Option<u64>,
    ) -> Self {
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self {
            temperature,
            top_k: top_k.map(|top_k| top_k as usize),
            top_p: top_p.map(f64::from).filter(|&top_p| top_p < 1.0),
            random: SplitMix64 { state: seed },
        }
    }

    /// The next token.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let greedy = greedy(logits)?;
        if self.temperature <= 0.0 {
            return Ok(greedy);
        }
        let largest = logits[greedy as usize];
        let mut candidates: Vec<_> = (0..)
            .zip(logits)
            .map(|(token, &logit)| Candidate {
                token,
                weight: (f64::from(logit - largest) / f64::from(self.temperature)).exp(),
            })
            .collect();
        if let Some(top_k) = self.top_k {
            keep_heaviest(&mut candidates, top_k);
        }
        if let Some(top_p) = self.top_p {
            keep_nucleus(&mut candidates, top_p);
        }
        let draw = self.random.unit();
        Ok(draw_by_weight(&candidates, draw))
    }
}

/// The token with the largest logit; of several, the one with the lowest number.
fn greedy(logits: &[f32]) -> Result<u32> {
    ensure!(
        !logits.iter().any(|logit| logit.is_nan()),
        "the model gave logits that are not numbers"
    );
    let best = (0..)
        .zip(logits)
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    let (token, logit) = best.unwrap_or((0, &f32::NAN));
    ensure!(
        logit.is_finite(),
        "the model gave logits without a finite largest one"
    );
    Ok(token)
}

/// A token and its probability up to a common factor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    weight: f64,
}

/// Heaviest first, and among equals by number, so that the order is the same on every run.
fn by_weight(left: &Candidate, right: &Candidate) -> Ordering {
    right
        .weight
        .total_cmp(&left.weight)
        .then(left.token.cmp(&right.token))
}

/// Moves the `count` heaviest to the front, sorted; the rest follows in no order.
fn sort_heaviest(candidates: &mut [Candidate], count: usize) {
    let count = count.min(candidates.len());
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, by_weight);
    }
    candidates[..count].sort_unstable_by(by_weight);
}

fn keep_heaviest(candidates: &mut Vec<Candidate>, count: usize) {
    sort_heaviest(candidates, count);
    candidates.truncate(count.max(1));
}

/// Keeps the fewest of the heaviest that together have the share `top_p` of the weight.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f64) {
    let wanted = top_p
        * candidates
            .iter()
            .map(|candidate| candidate.weight)
            .sum::<f64>();
    // The nucleus is mostly small, and sorting a whole vocabulary for it is slow.
    let mut sorted = 256;
    loop {
        sort_heaviest(candidates, sorted);
        let mut sum = 0.0;
        let reached = candidates[..sorted.min(candidates.len())]
            .iter()
            .position(|candidate| {
                sum += candidate.weight;
                sum >= wanted
            });
        if let Some(last) = reached {
            candidates.truncate(last + 1);
            return;
        }
        if sorted >= candidates.len() {
            return;
        }
        sorted *= 8;
    }
}

/// The candidate that covers the share `draw`, in [0, 1), of the whole weight.
fn draw_by_weight(candidates: &[Candidate], draw: f64) -> u32 {
    let wanted = draw
        * candidates
            .iter()
            .map(|candidate| candidate.weight)
            .sum::<f64>();
    let mut sum = 0.0;
    let mut last = 0;
    for candidate in candidates.iter().filter(|candidate| candidate.weight > 0.0) {
        sum += candidate.weight;
        last = candidate.token;
        if sum > wanted {
            break;
        }
    }
    last
}

/// A small generator whose stream is a published constant, so that seeds keep their meaning.
#[derive(Debug)]
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mut sampler: Sampler, logits: &[f32], draws: u32) -> Vec<u32> {
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_generator_gives_its_published_stream() {
        let mut random = SplitMix64 { state: 1_234_567 };
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn greedy_takes_the_largest_and_of_several_the_first() {
        let mut sampler = Sampler::new(0.0, None, None, None);
        assert_eq!(sampler.sample(&[0.0, 3.0, -1.0, 3.0]).unwrap(), 1);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -5.0]).unwrap(), 1);
    }

    #[test]
    fn logits_that_are_not_numbers_are_an_error() {
        for temperature in [0.0, 1.0] {
            let mut sampler = Sampler::new(temperature, None, None, Some(1));
            assert!(sampler.sample(&[0.0, f32::NAN]).is_err());
            assert!(sampler.sample(&[f32::INFINITY, 0.0]).is_err());
            assert!(sampler.sample(&[f32::NEG_INFINITY]).is_err());
            assert!(sampler.sample(&[]).is_err());
        }
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [4.0_f32.ln(), 0.0, 3.0_f32.ln()];
        let seen = counts(Sampler::new(1.0, None, None, Some(7)), &logits, 8000);
        assert!((3850..4150).contains(&seen[0]), "{seen:?}");
        assert!((900..1100).contains(&seen[1]), "{seen:?}");
    }

    #[test]
    fn a_low_temperature_sharpens() {
        let seen = counts(Sampler::new(0.1, None, None, Some(7)), &[1.0, 0.0], 1000);
        assert!(seen[1] < 5, "{seen:?}");
    }

    #[test]
    fn top_k_and_top_p_exclude_the_rest() {
        let logits = [0.0, 2.0, 1.0, 1.0];
        let seen = counts(Sampler::new(1.0, Some(2), None, Some(7)), &logits, 500);
        assert!(
            seen[1] > 0 && seen[2] > 0 && seen[0] == 0 && seen[3] == 0,
            "{seen:?}"
        );
        let seen = counts(Sampler::new(1.0, None, Some(0.5), Some(7)), &logits, 500);
        assert_eq!(seen, [0, 500, 0, 0]);
        let seen = counts(Sampler::new(2.0, Some(1), Some(0.01), Some(7)), &logits, 50);
        assert_eq!(seen, [0, 50, 0, 0]);
    }

    #[test]
    fn a_nucleus_wider_than_the_first_guess_is_found_whole() {
        let logits = vec![0.0; 4000];
        let seen = counts(Sampler::new(1.0, None, Some(0.5), Some(7)), &logits, 20_000);
        let used = seen.iter().filter(|&&count| count > 0).count();
        assert!((1950..=2001).contains(&used), "{used}");
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_others() {
        let logits: Vec<_> = (0..100).map(|at| (at % 7) as f32).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(0.9, Some(40), Some(0.95), seed);
            (0..50)
                .map(|_| sampler.sample(&logits).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(Some(3)), draw(Some(3)));
        assert_ne!(draw(Some(3)), draw(Some(4)));
        assert_ne!(draw(None), draw(None));
    }
}
