//! What is judged of a backend beside the others: whether it computes the same.

use super::row::Check;
use crate::tasks::worker::target::dialect::InferenceRequest;

/// The comparison of backends.
pub const CHECKS: &[Check] = &[Check::matrix("greedy.agreement")
    .promise("goes on with the same greedy tokens as the other backends after the same prefixes")
    .explanation("Each backend is asked for one greedy token at every position of the same texts; agreement at less than 90 % of them fails it.")
    .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("The capital of France is", 1)))];
