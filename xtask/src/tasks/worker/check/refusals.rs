//! The error table: each row with several bad requests, and a look at the worker after each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use super::unchanged::{Unchanged, answers_as_before};
use crate::tasks::worker::model::gguf;
use crate::tasks::worker::net::raw::RawConnection;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{
    BadInput, BadRequest, Dialect, InferenceRequest, Promise, Reason, Refusal,
};
use crate::tasks::worker::target::open_stream::{Departure, Progress};

/// How long a refusal may take: nothing is generated for it.
pub const REFUSAL_LIMIT: Duration = Duration::from_secs(5);

/// How often the worker may be slow beside half a body: a busy machine isn't busy all the time.
const ATTEMPTS: usize = 3;

/// How long half a body is held.
const HELD: Duration = Duration::from_millis(300);

/// The error table, row by row.
pub const CHECKS: &[Check] = &[
    Check::contract("refusals.malformed_json", |subject| refuse(subject, BadInput::Malformed))
        .promise("refuses what isn't JSON, and answers the next valid request as before")
        .holds(&["E11", "E1", "H3", "R14", "R15", "R16", "R17", "R18", "R19"])
        .explanation("Sends empty, cut and garbled bodies, NaN, invalid UTF-8, trailing text and more; fails on another status or code, or if the next valid request is answered late or differently.")
        .by_hand(|by| by.bad(BadInput::Malformed, "a comma too many"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::Malformed))]),
    Check::contract("refusals.media_type", |subject| refuse(subject, BadInput::MediaType))
        .promise("refuses a wrong or missing content type")
        .holds(&["E9", "R31", "R32"])
        .explanation("Sends a valid body as text, form, bytes and without a type; fails on another status or code.")
        .by_hand(|by| by.bad(BadInput::MediaType, "content type text/plain"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::MediaType))]),
    Check::contract("refusals.invalid_field", |subject| refuse(subject, BadInput::Field))
        .promise("refuses fields that are missing, unknown, of the wrong type or out of range, and names them")
        .holds(&["E12", "E3", "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R20", "R21", "R26"])
        .explanation("Sends every field with every wrong type and beyond both bounds; fails if one is accepted, or on another status, code or `field`.")
        .by_hand(|by| by.bad(BadInput::Field, "an unknown field `temprature`"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::Field))]),
    Check::contract("refusals.context_length", |subject| refuse(subject, BadInput::BeyondContext))
        .promise("refuses what doesn't fit its context instead of cutting it")
        .holds(&["E14", "R28"])
        .explanation("Sends max_tokens beyond every context; fails on an answer, or on another status or code.")
        .by_hand(|by| by.bad(BadInput::BeyondContext, "max_tokens 100000000"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::BeyondContext))]),
    Check::contract("refusals.context_border", context_border)
        .promise("accepts what just fits its context, and refuses one token more")
        .holds(&["E14", "C13"])
        .explanation("Asks a worker with --ctx-size 64 for exactly the tokens that are left, and for one more; fails if the first is refused or the second accepted.")
        .by_hand(|by| by.worker(&[("--ctx-size", "64")]))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::CommandLine)]),
    Check::contract("refusals.model_context", model_context)
        .promise("has the whole context that its model was made for, and no more, unless it is told otherwise")
        .holds(&["C14"])
        .explanation("Asks for exactly the tokens that the model's context has beside the prompt, and leaves at the first, and for one more; fails if the first is refused or the second accepted.")
        .by_hand(|by| by.infer("-i", &InferenceRequest::greedy("Hello", 1_000_000)))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::CommandLine)]),
    Check::contract("refusals.body_size", |subject| refuse(subject, BadInput::TooLarge))
        .promise("refuses bodies over 1 MiB, whole or in chunks")
        .holds(&["E10", "R34"])
        .explanation("Sends 1 MiB and one byte, more, and the same in chunks; fails if it is accepted, on a hang-up, or on another status or code.")
        .by_hand(|by| by.bad(BadInput::TooLarge, "a body of 1 MiB and a byte"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::TooLarge))]),
    Check::contract("refusals.not_found", |subject| refuse(subject, BadInput::UnknownPath))
        .promise("answers 404 for unknown paths")
        .holds(&["E7"])
        .explanation("Requests several unknown paths; fails on another status, code or form.")
        .by_hand(|by| by.bad(BadInput::UnknownPath, "GET /v1/nothing"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::UnknownPath))]),
    Check::contract("refusals.method", methods)
        .promise("refuses wrong methods, and names the right one")
        .holds(&["E8"])
        .explanation("Tries every path with every wrong method; fails on another status or code, or if `Allow` lacks the right method.")
        .by_hand(|by| by.bad(BadInput::WrongMethod, "DELETE /v1/inference"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::WrongMethod))]),
    Check::contract("refusals.order", |subject| refuse(subject, BadInput::Order))
        .promise("names the outermost of two errors")
        .holds(&["E4"])
        .explanation("Breaks every row of the error table together with every later one; fails if the later one is named.")
        .by_hand(|by| by.bad(BadInput::Order, "type and json wrong"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::Order))]),
    Check::contract("refusals.host", |subject| refuse(subject, BadInput::Host))
        .promise("refuses requests that name no host, several hosts, or an invalid one")
        .holds(&["E5", "H2"])
        .explanation("Sends no Host, two of them, an empty one and two words; fails on another status or code.")
        .by_hand(|by| by.bad(BadInput::Host, "no Host"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::Host))]),
    Check::contract("refusals.streamed", |subject| refuse(subject, BadInput::Streamed))
        .promise("refuses a stream that it can't serve with a status, before it begins")
        .holds(&["P10"])
        .explanation("Asks for streams with a wrong field and beyond the context; fails on 200, or on another status or code.")
        .by_hand(|by| by.bad(BadInput::Streamed, "a stream with \"max_tokens\":0"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::Streamed))]),
    Check::contract("refusals.absurd", |subject| refuse(subject, BadInput::Absurd))
        .promise("survives absurd JSON: deep nesting, endless digits, duplicate keys, lone surrogates")
        .holds(&["E16"])
        .explanation("Fails on anything but an answer or a well-formed refusal, or if the next valid request is answered late or differently.")
        .by_hand(|by| by.bad(BadInput::Absurd, "max_tokens 1e400"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::Absurd))]),
    Check::contract("refusals.framing", framing)
        .promise("refuses bodies without a length or with a wrong one, and survives what isn't HTTP")
        .holds(&["E17"])
        .explanation("Sends missing and wrong Content-Length, broken chunks and noise; fails if it is accepted, on a 5xx or silence, or if the next valid request is answered late or differently.")
        .by_hand(|by| by.framing("a negative Content-Length"))
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.foreign_host", |subject| refuse(subject, BadInput::ForeignHost))
        .promise("refuses requests for hosts other than this machine if it has no token")
        .holds(&["H14", "E18"])
        .explanation("Asks for every path under a name that isn't this machine's, as a page in a browser could; fails if it is answered, or on another status or code.")
        .by_hand(|by| by.bad(BadInput::ForeignHost, "GET /v1/health for evil.example"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::Refusal(BadInput::ForeignHost))]),
    Check::contract("refusals.unfinished_body", unfinished_body)
        .promise("answers others while it waits for the rest of a body")
        .holds(&["E16"])
        .explanation("Sends half a body and waits; fails if a valid request is answered late, differently or not at all meanwhile.")
        .by_hand(|by| by.half_a_request())
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.message", messages)
        .promise("names the field, or what was wrong with it, in each refusal")
        .holds(&["E2"])
        .explanation("Fails if a message names neither the field nor what was received.")
        .by_hand(|by| by.bad(BadInput::Field, "max_tokens 0"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::NamedErrors)]),
    Check::contract("refusals.helpful_message", helpful_messages).should()
        .promise("names both what was received and what is allowed in its refusals")
        .holds(&["E2"])
        .explanation("Warns if a message lacks the value or its type, or doesn't say what is allowed.")
        .by_hand(|by| by.bad(BadInput::Field, "temperature 3"))
        .needs(&[Need::Ready, Need::Sound, Need::Promised(Promise::NamedErrors)]),
];

