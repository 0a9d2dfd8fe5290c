//! Streams: the same text as without, whole characters, and tokens that come when they are made.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::options::{ensure_same, sampled};
use super::row::{Check, Need};
use crate::tasks::worker::net::stream::StreamedAnswer;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Completion, InferenceRequest, Promise};

/// Prompts that make many models answer beyond ASCII.
const ASCII_PROMPTS: [&str; 3] = [
    "The emoji for a bee is",
    "Summer in French is",
    "Three words in Japanese:",
];

/// Prompts beyond ASCII.
const WIDE_PROMPTS: [&str; 2] = ["Zürich, 東京, 🐝, Ωμέγα, дождь,", "🐝🐝🐝"];

/// How often a stream is watched until its tokens come one by one: a busy machine merges them.
const ATTEMPTS: usize = 12;

/// So many streams that came in heaps while we looked on are no accident.
const CERTAIN: usize = 3;

/// The least part of the generation's time over which the tokens have to be spread.
const LEAST_SPREAD: f64 = 0.5;

/// The least part of the tokens that have to come at a time of their own: more than half, so that
/// two at a time are seen.
const LEAST_APART: f64 = 0.6;

/// A token came at a time of its own when it came so much of its making time after the one before.
const OWN_SHARE: f64 = 0.4;

/// Tokens that are made quicker than this can't be told apart on their arrival.
const TELLABLE_S: f64 = 0.4e-3;

/// As much of both is enough where we were late ourselves.
const WHEN_LATE: f64 = 0.5;

/// We were late ourselves when we were woken up so much too late.
const OWN_LAG: Duration = Duration::from_millis(10);

/// A generation that takes less time than this can't be watched.
const WATCHABLE: Duration = Duration::from_millis(3);

/// Fewer tokens than these say nothing about how they are written.
const LEAST_TOKENS: usize = 4;

/// How long a watched generation should take.
const WATCHED: Duration = Duration::from_millis(150);

/// Streams.
pub const CHECKS: &[Check] = &[
    Check::contract("streams.equal_plain", equal_plain)
        .promise("streams the same text that it returns without streaming")
        .holds(&["P9"])
        .explanation("Sends greedy and sampled requests, within and beyond ASCII, both ways; fails if text, count or reason differ.")
        .by_hand(|by| by.stream("-sN", &InferenceRequest { seed: Some(42), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("streams.whole_characters", whole_characters)
        .promise("never splits a character")
        .holds(&["P5", "H1"])
        .explanation("Fails if a greedy text, plain or streamed, has a replacement character before its end, or isn't UTF-8.")
        .by_hand(|by| by.stream("-sN", &InferenceRequest::greedy("The emoji for a bee is", 16)))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("streams.head_at_once", head_at_once)
        .promise("begins a stream at once, before it has read the prompt")
        .holds(&["P2"])
        .explanation("Asks for a stream with a long prompt; fails if the head repeatedly comes no sooner than the first token, although that took its time.")
        .by_hand(|by| by.stream("-siN", &InferenceRequest::new("Hello", 4)))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::EventPerToken)]),
    Check::contract("streams.as_made", as_made)
        .promise("writes each token when it is sampled, not several at once")
        .holds(&["P3"])
        .explanation("Compares arrivals with the worker's decode_ms and the measured time; fails if tokens repeatedly arrive all at once or in batches.")
        .by_hand(|by| by.stream("-sN", &InferenceRequest::new("Hello", 64)))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::EventPerToken)]),
];

fn equal_plain(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let prompt = reference.request.prompt.as_str();
    let mut requests = vec![
        reference.request.clone(),
        InferenceRequest::greedy(prompt, 1),
    ];
    requests.extend((11..14).map(|seed| sampled(prompt, seed, 1.5)));
    requests.extend(WIDE_PROMPTS.map(|prompt| InferenceRequest::greedy(prompt, 8)));
    requests.extend(WIDE_PROMPTS.map(|prompt| sampled(prompt, 15, 2.0)));
    for request in &requests {
        let plain = subject.worker.infer(request)?;
        let streamed = subject.worker.infer_streamed(request)?;
        let streamed = Completion {
            text: Some(streamed.text()),
            ..streamed.completion
        };
        let place = format!("stream for the prompt `{}`", request.prompt);
        ensure_same(&place, &plain, &streamed)?;
    }
    Ok(format!("{} requests", requests.len()))
}

