//! What a benchmark judges of two workers under the same loads, turn about.

use super::row::Check;

/// The comparisons of `--against`.
pub const CHECKS: &[Check] = &[Check::benchmark("against.*")
    .promise("is no slower than the worker of --against under the load *")
    .explanation("Both take turns under the same load, interleaved (ABBA); a ratio of medians that is worse by more than --floor and its 99 % interval fails it.")
    .by_hand(r#"curl -sN http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":64,"temperature":0,"stream":true}'"#)];