fn refuse(subject: &Subject, kind: BadInput) -> Result<Evidence> {
    let bad_requests = subject.dialect().bad_requests(kind);
    let mut unchanged = Unchanged::new(subject)?;
    for bad in &bad_requests {
        refusal_of(subject, bad)?;
        unchanged.ensure_after(&bad.name)?;
    }
    unchanged.finish()?;
    Ok(format!("{} requests", bad_requests.len()))
}

fn refusal_of(subject: &Subject, bad: &BadRequest) -> Result<Option<Refusal>> {
    let limit = REFUSAL_LIMIT.max(subject.references()?.short.limit_alone());
    let response = subject.worker.ask_raw(&bad.name, &bad.bytes, limit)?;
    Ok(bad.judge(subject.dialect(), &response)?)
}

fn methods(subject: &Subject) -> Result<Evidence> {
    let bad_requests = subject.dialect().bad_requests(BadInput::WrongMethod);
    let mut unchanged = Unchanged::new(subject)?;
    for bad in &bad_requests {
        let response = subject
            .worker
            .ask_raw(&bad.name, &bad.bytes, REFUSAL_LIMIT)?;
        bad.judge(subject.dialect(), &response)?;
        let allow = response.header("allow").unwrap_or("none");
        let method = bad.allow.unwrap_or_default();
        let named = allow.split(',').any(|word| word.trim() == method);
        let place = format!("{}, `Allow`", bad.name);
        ensure_kept(named, &place, method, allow)?;
        unchanged.ensure_after(&bad.name)?;
    }
    unchanged.finish()?;
    Ok(format!("{} requests", bad_requests.len()))
}