fn whole_characters(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let prompts = [reference.request.prompt.as_str()];
    let mut beyond_ascii = 0;
    let prompts = prompts.iter().chain(&ASCII_PROMPTS).copied();
    for prompt in prompts.filter(|prompt| prompt.is_ascii()) {
        let request = InferenceRequest::greedy(prompt, 16);
        let plain = subject.worker.infer(&request)?.text.unwrap_or_default();
        let streamed = subject.worker.infer_streamed(&request)?.text();
        for (way, text) in [("inference", &plain), ("stream", &streamed)] {
            beyond_ascii += text.chars().filter(|c| !c.is_ascii()).count();
            // The last token may be cut off within a character, by max_tokens.
            let is_whole = !text.trim_end_matches('\u{fffd}').contains('\u{fffd}');
            let place = format!("{way} for the prompt `{prompt}`");
            ensure_kept(is_whole, &place, "whole characters", format!("`{text}`"))?;
        }
    }
    Ok(format!("{beyond_ascii} characters beyond ASCII"))
}

/// Words of a prompt that takes a while to read, and yet fits into small contexts.
const LONG_PROMPT_WORDS: usize = 200;

/// Less than this until the first token is no time in which a head could be held back.
const PREFILL_WORTH_JUDGING: Duration = Duration::from_millis(40);

/// A head that comes within this part of the time until the first token didn't wait for it.
const HEAD_PART: f64 = 0.7;

fn head_at_once(subject: &Subject) -> Result<Evidence> {
    let limit = subject.reference()?.limit_of(4, 0);
    let mut quick = Duration::ZERO;
    for attempt in 0..CERTAIN {
        // Another prompt each time: none is known already.
        let prompt = format!("{attempt} {}", "once more ".repeat(LONG_PROMPT_WORDS / 2));
        let sent = Instant::now();
        let mut stream = subject
            .worker
            .open_stream(&InferenceRequest::greedy(&prompt, 4))?;
        stream.read_tokens(0, limit)?;
        let head = subject.jitter.excess(sent, sent.elapsed());
        stream.read_tokens(1, limit)?;
        let first = sent.elapsed();
        stream.finish_stream(limit)?;
        if first < PREFILL_WORTH_JUDGING {
            quick = quick.max(first);
        } else if head <= first.mul_f64(HEAD_PART) {
            let (head_ms, first_ms) = (head.as_secs_f64() * 1e3, first.as_secs_f64() * 1e3);
            return Ok(format!(
                "after {head_ms:.1} ms, the first token after {first_ms:.1} ms"
            ));
        }
    }
    let quick_ms = quick.as_secs_f64() * 1e3;
    ensure_kept(
        !quick.is_zero(),
        "a stream with a long prompt",
        "a head long before the first token",
        format!("both at once, {CERTAIN} times"),
    )?;
    Ok(format!("first token and head within {quick_ms:.1} ms"))
}

fn as_made(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let tokens = reference.tokens_in(WATCHED, 16, 96);
    let one_s = one_token_s(subject)?;
    let mut worst: Vec<Mismatch> = Vec::new();
    let mut late = 0;
    let (mut excused, mut quick): (Option<Evidence>, Option<Evidence>) = (None, None);
    for attempt in 0..ATTEMPTS {
        // Some models have more to say when they are hot.
        let request = match attempt % 3 {
            0 => InferenceRequest::greedy(&reference.request.prompt, tokens),
            _ => InferenceRequest {
                max_tokens: Some(tokens),
                ..sampled(&reference.request.prompt, attempt as u64, 2.0)
            },
        };
        let waited = subject.worker.waited_for_processor();
        let answer = subject.worker.infer_streamed(&request)?;
        let waited = subject.worker.waited_for_processor().saturating_sub(waited);
        match Spread::of(&answer, one_s) {
            None if answer.pieces.len() >= LEAST_TOKENS => {
                let took_ms = (answer.ended - answer.sent).as_secs_f64() * 1e3;
                let count = answer.pieces.len();
                quick = Some(format!(
                    "{count} tokens at once, {took_ms:.1} ms after the request"
                ));
            }
            None => {}
            Some(spread) => {
                let was_late = waited >= OWN_LAG || was_late(subject, &answer);
                match spread.judge(was_late) {
                    Ok(evidence) if !was_late => return Ok(evidence),
                    Ok(evidence) => excused = Some(evidence),
                    // A reader that was late itself has seen nothing that it could blame, and what
                    // the machine kept from the processor has nothing to be blamed for.
                    Err(_) if was_late => late += 1,
                    Err(mismatch) => worst.push(mismatch),
                }
            }
        }
    }
    // What we saw only half counts where what we saw whole doesn't say otherwise.
    if worst.len() < CERTAIN
        && let Some(evidence) = excused
    {
        return Ok(evidence);
    }
    match (worst.pop(), quick) {
        (Some(mismatch), _) => Err(mismatch.into()),
        // Nothing was held back: there was no time in which it could have been.
        (None, Some(evidence)) => Ok(evidence),
        (None, None) if late > 0 => {
            anyhow::bail!(
                "this machine is too busy: our own reader or the worker was kept waiting {late} times"
            )
        }
        (None, None) => anyhow::bail!("{ATTEMPTS} answers were too short to tell"),
    }
}

