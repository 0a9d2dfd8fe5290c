//! What is judged of a backend beside the others: whether it computes the same.

use super::row::Check;
use crate::tasks::worker::target::dialect::InferenceRequest;

/// The comparison of backends.
pub const CHECKS: &[Check] = &[Check::matrix("greedy.agreement")
    .promise("continues the same prefixes with the same greedy tokens as the other backends")
    .explanation("Asks each backend for one greedy token at every position of the same texts; fails if they agree at less than 90 % of the positions.")
    .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("The capital of France is", 1)))];
