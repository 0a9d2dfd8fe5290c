//! What a benchmark judges of each of its loads. The loads are driven by the benchmark itself.

use super::row::Check;

/// How a load by hand begins.
const BY_HAND: &str = r#"curl -sN http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":64,"temperature":0,"stream":true}'"#;

/// What fails a load.
const EXPLANATION: &str = "A request without an answer, or a stream that breaks a rule, fails it; the figures themselves do not.";

/// The loads of `--benchmark`, and the comparison with `--baseline`.
pub const CHECKS: &[Check] = &[
    Check::benchmark("bench.cold")
        .promise("answers its very first request")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.prefill_*")
        .promise("answers every request with a prompt of * tokens, by the rules of streams")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.decode")
        .promise("answers every request one at a time, by the rules of streams")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.sweep_*")
        .promise("answers every request from * streams at once, by the rules of streams")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.open_*")
        .promise("answers every request of a Poisson process at */s, by the rules of streams")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.baseline")
        .promise("is no slower than the baseline that it is compared with")
        .explanation("A median that is worse than the one kept with --save-baseline by more than --floor and its 99 % interval fails it.")
        .by_hand(BY_HAND),
];
