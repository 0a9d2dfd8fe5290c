//! What happens on real connections: pieces on time, clients that leave, dawdle or lie.

mod support;

use std::time::Duration;

use llm_worker_rbee::state::WorkerState;
use support::{RawClient, ScriptedEngine, inference, serve};
use tokio::io::AsyncWriteExt;

/// At once, on a machine that does ten other things. What it stands against takes 20 s and more.
const SOON: Duration = Duration::from_secs(10);

const ENDLESS: &str = r#"{"prompt":"a","max_tokens":4000,"stream":true}"#;
const ENDLESS_PLAIN: &str = r#"{"prompt":"a","max_tokens":4000}"#;

fn slow() -> ScriptedEngine {
    ScriptedEngine {
        pace: Duration::from_millis(20),
        ..ScriptedEngine::default()
    }
}

fn stuck_in_prefill() -> ScriptedEngine {
    ScriptedEngine {
        prefill: support::FOREVER,
        ..ScriptedEngine::default()
    }
}

fn chunked(body: &str) -> String {
    let (first, second) = body.split_at(body.len() / 2);
    format!(
        "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    )
}

#[tokio::test]
async fn headers_come_before_the_first_token() {
    let served = serve(stuck_in_prefill(), None).await;
    let mut client = RawClient::send(served.address(), inference(ENDLESS)).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn tokens_come_one_by_one() {
    let served = serve(slow(), None).await;
    let body = r#"{"prompt":"a","max_tokens":20,"stream":true}"#;
    let mut client = RawClient::send(served.address(), inference(body)).await;
    let read = client.read_until("\"index\":0").await;
    // The engine pauses for 20 ms after each, so that only what was held back comes together.
    assert!(!read.contains("\"index\":5"), "{read}");
    client.read_until("event: end").await;
}

/// What some clients send after their request: a line break too many, the next request, whole, in
/// half, or too much of it.
const MORE: [&str; 5] = [
    "",
    "\r\n",
    "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /v1/inference HTTP/1.1\r\nHost: loc",
    "{}",
];

/// Every way to leave, at every stage, streamed or not, whatever was sent besides: the generation
/// ends, long before it would have ended by itself.
#[tokio::test]
async fn a_client_that_leaves_ends_its_generation() {
    for (stage, engine) in [("decode", slow as fn() -> _), ("prefill", stuck_in_prefill)] {
        for body in [ENDLESS, ENDLESS_PLAIN] {
            for request in [inference(body), chunked(body)] {
                for more in MORE {
                    leave(stage, engine(), &request, more, false).await;
                    leave(stage, engine(), &request, more, true).await;
                }
            }
        }
    }
}

async fn leave(stage: &str, engine: ScriptedEngine, request: &str, more: &str, reset: bool) {
    let served = serve(engine, None).await;
    // Half of it at once, as part of the request's last packet, and half while the answer is made.
    let (at_once, later) = more.split_at(more.len() / 2);
    let mut client = RawClient::send(served.address(), format!("{request}{at_once}")).await;
    served.engine.until_alive(1).await;
    client.0.write_all(later.as_bytes()).await.unwrap();
    match reset {
        true => client.reset(),
        false => drop(client),
    }
    let ended = served.engine.until_alive(0);
    let ended = tokio::time::timeout(SOON, ended).await;
    assert!(ended.is_ok(), "{stage} {request} {more:?} {reset}");
    served.worker.idle().await;
    assert_eq!(served.worker.state(), WorkerState::Ready);
}

/// A leave behind so many bytes can't be seen, so whoever sends them counts as gone.
#[tokio::test]
async fn a_client_that_never_stops_sending_ends_its_generation() {
    let served = serve(stuck_in_prefill(), None).await;
    let mut client = RawClient::send(served.address(), inference(ENDLESS)).await;
    served.engine.until_alive(1).await;
    let flood = async { while client.0.write_all(&[b'x'; 4096]).await.is_ok() {} };
    let ended = async { tokio::join!(flood, served.engine.until_alive(0)) };
    let ended = tokio::time::timeout(SOON, ended).await;
    assert!(ended.is_ok());
}

/// What is read ahead is not lost: requests that come before their turn are answered in turn.
#[tokio::test]
async fn requests_that_come_early_are_answered_in_their_turn() {
    let served = serve(slow(), None).await;
    let body = r#"{"prompt":"a","max_tokens":5,"stream":true}"#;
    let first = inference(body).replace("Connection: close\r\n", "");
    let health = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = RawClient::send(served.address(), format!("{first}{health}")).await;
    client.read_until("\"index\":0").await;
    // Longer than a read of ours, and in pieces.
    let long = inference(&format!(
        r#"{{"prompt":"{}","max_tokens":1}}"#,
        "b ".repeat(3000)
    ));
    for piece in [health, &long[..10], &long[10..5000], &long[5000..]] {
        client.0.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let rest = client.read_to_end().await;
    let in_turn = [
        "event: end",
        "\"healthy\"",
        "\"healthy\"",
        r#""prompt_tokens":3001"#,
    ];
    let mut from = 0;
    for text in in_turn {
        let at = rest[from..].find(text);
        from += at.unwrap_or_else(|| panic!("{text} after {}: {rest}", &rest[..from]));
    }
}

#[tokio::test]
async fn nobody_else_is_disturbed_by_one_who_leaves() {
    let served = serve(slow(), None).await;
    let address = served.address();
    let leaver = RawClient::send(address, inference(ENDLESS)).await;
    let body = r#"{"prompt":"a","max_tokens":10,"stream":true}"#;
    let mut other = RawClient::send(address, inference(body)).await;
    served.engine.until_alive(2).await;
    leaver.reset();
    let stream = other.read_to_end().await;
    assert!(
        stream.contains("\"index\":9") && stream.contains("event: end"),
        "{stream}"
    );
}

/// The scripted engine blocks on a channel of one event; a reader who never reads must not.
#[tokio::test]
async fn a_slow_reader_holds_only_itself_up() {
    let served = serve(ScriptedEngine::default(), None).await;
    let body = r#"{"prompt":"wordy","max_tokens":4000,"stream":true}"#;
    let mut idler = RawClient::send(served.address(), inference(body)).await;
    idler.read_until("event: token").await;
    served.engine.until_alive(0).await;
}

#[tokio::test]
async fn a_busy_worker_says_so_and_a_refused_request_does_not_count() {
    let mut served = serve(stuck_in_prefill(), None).await;
    assert_eq!(served.changes.recv().await, Some(WorkerState::Ready));
    let address = served.address();
    let beyond = r#"{"prompt":"a","max_tokens":40000}"#;
    let refusal = RawClient::send(address, inference(beyond))
        .await
        .read_to_end()
        .await;
    assert!(refusal.contains("context_length_exceeded"));
    let client = RawClient::send(address, inference(ENDLESS)).await;
    assert_eq!(served.changes.recv().await, Some(WorkerState::Busy));
    drop(client);
    assert_eq!(served.changes.recv().await, Some(WorkerState::Ready));
}

#[tokio::test]
async fn others_are_served_beside_slow_senders_and_idlers() {
    let served = serve(ScriptedEngine::default(), None).await;
    let address = served.address();
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(RawClient::connect(address).await);
    }
    for _ in 0..50 {
        crowd.push(RawClient::send(address, "POST /v1/infer").await);
        crowd.push(RawClient::send(address, &inference(ENDLESS)[..150]).await);
    }
    let health = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut client = RawClient::send(address, health).await;
    let answer = tokio::time::timeout(SOON, client.read_to_end()).await;
    let answer = answer.expect("health waits for nobody");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = r#"{"prompt":"a","max_tokens":2}"#;
    let answer = RawClient::send(address, inference(body))
        .await
        .read_to_end()
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // And none of them holds the end up.
    let finish = served.server.finish();
    drop(crowd.split_off(200));
    tokio::time::timeout(SOON, finish)
        .await
        .expect("idlers are sent away");
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408() {
    let served = serve(ScriptedEngine::default(), None).await;
    let request = inference(ENDLESS);
    let client = RawClient::send(served.address(), &request[..request.len() - 1]).await;
    let answer = { client }.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
}

/// The refusal arrives although most of the body was never read, by whoever sends it whole first.
#[tokio::test]
async fn who_sends_too_much_still_gets_the_refusal() {
    let served = serve(ScriptedEngine::default(), None).await;
    let address = served.address();
    let body = "x".repeat(8 << 20);
    let declared = inference(&body);
    let chunked = format!(
        "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    for request in [declared, chunked] {
        let answer = RawClient::send(address, request).await.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("body_too_large"), "{answer}");
    }
}

#[tokio::test]
async fn who_only_announces_too_much_is_answered_at_once() {
    let served = serve(ScriptedEngine::default(), None).await;
    let head = "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 99999999999\r\n";
    for expect in ["", "Expect: 100-continue\r\n"] {
        let request = format!("{head}{expect}\r\n");
        let mut client = RawClient::send(served.address(), request).await;
        let answer = client.read_until("body_too_large").await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}

#[tokio::test]
async fn chunked_bodies_are_read() {
    let served = serve(ScriptedEngine::default(), None).await;
    let request = "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = RawClient::send(served.address(), request).await;
    for piece in [r#"{"prompt":"#, r#""a","max_to"#, r#"kens":1}"#, ""] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        client.0.write_all(chunk.as_bytes()).await.unwrap();
    }
    let answer = client.read_to_end().await;
    assert!(answer.contains(r#""text":"w0\n""#), "{answer}");
}

#[tokio::test]
async fn broken_requests_do_not_break_the_next_one() {
    let served = serve(ScriptedEngine::default(), None).await;
    let address = served.address();
    let bad: [&[u8]; 6] = [
        b"\r\n\r\n\0\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
          Content-Type: application/json\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00",
    ];
    for bytes in bad {
        let mut client = RawClient::send(address, bytes).await;
        client.0.shutdown().await.unwrap();
        client.read_to_end().await;
        let body = r#"{"prompt":"a","max_tokens":1}"#;
        let answer = RawClient::send(address, inference(body))
            .await
            .read_to_end()
            .await;
        assert!(
            answer.contains(r#""text":"w0\n""#),
            "after {bytes:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_drain_lets_streams_finish() {
    let served = serve(slow(), None).await;
    let body = r#"{"prompt":"a","max_tokens":10,"stream":true}"#;
    let mut client = RawClient::send(served.address(), inference(body)).await;
    client.read_until("event: token").await;
    served.worker.drain();
    let refusal = RawClient::send(served.address(), inference(body)).await;
    assert!({ refusal }.read_to_end().await.contains("not_ready"));
    served.worker.idle().await;
    served.server.finish().await;
    let rest = client.read_to_end().await;
    assert!(rest.contains("event: end"), "{rest}");
}
