//! Logits to one token: greedy, or drawn with a seed.
//!
//! Everything here is deterministic: the same seed and the same logits give the same tokens on
//! every run, whatever runs beside it.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

use anyhow::{Result, ensure};

use super::{Constraint, GenerationRequest, TokenLogprob};

mod exp;
mod tilt;

use exp::{exp, sum_of_weights};
use tilt::Tilt;

/// Chooses the tokens of one generation.
#[derive(Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f32>,
    tilt: Option<Tilt>,
    top_logprobs: usize,
    random: SplitMix64,
}

/// The next token, and what the model thought of it and of others.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// What was chosen.
    pub chosen: TokenLogprob,
    /// The likeliest, as many as were asked for.
    pub top: Vec<TokenLogprob>,
}

/// Memory that is used again from token to token.
#[derive(Debug, Default)]
pub struct Scratch {
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// What the request asks for. A temperature of 0 is greedy. Without a seed one is drawn.
    pub fn new(request: &GenerationRequest, prompt: &[u32]) -> Self {
        let seed = request.seed;
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        Self {
            temperature: request.temperature,
            top_k: request.top_k.map(|top_k| top_k.max(1) as usize),
            top_p: request.top_p.map(f64::from).filter(|&top_p| top_p < 1.0),
            min_p: request.min_p.filter(|&min_p| min_p > 0.0),
            tilt: Tilt::new(request, prompt),
            top_logprobs: request.top_logprobs,
            random: SplitMix64 { state: seed },
        }
    }

    /// The next token, which the constraint allows. The logits are spent.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        constraint: Option<&mut (dyn Constraint + 'static)>,
        scratch: &mut Scratch,
    ) -> Result<Choice> {
        let mut greedy = greedy(logits)?;
        let largest = logits[greedy as usize];
        // So much less than 0 is the logarithm of the likeliest token's probability.
        let log_sum = sum_of_weights(logits, largest, 1.0).ln();
        let judge = |token: u32, logit: f32| TokenLogprob {
            token,
            logprob: (f64::from(logit - largest) - log_sum).min(0.0) as f32,
        };
        let top = likeliest(logits, self.top_logprobs);
        let top = top
            .into_iter()
            .map(|token| judge(token, logits[token as usize]));
        let top = top.collect();

        let mut before = Vec::new();
        if let Some(tilt) = &self.tilt {
            before = tilt.apply(logits);
            greedy = greedy_of(logits);
        }
        if let Some(constraint) = constraint {
            constraint.mask(logits)?;
            greedy = greedy_of(logits);
            let is_possible = logits[greedy as usize] > f32::NEG_INFINITY;
            ensure!(is_possible, "no token is possible that is allowed");
        }
        let token = self.choose(greedy, logits, scratch);
        // As the model had it.
        let logit = before.iter().find(|(tilted, _)| *tilted == token);
        let logit = logit.map_or_else(|| logits[token as usize], |(_, logit)| *logit);
        if let Some(tilt) = &mut self.tilt {
            tilt.count(token);
        }
        Ok(Choice {
            chosen: judge(token, logit),
            top,
        })
    }

    fn choose(&mut self, greedy: u32, logits: &[f32], scratch: &mut Scratch) -> u32 {
        if self.temperature <= 0.0 {
            return greedy;
        }
        let largest = logits[greedy as usize];
        let sharpness = self.temperature.recip();
        let candidates = &mut scratch.candidates;
        match self.top_k {
            Some(top_k) if top_k < logits.len() => {
                keep_likeliest(candidates, logits, largest, sharpness, top_k);
                if let Some(top_p) = self.top_p {
                    let total = weight_of(candidates);
                    keep_nucleus(candidates, top_p * total);
                }
            }
            _ => match self.top_p {
                Some(top_p) => {
                    let total = sum_of_weights(logits, largest, sharpness);
                    // No token with less can be in the nucleus: even all such tokens together have
                    // less than the share that is left out. Half, because sums are rounded.
                    let least = 0.5 * (1.0 - top_p) * total / logits.len() as f64;
                    keep_above(candidates, logits, largest, sharpness, least as f32);
                    keep_nucleus(candidates, top_p * total);
                }
                None => keep_above(candidates, logits, largest, sharpness, 0.0),
            },
        }
        if let Some(min_p) = self.min_p {
            // The likeliest has the weight 1.
            candidates.retain(|candidate| candidate.weight >= min_p);
        }
        draw_by_weight(candidates, self.random.unit()).unwrap_or(greedy)
    }
}