/// How long an answer of one token takes, at the quickest: what a longer one takes beyond that went
/// into its tokens, whatever the worker says of its own phases.
fn one_token_s(subject: &Subject) -> Result<f64> {
    let reference = subject.reference()?;
    let request = InferenceRequest::greedy(&reference.request.prompt, 1);
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let limit = reference.limit_of(1, 0);
        quickest = quickest.min(subject.worker.infer_timed(&request, limit)?.1);
    }
    Ok(quickest.as_secs_f64())
}

fn was_late(subject: &Subject, answer: &StreamedAnswer) -> bool {
    subject.jitter.between(answer.sent, answer.ended) >= OWN_LAG
}

/// How the tokens of one answer arrived.
#[derive(Debug, Clone, PartialEq)]
struct Spread {
    /// How long the tokens took to be made, by the worker's or by our own clock.
    made_s: f64,
    /// From the first arrival to the last.
    arrived_s: f64,
    /// How many tokens there were.
    tokens: usize,
    /// How many of them came at a time of their own.
    apart: usize,
}

impl Spread {
    /// `None` where there is too little to be seen. `one_s` is what an answer of one token takes.
    fn of(answer: &StreamedAnswer, one_s: f64) -> Option<Spread> {
        let arrivals: Vec<Instant> = answer.pieces.iter().map(|piece| piece.at).collect();
        let (first, last) = (*arrivals.first()?, *arrivals.last()?);
        let phases = answer.completion.phases?;
        let whole_s = (answer.ended - answer.sent).as_secs_f64();
        let rest_s = whole_s - (phases.queue_ms + phases.prefill_ms) / 1e3;
        // The first token may be counted to the prefill, so one interval may be missing.
        let intervals = (arrivals.len() - 1) as f64 / arrivals.len() as f64;
        let beyond_one_s = whole_s - one_s;
        let made_s = (phases.decode_ms / 1e3).max(rest_s.max(beyond_one_s) * 0.8) * intervals;
        let share_s = made_s / arrivals.len() as f64;
        let gaps = arrivals
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64());
        let apart = 1 + gaps.filter(|gap_s| *gap_s > share_s * OWN_SHARE).count();
        let is_watchable = arrivals.len() >= LEAST_TOKENS && made_s >= WATCHABLE.as_secs_f64();
        is_watchable.then_some(Spread {
            made_s,
            arrived_s: (last - first).as_secs_f64(),
            tokens: arrivals.len(),
            apart,
        })
    }

    /// `was_late` says that we didn't see everything when it came.
    fn judge(&self, was_late: bool) -> Result<Evidence, Mismatch> {
        let Self {
            made_s,
            arrived_s,
            tokens,
            apart,
        } = *self;
        let is_tellable = made_s / tokens as f64 >= TELLABLE_S;
        let said = format!(
            "{apart} arrivals of {tokens} tokens, spread over {:.1} ms",
            arrived_s * 1e3
        );
        let part = if was_late { WHEN_LATE } else { 1.0 };
        let kept = arrived_s >= made_s * LEAST_SPREAD * part
            && (!is_tellable || apart as f64 >= tokens as f64 * LEAST_APART * part);
        let expected = format!(
            "{tokens} tokens that arrive one by one, as they are made, over {:.1} ms",
            made_s * 1e3
        );
        ensure_kept(kept, "stream", expected, said.clone())?;
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    fn spread(arrived_s: f64, apart: usize) -> Spread {
        Spread {
            made_s: 0.1,
            arrived_s,
            tokens: 40,
            apart,
        }
    }

    #[test]
    fn heaps_are_told_from_a_stream() {
        assert!(spread(0.1, 40).judge(false).is_ok());
        assert!(spread(0.08, 25).judge(false).is_ok(), "a busy machine");
        assert!(spread(0.1, 20).judge(false).is_err(), "two at a time");
        assert!(spread(0.03, 10).judge(false).is_err(), "four at a time");
        assert!(spread(0.03, 12).judge(true).is_ok(), "we were late");
        let quick = Spread {
            made_s: 0.008,
            ..spread(0.006, 9)
        };
        assert!(quick.judge(false).is_ok(), "quicker than anyone can read");
        for was_late in [false, true] {
            assert!(spread(0.001, 1).judge(was_late).is_err(), "buffered");
            assert!(spread(0.09, 5).judge(was_late).is_err(), "eight at a time");
        }
    }
}
