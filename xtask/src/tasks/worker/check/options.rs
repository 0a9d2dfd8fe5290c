//! Options of a request: what they do, and what counts where they are left out.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::load::generator::at_once;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Completion, FinishReason, InferenceRequest, Promise};
use crate::tasks::worker::target::reference::Reference;
use crate::tasks::worker::target::worker::ask::send_until_taken;

/// Tokens of an answer that is sampled.
const SAMPLED_TOKENS: u32 = 12;

/// The default of `max_tokens`.
const DEFAULT_MAX_TOKENS: u32 = 128;

/// An answer with the default length that takes longer is asked for only once.
const PATIENCE_S: f64 = 5.0;

/// How many requests run beside each other.
const BESIDE: u32 = 8;

/// Options of a request.
pub const CHECKS: &[Check] = &[
    Check::contract("options.greedy", greedy)
        .promise("gives the same text at temperature 0 every time, whatever the seed")
        .quote("`temperature`: number from 0 to 2; 0 is greedy: 0.7.")
        .explanation("Sends a greedy request three times, with and without seeds; fails if a text differs.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { seed: Some(1), ..InferenceRequest::greedy("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("options.seed", seed)
        .promise("gives the same text for the same seed")
        .quote("The same seed, prompt and options give the same text, alone or beside other requests.")
        .explanation("Sends a sampled request with a seed twice, with other requests in between; fails if the texts differ.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { temperature: Some(1.0), seed: Some(42), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("options.exact_seeds", exact_seeds)
        .promise("tells large seeds apart, and accepts 0 as a seed")
        .quote("Integers are read exactly, large seeds too.")
        .explanation("Samples with seed 0 twice; fails if the texts differ, or if none of three pairs of neighbouring seeds beyond 2^53 gives two texts although far seeds do.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { temperature: Some(2.0), seed: Some((1 << 53) + 1), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::ExactIntegers)]),
    Check::contract("options.seeds_differ", seeds_differ).should()
        .promise("gives different texts for different seeds at a high temperature")
        .quote("The same seed, prompt and options give the same text, alone or beside other requests.")
        .explanation("Warns if six seeds at temperature 2 give one text: sampling is off, or the model is very sure.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { temperature: Some(2.0), seed: Some(1), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("options.likeliest", likeliest).should()
        .promise("picks the most likely token with top_k 1, and with a top_p close to 0")
        .quote("`top_k`: integer from 1: off.")
        .explanation("Samples at temperature 1 with top_k 1, and with top_p 0.000001; warns if the text isn't the greedy one: the option is ignored.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { temperature: Some(1.0), seed: Some(1), top_k: Some(1), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("options.beside_others", beside_others)
        .promise("gives the same text alone and beside seven other requests")
        .quote("The same seed, prompt and options give the same text, alone or beside other requests.")
        .explanation("Sends eight different requests one by one, then all at once; fails if a text differs or a request fails.")
        .by_hand(|by| by.infer_beside(&InferenceRequest { temperature: Some(1.0), seed: Some(42), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::SameText)]),
    Check::contract("options.max_tokens", max_tokens)
        .promise("generates exactly as many tokens as requested")
        .quote("`max_tokens`: integer from 1: 128.")
        .explanation("Limits a known answer to 1, 2, 5 and more tokens; fails if the count differs, or the text isn't a prefix of it.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("Hello", 5)))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("options.default_max_tokens", default_max_tokens)
        .promise("generates up to 128 tokens by default")
        .quote("`max_tokens`: integer from 1: 128.")
        .explanation("Fails unless the answers without max_tokens and with 128 are the same.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { prompt: String::from("Hello"), temperature: Some(0.0), ..InferenceRequest::default() }))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Defaults)]),
    Check::contract("options.default_temperature", default_temperature)
        .promise("samples at temperature 0.7 by default")
        .quote("`temperature`: number from 0 to 2; 0 is greedy: 0.7.")
        .explanation("Fails unless, with the same seed, the answers without temperature and with 0.7 are the same.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { seed: Some(3), ..InferenceRequest::new("Hello", 12) }))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Defaults)]),
];

/// A request whose tokens are drawn by chance.
pub(super) fn sampled(prompt: &str, seed: u64, temperature: f64) -> InferenceRequest {
    InferenceRequest {
        temperature: Some(temperature),
        seed: Some(seed),
        ..InferenceRequest::greedy(prompt, SAMPLED_TOKENS)
    }
}

/// Fails with a [`Mismatch`] unless both answers say the same.
pub(super) fn ensure_same(
    place: &str,
    expected: &Completion,
    got: &Completion,
) -> Result<(), Mismatch> {
    let show = |answer: &Completion| {
        let text = answer.text.as_deref().unwrap_or_default();
        let reason = answer.finish_reason;
        // Where one of the two doesn't say, there is nothing to compare.
        match expected.tokens.and(got.tokens).and(answer.tokens) {
            Some(tokens) => format!("`{text}`, {tokens} tokens, {reason:?}"),
            None => format!("`{text}`, {reason:?}"),
        }
    };
    ensure_kept(
        show(expected) == show(got),
        place,
        show(expected),
        show(got),
    )
}

fn greedy(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    for seed in [None, Some(1), Some(2)] {
        let request = InferenceRequest {
            seed,
            ..reference.request.clone()
        };
        let text = subject.worker.infer(&request)?.text.unwrap_or_default();
        let expected = reference.text.as_str();
        let place = "inference at temperature 0";
        ensure_kept(
            text == expected,
            place,
            format!("`{expected}`, as before"),
            format!("`{text}`"),
        )?;
    }
    Ok(Evidence::new())
}

fn seed(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let request = sampled(&reference.request.prompt, 42, 1.0);
    let first = subject.worker.infer(&request)?;
    subject
        .worker
        .infer(&sampled(&reference.request.prompt, 43, 1.0))?;
    for _ in 0..2 {
        let again = subject.worker.infer(&request)?;
        ensure_same("inference with seed 42, again", &first, &again)?;
    }
    Ok(Evidence::new())
}

/// Neighbours that are one number for whoever reads them as floats.
const NEIGHBOURS: [[u64; 2]; 3] = [
    [1 << 53, (1 << 53) + 1],
    [(1 << 60) + 1, (1 << 60) + 2],
    [u64::MAX - 1, u64::MAX],
];

fn exact_seeds(subject: &Subject) -> Result<Evidence> {
    let prompt = subject.reference()?.request.prompt.as_str();
    let ask = |seed| subject.worker.infer(&sampled(prompt, seed, 2.0));
    let zero = ask(0)?;
    ensure_same("inference with seed 0, again", &zero, &ask(0)?)?;
    let mut texts = std::collections::BTreeSet::new();
    for [seed, next] in NEIGHBOURS {
        let [one, other] = [ask(seed)?.text, ask(next)?.text];
        if one != other {
            return Ok(format!("{seed} and {next} differ"));
        }
        texts.insert(one);
    }
    anyhow::ensure!(
        texts.len() > 1,
        "the model gives the same text for all seeds"
    );
    let place = "inference with neighbouring seeds beyond 2^53 at temperature 2";
    Err(Mismatch::new(
        place,
        "two texts for two seeds",
        "always the same, as if seeds were rounded",
    )
    .into())
}

fn seeds_differ(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let mut texts = std::collections::BTreeSet::new();
    for seed in 1..=6 {
        let request = sampled(&reference.request.prompt, seed, 2.0);
        texts.insert(subject.worker.infer(&request)?.text.unwrap_or_default());
        if texts.len() > 1 {
            return Ok(format!("{seed} seeds, {} texts", texts.len()));
        }
    }
    let place = "inference with seeds 1 to 6 at temperature 2";
    let got = format!("always `{}`", texts.first().cloned().unwrap_or_default());
    Err(Mismatch::new(place, "more than one text", got).into())
}

fn likeliest(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let prompt = reference.request.prompt.as_str();
    let greedy = subject
        .worker
        .infer(&InferenceRequest::greedy(prompt, SAMPLED_TOKENS))?;
    let hot = sampled(prompt, 1, 1.0);
    let mut narrowed = vec![(
        "top_p 0.000001",
        InferenceRequest {
            top_p: Some(1e-6),
            ..hot.clone()
        },
    )];
    if subject.dialect().promises(Promise::TopK) {
        let top_k = InferenceRequest {
            top_k: Some(1),
            ..hot
        };
        narrowed.push(("top_k 1", top_k));
    }
    for (name, request) in narrowed {
        let place = format!("inference at temperature 1 with {name}");
        ensure_same(&place, &greedy, &subject.worker.infer(&request)?)?;
    }
    Ok(Evidence::new())
}

fn beside_others(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let requests: Vec<InferenceRequest> = (0..u64::from(BESIDE))
        .map(|number| {
            let prompt = format!("{} {number}", reference.request.prompt);
            match number {
                0 => reference.request.clone(),
                1 => InferenceRequest::greedy(&prompt, SAMPLED_TOKENS),
                _ => sampled(&prompt, number, 1.0),
            }
        })
        .collect();
    let alone = requests.iter().map(|request| subject.worker.infer(request));
    let alone = alone.collect::<Result<Vec<_>>>()?;
    let limit = reference.limit_of(SAMPLED_TOKENS, BESIDE);
    let (client, dialect) = (subject.worker.client().clone(), subject.dialect());
    let stop = subject.context.stop;
    let (asked, flag) = (requests.clone(), stop.clone());
    let ask = move |number: u32| {
        let request = dialect.inference_request(&asked[number as usize], false);
        let response = send_until_taken(dialect, &client, &request, limit, &flag)?;
        anyhow::Ok(dialect.read_completion(&response)?)
    };
    let beside = at_once(requests.len() as u32, limit * 2, stop, ask)?;
    for (number, (alone, beside)) in alone.iter().zip(beside).enumerate() {
        let beside = beside.map_err(|error| subject.worker.blame(error))?;
        let place = format!("request {} of {BESIDE} at once", number + 1);
        ensure_same(&place, alone, &beside)?;
    }
    Ok(format!("{BESIDE} requests at once"))
}

/// Lengths to which the reference answer can be cut.
pub(super) fn cuts(reference: &Reference) -> Vec<u32> {
    let length = reference.tokens as u32;
    let mut cuts = vec![1, 2, 3, 5, length / 2, length.saturating_sub(1)];
    cuts.retain(|cut| (1..length).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn max_tokens(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let cuts = cuts(reference);
    for &cut in &cuts {
        let request = InferenceRequest::greedy(&reference.request.prompt, cut);
        let answer = subject.worker.infer(&request)?;
        let place = format!("inference with max_tokens {cut}");
        let tokens = answer.tokens()?;
        ensure_kept(
            tokens == u64::from(cut),
            &place,
            format!("{cut} tokens, where {} are possible", reference.tokens),
            format!("{tokens} tokens"),
        )?;
        // A character whose last bytes were cut off may be shown as what it isn't.
        let text = answer.text.unwrap_or_default();
        let kept = text.trim_end_matches('\u{fffd}');
        let expected = reference.text.as_str();
        ensure_kept(
            expected.starts_with(kept),
            &place,
            format!("the beginning of `{expected}`"),
            format!("`{text}`"),
        )?;
    }
    let answer = subject
        .worker
        .infer(&InferenceRequest::greedy(&reference.request.prompt, 1))?;
    let tokens = answer.tokens()?;
    let got = format!("{tokens} tokens");
    ensure_kept(tokens == 1, "inference with max_tokens 1", "1 token", got)?;
    Ok(format!("{} lengths", cuts.len().max(1)))
}

fn default_max_tokens(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    let limit = reference.limit_of(DEFAULT_MAX_TOKENS, 1);
    let place = "inference without max_tokens";
    let hot = sampled(&reference.request.prompt, 7, 2.0);
    let is_slow = reference.token_s() * f64::from(DEFAULT_MAX_TOKENS) > PATIENCE_S;
    let requests = [reference.request.clone(), hot];
    let requests = if is_slow {
        &requests[..1]
    } else {
        &requests[..]
    };
    let mut longest = 0;
    for request in requests {
        let without = InferenceRequest {
            max_tokens: None,
            ..request.clone()
        };
        let answer = subject.worker.infer_within(&without, limit)?;
        let tokens = answer.tokens()?;
        longest = longest.max(tokens);
        let is_full = tokens == u64::from(DEFAULT_MAX_TOKENS);
        let has_stopped = answer.finish_reason == FinishReason::Stop;
        let got = format!("{tokens} tokens, {:?}", answer.finish_reason);
        ensure_kept(is_full || has_stopped, place, "128 tokens", got)?;
        if !is_slow {
            let with = InferenceRequest {
                max_tokens: Some(DEFAULT_MAX_TOKENS),
                ..request.clone()
            };
            ensure_same(place, &subject.worker.infer_within(&with, limit)?, &answer)?;
        }
    }
    Ok(format!("up to {longest} tokens"))
}

fn default_temperature(subject: &Subject) -> Result<Evidence> {
    let reference = subject.reference()?;
    for seed in 3..6 {
        let with = sampled(&reference.request.prompt, seed, 0.7);
        let without = InferenceRequest {
            temperature: None,
            ..with.clone()
        };
        let expected = subject.worker.infer(&with)?;
        let got = subject.worker.infer(&without)?;
        let place = format!("inference with seed {seed} and no temperature");
        ensure_same(&place, &expected, &got)?;
    }
    Ok(Evidence::new())
}