/// The token with the largest logit; of several, the one with the lowest number.
fn greedy(logits: &[f32]) -> Result<u32> {
    let is_nan = logits.iter().fold(false, |any, logit| any | logit.is_nan());
    ensure!(!is_nan, "the model gave logits that are not numbers");
    let token = greedy_of(logits);
    ensure!(
        logits
            .get(token as usize)
            .is_some_and(|logit| logit.is_finite()),
        "the model gave logits without a finite largest one"
    );
    Ok(token)
}

/// Whole parts first: their loops are such that compilers vectorise them.
fn greedy_of(logits: &[f32]) -> u32 {
    const PART: usize = 256;
    let mut largest = f32::NEG_INFINITY;
    let mut found = 0;
    for (number, part) in logits.chunks(PART).enumerate() {
        let most = largest_of(part);
        if most > largest {
            (largest, found) = (most, number);
        }
    }
    let part = logits.chunks(PART).nth(found).unwrap_or_default();
    let first = part.iter().position(|&logit| logit == largest);
    (found * PART + first.unwrap_or(0)) as u32
}

fn largest_of(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (whole, rest) = logits.as_chunks::<16>();
    for logits in whole {
        for (lane, &logit) in lanes.iter_mut().zip(logits) {
            *lane = larger(*lane, logit);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// The tokens with the largest logits, the largest first; of equals, the lower number first.
fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    if count == 0 {
        return Vec::new();
    }
    let order = |left: &u32, right: &u32| {
        let logit = |token: &u32| logits[*token as usize];
        logit(right).total_cmp(&logit(left)).then(left.cmp(right))
    };
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count, order);
        tokens.truncate(count);
    }
    tokens.sort_unstable_by(order);
    tokens
}

/// A token and its probability up to a common factor.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    weight: f32,
}

/// Heaviest first, and among equals by number, so that the order is the same on every run.
fn by_weight(left: &Candidate, right: &Candidate) -> Ordering {
    right
        .weight
        .total_cmp(&left.weight)
        .then(left.token.cmp(&right.token))
}

/// All that weigh at least `least`, by number.
fn keep_above(
    candidates: &mut Vec<Candidate>,
    logits: &[f32],
    largest: f32,
    sharpness: f32,
    least: f32,
) {
    candidates.clear();
    candidates.extend(logits.iter().zip(0..).filter_map(|(logit, token)| {
        let weight = exp((logit - largest) * sharpness);
        (weight >= least).then_some(Candidate { token, weight })
    }));
}

/// The `count` likeliest, the likeliest first.
fn keep_likeliest(
    candidates: &mut Vec<Candidate>,
    logits: &[f32],
    largest: f32,
    sharpness: f32,
    count: usize,
) {
    candidates.clear();
    // Logits order as weights do, and only those that stay need an exponential.
    candidates.extend(
        logits
            .iter()
            .zip(0..)
            .map(|(&weight, token)| Candidate { token, weight }),
    );
    candidates.select_nth_unstable_by(count - 1, by_weight);
    candidates.truncate(count);
    candidates.sort_unstable_by(by_weight);
    for candidate in candidates {
        candidate.weight = exp((candidate.weight - largest) * sharpness);
    }
}

/// Keeps the fewest of the heaviest that together weigh as much as is wanted.
fn keep_nucleus(candidates: &mut Vec<Candidate>, wanted: f64) {
    candidates.sort_unstable_by(by_weight);
    let mut sum = 0.0;
    let reached = candidates.iter().position(|candidate| {
        sum += f64::from(candidate.weight);
        sum >= wanted
    });
    if let Some(last) = reached {
        candidates.truncate(last + 1);
    }
}

fn weight_of(candidates: &[Candidate]) -> f64 {
    let weights = candidates
        .iter()
        .map(|candidate| f64::from(candidate.weight));
    weights.sum()
}

/// The candidate that covers the share `draw`, in [0, 1), of the whole weight.
fn draw_by_weight(candidates: &[Candidate], draw: f64) -> Option<u32> {
    let wanted = draw * weight_of(candidates);
    let mut sum = 0.0;
    let mut last = None;
    for candidate in candidates.iter().filter(|candidate| candidate.weight > 0.0) {
        sum += f64::from(candidate.weight);
        last = Some(candidate.token);
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
mod tests;
