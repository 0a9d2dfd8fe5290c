//! What an answer says of itself: where it ended and why, how many tokens, how long it took.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::options::{cuts, sampled};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::facts::Phases;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{FinishReason, InferenceRequest, Promise};
use crate::tasks::worker::target::reference::Reference;

/// More than this between the worker's clock and ours is more than rounding.
const TIMING_SLACK_MS: f64 = 5.0;

/// Stop strings that no model says, in front of the one that it does.
const DECOYS: [&str; 3] = [
    "\u{1}never\u{1}",
    "\u{2}not this\u{2}",
    "\u{3}nor that\u{3}",
];

/// What everything else is held against.
pub const FIRST: &[Check] = &[Check::contract("answers.again", again)
        .promise("gives the same text for the same greedy request, plain and streamed")
        .quote("Concatenated, the texts equal what the same request answers in one piece.")
        .explanation("Sends a greedy request streamed, plain and streamed again; fails if an answer is invalid or its text differs. Checks that need a reference text are skipped then.")
        .by_hand(|by| by.stream("-sN", &InferenceRequest::greedy("Hello", 24)))
        .needs(&[Need::Ready])];

/// What an answer says of itself.
pub const CHECKS: &[Check] = &[
    Check::contract("answers.stop", stop)
        .promise("ends right before a stop string, and leaves it out of the text")
        .quote("`finish_reason` is `stop` (the model's end token, or a stop string, which is not in the text) or `length`.")
        .explanation("Uses part of a known answer as the stop string, alone and after three others; fails if the text doesn't end right before it.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { stop: vec![String::from("a")], ..InferenceRequest::greedy("Hello", 20) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("answers.stop_across_tokens", stop_across_tokens)
        .promise("finds a stop string that spans two tokens")
        .quote("`finish_reason` is `stop` (the model's end token, or a stop string, which is not in the text) or `length`.")
        .explanation("Joins the end of one known token and the start of the next into a stop string; fails if the text, plain or streamed, doesn't end right before it.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { stop: vec![String::from("x"), String::from(" w")], ..InferenceRequest::greedy("Hello", 20) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("answers.stop_that_never_comes", stop_that_never_comes)
        .promise("returns the whole text when only the beginning of a stop string appears")
        .quote("So does text that may turn out to be a stop string.")
        .explanation("Uses a stop string that begins like the end of a known answer and is never completed; fails if the end of the text is missing.")
        .by_hand(|by| by.stream("-sN", &InferenceRequest { stop: vec![String::from("a\u{1}")], ..InferenceRequest::greedy("Hello", 20) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("answers.finish_reason", finish_reason)
        .promise("reports the real reason for the end of an answer")
        .quote("`finish_reason` is `stop` (the model's end token, or a stop string, which is not in the text) or `length`.")
        .explanation("Ends a known answer by max_tokens and by a stop string, plain and streamed; fails on `stop` for the first or `length` for the second.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("Hello", 2)))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("answers.counts", counts)
        .promise("counts tokens consistently")
        .quote("`tokens` equals `usage.completion_tokens`; `prompt_tokens` includes the begin-of-text token, if the model has one.")
        .explanation("Fails unless `tokens`, `completion_tokens` and the number of events agree, and `prompt_tokens` is equal for equal prompts and larger for a longer one.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("Hello", 5)))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::StreamUsage)]),
    Check::contract("answers.timings", timings)
        .promise("reports no more time than the request took")
        .quote(r#"`{"text":"...","tokens":18,"finish_reason":"length", "usage":{"prompt_tokens":6,"completion_tokens":18}, "timings":{"queue_ms":0.1,"prefill_ms":34.0,"decode_ms":259.0}}`."#)
        .explanation("Fails if queue_ms, prefill_ms and decode_ms add up to more than the client measured.")
        .by_hand(|by| by.infer("-s -w '%{time_total}\\n'", &InferenceRequest::greedy("Hello", 5)))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Timings)]),
];

fn again(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let expected = reference.text.as_str();
    let plain = subject
        .worker
        .infer(&reference.request)?
        .text
        .unwrap_or_default();
    let streamed = subject.worker.infer_streamed(&reference.request)?.text();
    for (way, text) in [("inference", &plain), ("stream", &streamed)] {
        let same = *text == expected;
        ensure_kept(
            same,
            way,
            format!("`{expected}`, as in the stream before"),
            format!("`{text}`"),
        )?;
    }
    Ok(format!("{} tokens", reference.tokens))
}

fn stop(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let within = StopCut::within_a_token(reference);
    let across = || StopCut::across_tokens(reference);
    let Some(cut) = within.or_else(across) else {
        anyhow::bail!("the answer `{}` is too short to be cut", reference.text);
    };
    let decoys = DECOYS.iter().map(|&decoy| decoy.to_owned());
    let last: Vec<String> = decoys.chain([cut.stop.clone()]).collect();
    for stops in [vec![cut.stop.clone()], last] {
        let answer = subject.worker.infer(&cut.request(reference, stops))?;
        cut.ensure_kept(&answer.text.unwrap_or_default(), "inference with stop")?;
    }
    Ok(format!("before `{}`", cut.stop))
}

fn stop_across_tokens(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let Some(cut) = StopCut::across_tokens(reference) else {
        anyhow::bail!("the answer `{}` is too short to be cut", reference.text);
    };
    let decoy = DECOYS[0].to_owned();
    for stops in [vec![cut.stop.clone()], vec![cut.stop.clone(), decoy]] {
        let request = cut.request(reference, stops);
        let plain = subject.worker.infer(&request)?.text.unwrap_or_default();
        cut.ensure_kept(&plain, "inference with a stop string across tokens")?;
        let streamed = subject.worker.infer_streamed(&request)?.text();
        cut.ensure_kept(&streamed, "stream with a stop string across tokens")?;
    }
    Ok(format!("before `{}`", cut.stop))
}

fn stop_that_never_comes(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let text = reference.text.as_str();
    let Some(last) = text.chars().last() else {
        anyhow::bail!("the reference answer has no text");
    };
    let request = InferenceRequest {
        stop: vec![format!("{last}\u{1}never")],
        ..reference.request.clone()
    };
    let expected = format!("`{text}`, as without it");
    let place = "with a stop string that only begins";
    let plain = subject.worker.infer(&request)?.text.unwrap_or_default();
    ensure_kept(
        plain == text,
        &format!("inference {place}"),
        &expected,
        format!("`{plain}`"),
    )?;
    let streamed = subject.worker.infer_streamed(&request)?.text();
    ensure_kept(
        streamed == text,
        &format!("stream {place}"),
        &expected,
        format!("`{streamed}`"),
    )?;
    Ok(Evidence::new())
}

fn finish_reason(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let mut cases = Vec::new();
    if let Some(&cut) = cuts(reference).last() {
        let request = InferenceRequest::greedy(&reference.request.prompt, cut);
        let place = format!(
            "an answer of {} tokens that max_tokens cuts to {cut}",
            reference.tokens
        );
        cases.push((place, request, FinishReason::Length));
    }
    if let Some(cut) =
        StopCut::across_tokens(reference).or_else(|| StopCut::within_a_token(reference))
    {
        let place = format!("an answer that the stop string `{}` ends", cut.stop);
        let request = cut.request(reference, vec![cut.stop.clone()]);
        cases.push((place, request, FinishReason::Stop));
    }
    anyhow::ensure!(
        !cases.is_empty(),
        "the answer `{}` is too short to be cut",
        reference.text
    );
    for (place, request, expected) in &cases {
        let plain = subject.worker.infer(request)?.finish_reason;
        let streamed = subject
            .worker
            .infer_streamed(request)?
            .completion
            .finish_reason;
        for (way, got) in [("plain", plain), ("streamed", streamed)] {
            let place = format!("{place}, {way}, `finish_reason`");
            ensure_kept(
                got == *expected,
                &place,
                format!("{expected:?}"),
                format!("{got:?}"),
            )?;
        }
    }
    Ok(format!("{} ends, plain and streamed", cases.len()))
}

fn counts(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let plain = subject.worker.infer(&reference.request)?;
    let streamed = subject.worker.infer_streamed(&reference.request)?;
    for (way, answer) in [("plain", &plain), ("streamed", &streamed.completion)] {
        let place = format!("inference, {way}, `completion_tokens`");
        let tokens = answer.tokens()?;
        let expected = format!("{tokens} as `tokens`");
        let got = answer.completion_tokens.unwrap_or(tokens);
        ensure_kept(got == tokens, &place, expected, got.to_string())?;
        let place = format!("inference, {way}, `tokens`");
        let before = reference.tokens;
        let expected = format!("{before}, as in the stream before");
        ensure_kept(tokens == before, &place, expected, tokens.to_string())?;
        let place = format!("inference, {way}, `prompt_tokens`");
        let expected = reference.completion.prompt_tokens()?;
        let got = answer.prompt_tokens()?;
        ensure_kept(
            got == expected,
            &place,
            format!("{expected}, as before"),
            got.to_string(),
        )?;
    }
    let longer = format!(
        "{} one two three four five six seven",
        reference.request.prompt
    );
    let longer = subject
        .worker
        .infer(&InferenceRequest::greedy(&longer, 1))?
        .prompt_tokens()?;
    let prompt_tokens = plain.prompt_tokens()?;
    ensure_kept(
        longer > prompt_tokens,
        "inference with a prompt that is seven words longer, `prompt_tokens`",
        format!("more than {prompt_tokens}"),
        longer.to_string(),
    )?;
    let tokens = plain.tokens()?;
    Ok(format!("{prompt_tokens} and {tokens} tokens"))
}

fn timings(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let mut largest: f64 = 0.0;
    for request in [
        reference.request.clone(),
        sampled(&reference.request.prompt, 5, 1.0),
    ] {
        let asked = std::time::Instant::now();
        let plain = subject.worker.infer(&request)?;
        let plain_ms = asked.elapsed().as_secs_f64() * 1e3;
        let streamed = subject.worker.infer_streamed(&request)?;
        let streamed_ms = (streamed.ended - streamed.sent).as_secs_f64() * 1e3;
        for (answer, measured_ms) in [(&plain, plain_ms), (&streamed.completion, streamed_ms)] {
            let phases = answer.phases()?;
            largest = largest.max(reported_ms(&phases) / measured_ms);
            ensure_plausible(&phases, measured_ms)?;
        }
    }
    Ok(format!(
        "at most {:.0} % of the measured time",
        largest * 100.0
    ))
}

fn reported_ms(phases: &Phases) -> f64 {
    phases.queue_ms + phases.prefill_ms + phases.decode_ms
}

fn ensure_plausible(phases: &Phases, measured_ms: f64) -> Result<(), Mismatch> {
    let reported_ms = reported_ms(phases);
    ensure_kept(
        reported_ms <= measured_ms * 1.02 + TIMING_SLACK_MS,
        "inference, `timings`",
        format!("together no more than the {measured_ms:.0} ms that the client measured"),
        format!(
            "queue {:.1} ms, prefill {:.1} ms and decode {:.1} ms",
            phases.queue_ms, phases.prefill_ms, phases.decode_ms
        ),
    )
}

/// A stop string that is known to occur in an answer, and what stays before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StopCut {
    stop: String,
    text: String,
}

impl StopCut {
    fn across_tokens(reference: &Reference) -> Option<StopCut> {
        Self::find(&reference.pieces, true)
    }

    fn within_a_token(reference: &Reference) -> Option<StopCut> {
        Self::find(&reference.pieces, false)
    }

    /// The first piece whose first occurrence lies across a border of tokens, or inside one token,
    /// as far into the text as a few tokens.
    fn find(tokens: &[String], across: bool) -> Option<StopCut> {
        let text = tokens.concat();
        let mut borders = Vec::new();
        let mut at = 0;
        for token in tokens {
            at += token.len();
            borders.push(at);
        }
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let least = borders.get(tokens.len() / 4).copied().unwrap_or(0).max(1);
        for (number, &start) in starts.iter().enumerate() {
            for length_chars in [2, 3, 4, 1] {
                if start < least || number + length_chars > starts.len() {
                    continue;
                }
                let end = starts.get(number + length_chars);
                let end = end.copied().unwrap_or(text.len());
                let piece = &text[start..end];
                let is_first = text.find(piece) == Some(start);
                let crosses = borders.iter().any(|&border| start < border && border < end);
                let says_something = piece.chars().any(char::is_alphanumeric);
                if is_first && crosses == across && says_something {
                    return Some(StopCut {
                        stop: piece.to_owned(),
                        text: text[..start].to_owned(),
                    });
                }
            }
        }
        None
    }

    fn request(&self, reference: &Reference, stop: Vec<String>) -> InferenceRequest {
        InferenceRequest {
            stop,
            ..reference.request.clone()
        }
    }

    fn ensure_kept(&self, text: &str, place: &str) -> Result<(), Mismatch> {
        let expected = format!("`{}`, which ends before `{}`", self.text, self.stop);
        ensure_kept(text == self.text, place, expected, format!("`{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::StopCut;

    fn find(tokens: &[&str], across: bool) -> Option<(String, String)> {
        let tokens: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
        StopCut::find(&tokens, across).map(|cut| (cut.stop, cut.text))
    }

    #[test]
    fn a_stop_string_lies_where_it_should_and_nowhere_before() {
        let tokens = ["ab", "cd", "ab", "ce", "zü", "x"];
        let (stop, text) = find(&tokens, true).unwrap();
        assert_eq!((stop.as_str(), text.as_str()), ("abce", "abcd"));
        let (stop, text) = find(&tokens, false).unwrap();
        assert_eq!((stop.as_str(), text.as_str()), ("ce", "abcdab"));
        assert_eq!(find(&["a", "a", "a"], true), None);
        assert_eq!(find(&[], true), None);
    }
}
