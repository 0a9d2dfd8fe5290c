//! What a benchmark judges of two workers under the same loads, turn about.

use super::row::Check;
use crate::tasks::worker::target::dialect::InferenceRequest;

/// The comparisons of `--against`.
pub const CHECKS: &[Check] = &[Check::benchmark("against.*")
    .promise("is no slower than the worker of --against under the load *")
    .explanation("Both run the same load, interleaved (ABBA); fails if the ratio of medians is worse by more than --floor and its 99 % interval.")
    .by_hand(|by| by.stream("-sN", &InferenceRequest::greedy("Hello", 64)))];
