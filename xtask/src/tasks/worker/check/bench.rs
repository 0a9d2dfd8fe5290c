//! What a benchmark judges of each of its loads. The loads are driven by the benchmark itself.

use super::row::Check;
use crate::tasks::worker::target::dialect::{ByHand, InferenceRequest};

/// How a load by hand begins.
const BY_HAND: fn(&ByHand) -> String =
    |by| by.stream("-sN", &InferenceRequest::greedy("Hello", 64));

/// What fails a load.
const EXPLANATION: &str = "Fails if a request gets no answer or a stream is invalid; the figures themselves are not judged.";

/// The loads of `--benchmark`, and the comparison with `--baseline`.
pub const CHECKS: &[Check] = &[
    Check::benchmark("bench.cold")
        .promise("answers its very first request")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.prefill_*")
        .promise("answers every request with a prompt of * tokens with a valid stream")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.decode")
        .promise("answers every request with a valid stream, one request at a time")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.sweep_*")
        .promise("answers every request with a valid stream at concurrency *")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.open_*")
        .promise("answers every request with a valid stream when requests arrive at random at */s")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.replay")
        .promise("answers every request of a trace with a valid stream")
        .explanation(EXPLANATION)
        .by_hand(BY_HAND),
    Check::benchmark("bench.max_rate")
        .promise("keeps the objectives at some rate of arrivals")
        .explanation("Fails if at no rate that was tried nine in ten requests met the objectives of --goodput, or if a stream is invalid.")
        .by_hand(BY_HAND),
    Check::benchmark("bench.startup")
        .promise("becomes ready whenever it is started")
        .explanation("Fails if one of the workers like it that --benchmark startup or --startups starts doesn't become ready in time; how long it takes is not judged.")
        .by_hand(BY_HAND),
    Check::benchmark("bench.baseline")
        .promise("is no slower than the baseline that it is compared with")
        .explanation("Fails if a median is worse than the one saved with --save-baseline by more than --floor and its 99 % interval.")
        .by_hand(BY_HAND),
];
