//! What looks odd and is right: it has to be taken.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::refusals::REFUSAL_LIMIT;
use super::row::{Check, Need};
use crate::tasks::worker::target::{Subject, dialect};

/// Odd and right.
pub const CHECKS: &[Check] = &[
    Check::contract("accepts.edges", edges)
        .promise("takes every value that is just inside the bounds")
        .quote("`temperature`: number from 0 to 2; 0 is greedy: 0.7.")
        .explanation("Temperature 0 and 2, max_tokens 1, sixteen stop strings and the like; a refusal fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":1,"temperature":2}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("accepts.bodies", bodies)
        .promise("takes a body of exactly 1 MiB, chunked bodies, and a charset beside the content type")
        .quote("The body may be chunked, and at most 1 MiB (1048576 bytes) long.")
        .explanation("A refusal, or a text that depends on how the body came, fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -H 'Transfer-Encoding: chunked' -d '{"prompt":"Hello","max_tokens":1}'"#)
        .needs(&[Need::Ready, Need::Sound]),
];

fn edges(subject: &Subject) -> Result<Evidence> {
    let limit = subject.golden()?.limit(1, 0);
    let edges = dialect::fields_to_take();
    for (name, body) in &edges {
        let response = subject.ask_raw(name, &dialect::post_json(body), limit)?;
        dialect::read_completion(&response)?;
    }
    Ok(format!("{} requests", edges.len()))
}

fn bodies(subject: &Subject) -> Result<Evidence> {
    let limit = subject.golden()?.limit(1, 0) + REFUSAL_LIMIT;
    let mut text: Option<String> = None;
    let bodies = dialect::bodies_to_take();
    for (name, bytes) in &bodies {
        let response = subject.ask_raw(name, bytes, limit)?;
        let got = dialect::read_completion(&response)?
            .text
            .unwrap_or_default();
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
