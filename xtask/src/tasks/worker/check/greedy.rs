//! What is judged of a backend beside the others: whether it computes the same.

use super::row::Check;

/// The comparison of backends.
pub const CHECKS: &[Check] = &[Check::matrix("greedy.agreement")
    .promise("goes on with the same greedy tokens as the other backends after the same prefixes")
    .explanation("Each backend is asked for one greedy token at every position of the same texts; agreement at less than 90 % of them fails it.")
    .by_hand(r#"curl -s http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"The capital of France is","max_tokens":1,"temperature":0}'"#)];
