//! The error table: each row with several bad requests, and a canary after each.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::canary::{Canary, sing_once};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::net::raw::RawConnection;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect;
use crate::tasks::worker::target::dialect::{BadRequest, Refusal};

/// How long a refusal may take: nothing is generated for it.
pub const REFUSAL_LIMIT: Duration = Duration::from_secs(5);

/// How often the worker may be slow beside half a body: a busy machine isn't busy all the time.
const ATTEMPTS: usize = 3;

/// How long half a body is held.
const HELD: Duration = Duration::from_millis(300);

/// The error table, row by row.
pub const CHECKS: &[Check] = &[
    Check::contract("refusals.malformed_json", |subject| refuse(subject, dialect::malformed()))
        .promise("refuses what isn't JSON, and answers the next good request as before")
        .quote("not JSON, or not whole: 400 `malformed_json`.")
        .explanation("Empty, cut, garbled, NaN, invalid UTF-8, trailing text and more; another status or code fails it, and so does a canary that sings another text or late.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello",}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.media_type", |subject| refuse(subject, dialect::media_types()))
        .promise("refuses a body under a wrong content type, or under none")
        .quote("wrong or no content type: 415 `unsupported_media_type`.")
        .explanation("A good body as text, form, bytes or nothing; another status or code fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: text/plain' -d '{"prompt":"Hello"}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.invalid_field", |subject| refuse(subject, dialect::invalid_fields()))
        .promise("refuses fields that are missing, unknown, of the wrong type or out of range, by name")
        .quote("a field missing, unknown, given twice, of the wrong type or out of range: 422 `invalid_field`. A field that is not in the table is refused by name: a misspelt option must not be ignored.")
        .explanation("Every field with every wrong type and both bounds; taking one, another status or code, or the wrong `field` fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","temprature":0}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.context_length", |subject| refuse(subject, dialect::beyond_context()))
        .promise("refuses what is beyond its context instead of cutting it")
        .quote("prompt and `max_tokens` beyond the context: 422 `context_length_exceeded`.")
        .explanation("max_tokens beyond every context; an answer, or another status or code, fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":100000000}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.context_border", context_border)
        .promise("takes what just fits into its context, and refuses one token more")
        .quote("prompt and `max_tokens` beyond the context: 422 `context_length_exceeded`.")
        .explanation("A worker with --ctx-size 64 is asked for exactly what is left beside the prompt, and for one more; refusing the one or taking the other fails it.")
        .by_hand("llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cpu --device 0 --port 18081 --hive-url http://127.0.0.1:19200 --ctx-size 64")
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.body_size", |subject| refuse(subject, dialect::too_large()))
        .promise("refuses bodies over 1 MiB, whole or in chunks")
        .quote("body over 1 MiB: 413 `body_too_large`.")
        .explanation("1 MiB and a byte, more, and the same in chunks; taking it, hanging up, or another status or code fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -H 'Expect:' -d "{\"prompt\":\"Hello\"}$(printf '%1048576s')""#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.not_found", |subject| refuse(subject, dialect::unknown_paths()))
        .promise("says of a path that it doesn't have that there is none")
        .quote("no such path (a slash at its end makes another path): 404 `not_found`.")
        .explanation("Several paths near and far; another status, code or form fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/nothing")
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.method", methods)
        .promise("refuses a method that the path lacks, and names the one that it has")
        .quote("a method that the path lacks; HEAD and OPTIONS are lacking too: 405, with `Allow` `method_not_allowed`.")
        .explanation("Every path with every wrong method; another status or code, or an `Allow` without the right method, fails it.")
        .by_hand("curl -i -X DELETE http://127.0.0.1:18081/v1/inference")
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.absurd", |subject| refuse(subject, dialect::absurd()))
        .promise("survives what no client sends: endless nesting and digits, twins, lone surrogates")
        .quote("After any refused request the same process answers the next good one.")
        .explanation("What is hardly JSON; anything but an orderly answer, or a canary that sings another text or late, fails it.")
        .by_hand(r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":1e400}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.framing", framing)
        .promise("survives bodies without a length, with a wrong one, and what isn't HTTP")
        .quote("After any refused request the same process answers the next good one.")
        .explanation("Missing and lying Content-Length, broken chunks, noise; taking it, a 5xx, silence or a canary that sings another text or late fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -H 'Content-Length: -5' -d '{}'")
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.unfinished_body", unfinished_body)
        .promise("answers others while a body is shorter than its length says")
        .quote("After any refused request the same process answers the next good one.")
        .explanation("Half a body is sent and held; a canary that sings another text, late or not at all meanwhile fails it.")
        .by_hand(r#"curl -m 3 http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -H 'Content-Length: 99' -d '{"prompt"'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.message", messages)
        .promise("says in each refusal of a field what it is about")
        .quote("The message names what was got and what is allowed; `field` is there where a field is to blame.")
        .explanation("A message that names neither the field nor what was got fails it.")
        .by_hand(r#"curl -s http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":0}'"#)
        .needs(&[Need::Ready, Need::Sound]),
    Check::contract("refusals.helpful_message", helpful_messages).should()
        .promise("names both what was got and what is allowed in its refusals")
        .quote("The message names what was got and what is allowed; `field` is there where a field is to blame.")
        .explanation("Judged by words, so it only warns: a message without the value or its type, or without a word of what is allowed.")
        .by_hand(r#"curl -s http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","temperature":3}'"#)
        .needs(&[Need::Ready, Need::Sound]),
];

fn refuse(subject: &Subject, bad_requests: Vec<BadRequest>) -> Result<Evidence> {
    let mut canary = Canary::new(subject)?;
    for bad in &bad_requests {
        refusal_of(subject, bad)?;
        canary.sing_after(&bad.name)?;
    }
    canary.finish()?;
    Ok(format!("{} requests", bad_requests.len()))
}

fn refusal_of(subject: &Subject, bad: &BadRequest) -> Result<Option<Refusal>> {
    let limit = REFUSAL_LIMIT.max(subject.golden()?.canary.limit());
    let response = subject.ask_raw(&bad.name, &bad.bytes, limit)?;
    Ok(bad.judge(&response)?)
}

fn methods(subject: &Subject) -> Result<Evidence> {
    let bad_requests = dialect::wrong_methods();
    let mut canary = Canary::new(subject)?;
    for bad in &bad_requests {
        let response = subject.ask_raw(&bad.name, &bad.bytes, REFUSAL_LIMIT)?;
        bad.judge(&response)?;
        let allow = response.header("allow").unwrap_or("none");
        let method = bad.method_to_allow().unwrap_or_default();
        let named = allow.split(',').any(|word| word.trim() == method);
        let place = format!("{}, `Allow`", bad.name);
        ensure_kept(named, &place, method, allow)?;
        canary.sing_after(&bad.name)?;
    }
    canary.finish()?;
    Ok(format!("{} requests", bad_requests.len()))
}

fn framing(subject: &Subject) -> Result<Evidence> {
    let bad_requests = dialect::framing();
    let mut canary = Canary::new(subject)?;
    let mut hung_up = 0;
    for (name, bytes) in &bad_requests {
        match subject.ask_rudely(name, bytes, REFUSAL_LIMIT)? {
            Some(response) => {
                let is_refusal = (400..500).contains(&response.status);
                let expected = "a status from 400 to 499, or a hang-up";
                ensure_kept(is_refusal, name, expected, response.status.to_string())?;
            }
            None => hung_up += 1,
        }
        canary.sing_after(name)?;
    }
    canary.finish()?;
    let count = bad_requests.len();
    Ok(format!("{count} requests, {hung_up} without an answer"))
}

fn unfinished_body(subject: &Subject) -> Result<Evidence> {
    let limit = subject.golden()?.canary.limit();
    let place = "inference beside half a body, which is still awaited";
    let mut slowest = Duration::ZERO;
    for _ in 0..ATTEMPTS {
        let half = half_a_body(subject)?;
        // The worker may take a while until it has seen the half that came.
        let began = Instant::now();
        slowest = Duration::ZERO;
        while began.elapsed() < HELD {
            slowest = slowest.max(sing_once(subject, place)?);
        }
        half.leave()?;
        if slowest <= limit {
            let mut canary = Canary::new(subject)?;
            canary.sing_after("half a body, whose client left")?;
            canary.finish()?;
            return Ok(format!(
                "answers within {} ms meanwhile",
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
    let port = subject.worker.launch().port;
    let mut connection = RawConnection::open(port, REFUSAL_LIMIT, subject.context.stop)?;
    connection.send(&dialect::half_a_request(), REFUSAL_LIMIT)?;
    Ok(connection)
}

/// One bad request for each field, and those that blame none.
fn telling_requests() -> Vec<BadRequest> {
    let mut telling: Vec<BadRequest> = Vec::new();
    for bad in dialect::invalid_fields() {
        let known = telling.iter().filter(|known| known.field == bad.field);
        if known.count() < 3 {
            telling.push(bad);
        }
    }
    telling.extend(dialect::beyond_context());
    telling
}

fn messages(subject: &Subject) -> Result<Evidence> {
    let expected = "a message that names the field, or what was got";
    judge_messages(
        subject,
        telling_requests(),
        expected,
        BadRequest::is_named_by,
    )
}

fn helpful_messages(subject: &Subject) -> Result<Evidence> {
    let mut telling = telling_requests();
    telling.extend(dialect::media_types());
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

fn context_border(subject: &Subject) -> Result<Evidence> {
    const CONTEXT: u32 = 64;
    let mut auxiliary = subject.auxiliary("context", |launch| {
        launch.more = vec![String::from("--ctx-size"), CONTEXT.to_string()];
    })?;
    auxiliary.wait_until_ready()?;
    let golden = subject.golden()?;
    let limit = golden.limit(CONTEXT, 0);
    let mut request = dialect::InferenceRequest::greedy("Hello", 1);
    let prompt_tokens = auxiliary.infer(&request, limit)?.prompt_tokens as u32;
    let place = "a worker with --ctx-size 64";
    let room = CONTEXT.saturating_sub(prompt_tokens);
    let got = format!("`prompt_tokens` {prompt_tokens}");
    ensure_kept(room > 0, place, "room beside the prompt `Hello`", got)?;
    request.max_tokens = Some(room);
    auxiliary.infer(&request, limit)?;
    request.max_tokens = Some(room + 1);
    let response = auxiliary.ask(&request.to_request(false), limit)?;
    let refused = dialect::read_refusal(&response, 422, "context_length_exceeded");
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
