//! Clients that dawdle, hang up within a request, or only hold connections open.

use std::time::Duration;

use anyhow::Result;

use super::apart::{LATENESS, answers_as_ever, ready_companion};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::net::raw::{RawConnection, spell};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::AuxiliaryWorker;
use crate::tasks::worker::target::dialect::read_completion;

/// How many connections do nothing.
const IDLE_CONNECTIONS: usize = 200;

/// How many clients send slowly at once.
const SLOW_SENDERS: usize = 8;

/// How long the worker may take to take some bytes.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Clients that are a burden.
pub const CHECKS: &[Check] = &[
    Check::resilience("clients.slow_reader", slow_reader)
        .promise("lets nobody wait for a client that reads its stream slowly")
        .quote(CONTRACT_LEAVE)
        .explanation("A client with a tiny buffer doesn't read its stream; a late or other answer for others, or a stream that isn't whole when it is read at last, fails it.")
        .by_hand(r#"curl -N --limit-rate 100 http://127.0.0.1:18081/v1/inference -H 'content-type: application/json' -d '{"prompt":"Once upon a time","max_tokens":400,"stream":true}'"#)
        .needs(&[Need::Ready]),
    Check::resilience("clients.slow_sender", slow_sender)
        .promise("lets nobody wait for clients that send their requests byte by byte")
        .quote(CONTRACT_HEALTH)
        .explanation("Eight requests are sent byte by byte; a late answer to a good one meanwhile, or a wrong answer to those eight, fails it.")
        .by_hand(r#"curl --limit-rate 20 http://127.0.0.1:18081/v1/inference -H 'content-type: application/json' -d '{"prompt":"Hello","max_tokens":5}'"#)
        .needs(&[Need::Ready]),
    Check::resilience("clients.idle_connections", idle_connections)
        .promise("serves as ever while 200 connections are open that ask for nothing")
        .quote(CONTRACT_HEALTH)
        .explanation("200 connections are opened and left alone; a connection that is refused, a process that ends or a late answer fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
    Check::resilience("clients.half_requests", half_requests)
        .promise("takes no harm from clients that hang up within their request")
        .quote(CONTRACT_HEALTH)
        .explanation("Requests are cut off in the head, in the body and in a chunk, with a FIN and with a RST; a worker that doesn't answer as before fails it.")
        .by_hand("printf 'POST /v1/inf' | nc -q 0 127.0.0.1 18081")
        .needs(&[Need::Ready]),
];

const CONTRACT_LEAVE: &str =
    "The same seed, prompt and options give the same text, alone or beside other requests.";

const CONTRACT_HEALTH: &str = "200 as long as the process lives.";

fn slow_reader(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "slow-reader", &[])?;
    let request = pace.long.request.to_request(true);
    let slow = auxiliary.open_on(auxiliary.connect_narrow()?, &request)?;
    // Long enough for the buffers between us to fill, where the model is fast enough to fill them.
    auxiliary.let_pass(pace.long.took.mul_f64(0.6))?;
    let limit = pace.golden.limit_beside(1) + pace.long.took;
    for _ in 0..2 {
        let answer = auxiliary.infer_streamed(&pace.golden.request, limit)?;
        pace.golden
            .expect_text("a stream beside a slow reader", &answer.text())?;
    }
    let mut slow = slow;
    for _ in 0..100 {
        slow.sip(1, LATENESS)?;
    }
    let limit = pace.long.limit_beside(2);
    let answer = slow.finish_stream(limit);
    let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
    pace.long
        .expect_text("the stream of the slow reader", &answer.text())?;
    Ok(format!("{} tokens, whole in the end", answer.tokens.len()))
}

fn slow_sender(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "slow-sender", &[])?;
    let bytes = spell(&pace.golden.request.to_request(false));
    let mut senders = Vec::new();
    for _ in 0..SLOW_SENDERS {
        senders.push(auxiliary.connect()?);
    }
    // Once within the head, once within the body.
    for stretch in [0..40, 40..bytes.len() - 9] {
        for byte in &bytes[stretch] {
            for sender in &mut senders {
                send(&auxiliary, sender, &[*byte])?;
            }
        }
        answers_as_ever(&auxiliary, pace, "beside slow senders")?;
    }
    for sender in &mut senders {
        send(&auxiliary, sender, &bytes[bytes.len() - 9..])?;
    }
    let limit = pace.golden.limit_beside(SLOW_SENDERS as u32);
    for mut sender in senders {
        let answer = sender.read_answer("a slowly sent request", limit);
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        let text = read_completion(&answer)?.text.unwrap_or_default();
        pace.golden.expect_text("a slowly sent request", &text)?;
    }
    Ok(format!("{SLOW_SENDERS} at once"))
}

fn idle_connections(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "idle-connections", &[])?;
    let mut idle = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        idle.push(auxiliary.connect()?);
    }
    auxiliary.health()?;
    let took = answers_as_ever(&auxiliary, pace, "beside idle connections")?;
    // And again once every one of them has been taken up.
    auxiliary.let_pass(LATENESS / 4)?;
    auxiliary.health()?;
    answers_as_ever(&auxiliary, pace, "beside idle connections")?;
    drop(idle);
    answers_as_ever(&auxiliary, pace, "after idle connections")?;
    Ok(format!(
        "an answer in {:.0} ms beside them",
        took.as_secs_f64() * 1e3
    ))
}

fn half_requests(subject: &Subject) -> Result<Evidence> {
    let (auxiliary, pace) = ready_companion(subject, "half-requests", &[])?;
    let whole = spell(&pace.golden.request.to_request(true));
    let text = String::from_utf8_lossy(&whole).into_owned();
    let head_length = text.find("\r\n\r\n").map_or(whole.len(), |at| at + 4);
    let (head, _) = text.split_at(head_length);
    let chunked = head.replace("content-length:", "x-length:");
    let chunked = chunked.trim_end().to_owned() + "\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{\"";
    let cuts: [&[u8]; 5] = [
        &whole[..6],
        &whole[..head_length / 2],
        &whole[..head_length],
        &whole[..head_length + 8],
        chunked.as_bytes(),
    ];
    for cut in cuts {
        for leave in [RawConnection::leave, RawConnection::reset] {
            let mut connection = auxiliary.connect()?;
            send(&auxiliary, &mut connection, cut)?;
            leave(connection)?;
        }
    }
    // Who dies of it may need a moment.
    auxiliary.let_pass(LATENESS / 4)?;
    let health = auxiliary.health()?;
    ensure_kept(
        health.status == "healthy",
        "health after half requests",
        "status healthy",
        health.status,
    )?;
    answers_as_ever(&auxiliary, pace, "after half requests")?;
    Ok(format!("{} of them", 2 * cuts.len()))
}

fn send(auxiliary: &AuxiliaryWorker, connection: &mut RawConnection, bytes: &[u8]) -> Result<()> {
    let sent = connection.send(bytes, SEND_LIMIT);
    sent.map_err(|error| auxiliary.worker.blame(error))
}