fn framing(subject: &Subject) -> Result<Evidence> {
    let bad_requests = subject.dialect().broken_framing();
    let mut unchanged = Unchanged::new(subject)?;
    let mut hung_up = 0;
    for (name, bytes) in &bad_requests {
        match subject.worker.ask_rudely(name, bytes, REFUSAL_LIMIT)? {
            Some(response) => {
                let is_refusal = (400..500).contains(&response.status);
                let expected = "a status from 400 to 499, or a hang-up";
                ensure_kept(is_refusal, name, expected, response.status.to_string())?;
            }
            None => hung_up += 1,
        }
        unchanged.ensure_after(name)?;
    }
    unchanged.finish()?;
    let count = bad_requests.len();
    Ok(format!("{count} requests, {hung_up} without an answer"))
}

fn unfinished_body(subject: &Subject) -> Result<Evidence> {
    let limit = subject.references()?.short.limit_alone();
    let place = "inference while the rest of a body is awaited";
    let mut slowest = Duration::ZERO;
    for _ in 0..ATTEMPTS {
        let half = half_a_body(subject)?;
        // The worker may take a while until it has seen the half that came.
        let began = Instant::now();
        slowest = Duration::ZERO;
        while began.elapsed() < HELD {
            slowest = slowest.max(answers_as_before(subject, place)?);
        }
        half.leave()?;
        if slowest <= limit {
            let mut unchanged = Unchanged::new(subject)?;
            unchanged.ensure_after("half a body whose client left")?;
            unchanged.finish()?;
            return Ok(format!(
                "answers within {} ms in the meantime",
                slowest.as_millis()
            ));
        }
    }
    let expected = format!("an answer within {:.1} s, as before", limit.as_secs_f64());
    let got = format!("one after {:.1} s", slowest.as_secs_f64());
    Err(Mismatch::new(place, expected, got).into())
}

/// A connection on which the rest of a request never comes.
fn half_a_body(subject: &Subject) -> Result<RawConnection> {
    let mut connection = subject.worker.connect()?;
    connection.send(&subject.dialect().half_a_request(), REFUSAL_LIMIT)?;
    Ok(connection)
}

/// One bad request for each field, and those that blame none.
fn telling_requests(dialect: &dyn Dialect) -> Vec<BadRequest> {
    let mut telling: Vec<BadRequest> = Vec::new();
    for bad in dialect.bad_requests(BadInput::Field) {
        let known = telling.iter().filter(|known| known.field == bad.field);
        if known.count() < 3 {
            telling.push(bad);
        }
    }
    telling.extend(dialect.bad_requests(BadInput::BeyondContext));
    telling
}

fn messages(subject: &Subject) -> Result<Evidence> {
    let expected = "a message that names the field, or what was got";
    judge_messages(
        subject,
        telling_requests(subject.dialect()),
        expected,
        BadRequest::is_named_by,
    )
}

fn helpful_messages(subject: &Subject) -> Result<Evidence> {
    let mut telling = telling_requests(subject.dialect());
    telling.extend(subject.dialect().bad_requests(BadInput::MediaType));
    let expected = "a message that names what was got and what is allowed";
    judge_messages(subject, telling, expected, BadRequest::is_explained_by)
}

