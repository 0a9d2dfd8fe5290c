//! Clients that dawdle, hang up within a request, or only hold connections open.

use std::time::Duration;

use anyhow::Result;

use super::apart::{INTERVAL, LATENESS, answers_as_ever, ready_auxiliary};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::net::raw::RawConnection;
use crate::tasks::worker::process::platform;
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::{InferenceRequest, Promise};

/// How many connections do nothing.
const IDLE_CONNECTIONS: usize = 200;

/// How many files a process needs besides its connections.
const OTHER_FILES: u64 = 100;

/// How many clients send slowly at once.
const SLOW_SENDERS: usize = 8;

/// How long the worker may take to take some bytes.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Clients that are a burden.
pub const CHECKS: &[Check] = &[
    Check::resilience("clients.slow_reader", slow_reader)
        .promise("keeps serving others while a client reads its stream slowly")
        .holds(&["K6"])
        .explanation("A client with a tiny buffer stops reading; fails if others get a late or wrong answer, or if the stream is incomplete once it is read.")
        .by_hand(|by| by.stream("-N --limit-rate 100", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready]),
    Check::resilience("clients.slow_sender", slow_sender)
        .promise("keeps serving others while clients send their requests byte by byte")
        .holds(&["H4"])
        .explanation("Sends eight requests byte by byte; fails if a normal request is answered late meanwhile, or if one of the eight gets a wrong answer.")
        .by_hand(|by| by.infer("--limit-rate 20", &InferenceRequest::new("Hello", 5)))
        .needs(&[Need::Ready]),
    Check::resilience("clients.idle_connections", idle_connections)
        .promise("keeps serving and keeps sending heartbeats while 200 idle connections are open")
        .holds(&["K7", "K8"])
        .explanation("Opens 200 connections and sends nothing; fails if a connection is refused, the process ends, an answer is late or no heartbeat comes.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Ready]),
    Check::resilience("clients.half_requests", half_requests)
        .promise("survives clients that hang up in the middle of a request")
        .holds(&["H4"])
        .explanation("Cuts requests off in the head, the body and a chunk, by FIN and by RST; fails if the worker doesn't answer as before.")
        .by_hand(|by| by.half_a_line())
        .needs(&[Need::Ready]),
];

fn slow_reader(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "slow-reader", &[])?;
    let request = auxiliary
        .worker
        .dialect()
        .inference_request(&known.long.request, true);
    let slow = auxiliary
        .worker
        .open_on(auxiliary.worker.connect_narrow()?, &request)?;
    // Long enough for the buffers between us to fill, where the model is fast enough to fill them.
    auxiliary.let_pass(known.long.took.mul_f64(0.6))?;
    let limit = known.short.limit(1) + known.long.took;
    for _ in 0..2 {
        let answer = auxiliary
            .worker
            .infer_streamed_within(&known.short.request, limit)?;
        known
            .short
            .expect("a stream beside a slow reader", &answer.text())?;
    }
    let mut slow = slow;
    for _ in 0..100 {
        slow.sip(1, LATENESS)?;
    }
    let limit = known.long.limit(2);
    let answer = slow.finish_stream(limit);
    let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
    known
        .long
        .expect("the stream of the slow reader", &answer.text())?;
    Ok(format!("{} tokens, complete in the end", answer.tokens()))
}

fn slow_sender(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "slow-sender", &[])?;
    let request = &known.short.request;
    let request = auxiliary.worker.dialect().inference_request(request, false);
    let bytes = request.to_bytes(auxiliary.worker.launch().port);
    let mut senders = Vec::new();
    for _ in 0..SLOW_SENDERS {
        senders.push(auxiliary.worker.connect()?);
    }
    // Once within the head, once within the body.
    for stretch in [0..40, 40..bytes.len() - 9] {
        for byte in &bytes[stretch] {
            for sender in &mut senders {
                send(&auxiliary, sender, &[*byte])?;
            }
        }
        answers_as_ever(&auxiliary, known, "beside slow senders")?;
    }
    for sender in &mut senders {
        send(&auxiliary, sender, &bytes[bytes.len() - 9..])?;
    }
    let limit = known.short.limit(SLOW_SENDERS as u32);
    for mut sender in senders {
        let answer = sender.read_answer("a slowly sent request", limit);
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        let text = auxiliary
            .worker
            .dialect()
            .read_completion(&answer)?
            .text
            .unwrap_or_default();
        known.short.expect("a slowly sent request", &text)?;
    }
    Ok(format!("{SLOW_SENDERS} at once"))
}

fn idle_connections(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let needed = IDLE_CONNECTIONS as u64 + OTHER_FILES;
    // The worker inherits this limit, and a worker can't do more than it allows.
    let allowed = platform::allow_open_files(needed);
    anyhow::ensure!(
        allowed >= needed,
        "a process here may open {allowed} files, and {needed} are needed\n  try: ulimit -n {needed}"
    );
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "idle-connections", &[])?;
    let mut idle = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        idle.push(auxiliary.worker.connect()?);
    }
    auxiliary.worker.health()?;
    let took = answers_as_ever(&auxiliary, known, "beside idle connections")?;
    // And again once every one of them has been taken up.
    auxiliary.let_pass(LATENESS / 4)?;
    auxiliary.worker.health()?;
    answers_as_ever(&auxiliary, known, "beside idle connections")?;
    if auxiliary.worker.dialect().promises(Promise::Heartbeats) {
        // The answers have made beats of their own.
        auxiliary.let_pass(LATENESS / 4)?;
        let seen = auxiliary.hive.heartbeats().len();
        let limit = INTERVAL + LATENESS;
        let beat = auxiliary.beat_after(seen, limit)?;
        let expected = format!("a heartbeat within {limit:?}");
        ensure_kept(
            beat.is_some(),
            "heartbeats beside idle connections",
            expected,
            "none",
        )?;
    }
    drop(idle);
    answers_as_ever(&auxiliary, known, "after idle connections")?;
    Ok(format!(
        "an answer in {:.0} ms beside them",
        took.as_secs_f64() * 1e3
    ))
}

fn half_requests(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "half-requests", &[])?;
    let request = &known.short.request;
    let request = auxiliary.worker.dialect().inference_request(request, true);
    let whole = request.to_bytes(auxiliary.worker.launch().port);
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
            let mut connection = auxiliary.worker.connect()?;
            send(&auxiliary, &mut connection, cut)?;
            leave(connection)?;
        }
    }
    // Who dies of it may need a moment.
    auxiliary.let_pass(LATENESS / 4)?;
    let health = auxiliary.worker.health()?;
    ensure_kept(
        health.status == "healthy",
        "health after half requests",
        "status healthy",
        health.status,
    )?;
    answers_as_ever(&auxiliary, known, "after half requests")?;
    Ok(format!("{} of them", 2 * cuts.len()))
}

fn send(auxiliary: &AuxiliaryWorker, connection: &mut RawConnection, bytes: &[u8]) -> Result<()> {
    let sent = connection.send(bytes, SEND_LIMIT);
    sent.map_err(|error| auxiliary.worker.blame(error))
}
