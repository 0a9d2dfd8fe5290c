//! What looks odd and is right: it has to be taken.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::refusals::REFUSAL_LIMIT;
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{GoodInput, InferenceRequest, Promise};

/// The most tokens that such a request asks for.
const SPELLED_TOKENS: u32 = 10;

/// Odd and right.
pub const CHECKS: &[Check] = &[
    Check::contract("accepts.edges", edges)
        .promise("accepts every value that is just within bounds")
        .quote("`temperature`: number from 0 to 2; 0 is greedy: 0.7.")
        .explanation("Sends temperature 0 and 2, max_tokens 1, sixteen stop strings and the like; fails if one is refused.")
        .by_hand(|by| by.infer("-i", &InferenceRequest { temperature: Some(2.0), ..InferenceRequest::new("Hello", 1) }))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("accepts.bodies", bodies)
        .promise("accepts a body of exactly 1 MiB, chunked bodies, and a content type with a charset, utf-8 or utf8")
        .quote("The body may be chunked, and at most 1 MiB (1048576 bytes) long.")
        .explanation("Fails on a refusal, or if the text depends on how the body was sent.")
        .by_hand(|by| by.infer("-i -H 'Transfer-Encoding: chunked'", &InferenceRequest::new("Hello", 1)))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("accepts.spellings", spellings)
        .promise("treats equal integers alike, however they are written")
        .quote("As in JSON Schema, a number without a fraction is an integer however it is written: `5`, `5.0` and `5e0` are equal.")
        .explanation("Sends one request with its integers as 10, 10.0, 1e1 and the like; fails on a refusal, or if the answer depends on how they are written.")
        .by_hand(|by| by.infer("-s", &InferenceRequest { seed: Some(10), ..InferenceRequest::new("Hello", 10) }))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::ExactIntegers)]),
];

fn edges(subject: &Subject) -> Result<Evidence> {
    let limit = subject.reference()?.limit_of(1, 0);
    let edges = subject.dialect().good_requests(GoodInput::Field);
    for (name, bytes) in &edges {
        let response = subject.worker.ask_raw(name, bytes, limit)?;
        subject.dialect().read_completion(&response)?;
    }
    Ok(format!("{} requests", edges.len()))
}

fn bodies(subject: &Subject) -> Result<Evidence> {
    answered_alike(subject, GoodInput::Body)
}

fn spellings(subject: &Subject) -> Result<Evidence> {
    answered_alike(subject, GoodInput::Spelling)
}

/// The same request, sent in different ways.
fn answered_alike(subject: &Subject, kind: GoodInput) -> Result<Evidence> {
    let limit = subject.reference()?.limit_of(SPELLED_TOKENS, 0) + REFUSAL_LIMIT;
    let mut text: Option<String> = None;
    let bodies = subject.dialect().good_requests(kind);
    for (name, bytes) in &bodies {
        let response = subject.worker.ask_raw(name, bytes, limit)?;
        let got = subject.dialect().read_completion(&response)?;
        let got = got.text.unwrap_or_default();
        let expected = text.get_or_insert_with(|| got.clone());
        let place = format!("{name}, `text`");
        ensure_kept(
            got == *expected,
            &place,
            format!("`{expected}`"),
            format!("`{got}`"),
        )?;
    }
    Ok(format!("{} requests", bodies.len()))
}