/// Looks at messages alone: a request that isn't refused as it should be is another check's business.
fn judge_messages(
    subject: &Subject,
    telling: Vec<BadRequest>,
    expected: &str,
    is_kept: fn(&BadRequest, &str) -> bool,
) -> Result<Evidence> {
    let mut count = 0;
    for bad in &telling {
        let refusal = match refusal_of(subject, bad) {
            Ok(Some(refusal)) => refusal,
            Ok(None) => continue,
            Err(error) => match error.downcast::<Mismatch>() {
                Ok(_) => continue,
                Err(error) => return Err(error),
            },
        };
        let place = format!("{}, `message`", bad.name);
        let kept = is_kept(bad, &refusal.message);
        ensure_kept(kept, &place, expected, format!("`{}`", refusal.message))?;
        count += 1;
    }
    anyhow::ensure!(count > 0, "no refusal came in the contract's form");
    Ok(format!("{count} messages"))
}

fn model_context(subject: &Subject) -> Result<Evidence> {
    let launch = subject.worker.launch();
    let context = gguf::check(&launch.model)?.context_length;
    let context = context.context("the model's file names no context")?;
    let reference = subject.reference()?;
    let mut request = InferenceRequest::greedy("Hello", 1);
    let limit = reference.limit_of(1, 0);
    let prompt_tokens = subject
        .worker
        .infer_within(&request, limit)?
        .prompt_tokens()? as u32;
    let room = context.saturating_sub(prompt_tokens);
    request.max_tokens = Some(room + 1);
    let asked = subject.dialect().inference_request(&request, false);
    let response = subject.worker.ask(&asked, limit)?;
    let refused = subject
        .dialect()
        .read_refusal(&response, Reason::ContextExceeded);
    refused.map_err(|mismatch| Mismatch {
        place: format!(
            "{} tokens with a model for {context}",
            prompt_tokens + room + 1
        ),
        ..mismatch
    })?;
    request.max_tokens = Some(room);
    let mut stream = subject.worker.open_stream(&request)?;
    let progress = stream.read_tokens(1, limit)?;
    let is_taken = matches!(progress, Progress::Tokens(1..) | Progress::Ended);
    let place = format!("{context} tokens with a model for as many");
    ensure_kept(is_taken, &place, "a first token", format!("{progress:?}"))?;
    stream.leave(Departure::Fin)?;
    Ok(format!("{context} tokens, prompt and answer together"))
}

fn context_border(subject: &Subject) -> Result<Evidence> {
    const CONTEXT: u32 = 64;
    let mut auxiliary = subject.auxiliaries.start("context", |launch| {
        launch.set(&[("--ctx-size", &CONTEXT.to_string())]);
    })?;
    auxiliary.wait_until_ready()?;
    let reference = subject.reference()?;
    let limit = reference.limit_of(CONTEXT, 0);
    let mut request = InferenceRequest::greedy("Hello", 1);
    let prompt_tokens = auxiliary
        .worker
        .infer_within(&request, limit)?
        .prompt_tokens()? as u32;
    let place = "a worker with --ctx-size 64";
    let room = CONTEXT.saturating_sub(prompt_tokens);
    let got = format!("`prompt_tokens` {prompt_tokens}");
    ensure_kept(room > 0, place, "room beside the prompt `Hello`", got)?;
    request.max_tokens = Some(room);
    auxiliary.worker.infer_within(&request, limit)?;
    let long = InferenceRequest::greedy(&"Hello ".repeat(CONTEXT as usize * 2), 1);
    let dialect = auxiliary.worker.dialect();
    let response = auxiliary
        .worker
        .ask(&dialect.inference_request(&long, false), limit)?;
    let refused = dialect.read_refusal(&response, Reason::ContextExceeded);
    refused.map_err(|mismatch| Mismatch {
        place: format!("{place}, a prompt of {} words", CONTEXT * 2),
        ..mismatch
    })?;
    request.max_tokens = Some(room + 1);
    let response = auxiliary
        .worker
        .ask(&dialect.inference_request(&request, false), limit)?;
    let refused = dialect.read_refusal(&response, Reason::ContextExceeded);
    refused.map_err(|mismatch| Mismatch {
        place: format!(
            "{place}, {prompt_tokens} prompt tokens and {} more",
            room + 1
        ),
        ..mismatch
    })?;
    Ok(format!(
        "{prompt_tokens} and {room} tokens fit, one more doesn't"
    ))
}
