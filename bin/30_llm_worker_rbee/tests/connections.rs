//! Connections as such: how many there may be, how long they may take, and how they end.

mod support;

use std::time::Duration;

use llm_worker_rbee::server::Limits;
use support::{RawClient, ScriptedEngine, Served, inference, serve, serve_within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// At once, on a machine that does ten other things.
const SOON: Duration = Duration::from_secs(10);
/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(300);
/// A limit that no test reaches.
const LONG: Duration = Duration::from_secs(3600);

const HEALTH: &str = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ENDLESS: &str = r#"{"prompt":"a","max_tokens":4000,"stream":true}"#;
/// More than the sockets of both sides hold together.
const HUGE: &str = r#"{"prompt":"wordy","max_tokens":4000,"stream":true}"#;

fn limits() -> Limits {
    Limits {
        connections: 100,
        spare: 8,
        head: LONG,
        idle: LONG,
        write: LONG,
    }
}

fn stuck() -> ScriptedEngine {
    ScriptedEngine {
        prefill: support::FOREVER,
        ..ScriptedEngine::default()
    }
}

/// Somebody for whom a huge answer is ready, who has read its beginning.
async fn unread(served: &Served) -> RawClient {
    let mut client = RawClient::send(served.address(), inference(HUGE)).await;
    client.read_until("event: token").await;
    served.engine.until_alive(0).await;
    client
}

/// Whether the other side closes the connection soon; what it says before is thrown away.
async fn closes(client: &mut RawClient) -> bool {
    let mut rest = Vec::new();
    timeout(SOON, client.0.read_to_end(&mut rest)).await.is_ok()
}

async fn answers_health(client: &mut RawClient) {
    client.0.write_all(HEALTH.as_bytes()).await.unwrap();
    let answer = client.read_until("\"w").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_slow_head_has_less_time_than_an_idle_connection() {
    let limits = Limits {
        head: SHORT,
        ..limits()
    };
    let served = serve_within(ScriptedEngine::default(), None, limits).await;
    let mut fresh = RawClient::connect(served.address()).await;
    let mut used = RawClient::connect(served.address()).await;
    answers_health(&mut used).await;
    let mut slow = RawClient::send(served.address(), &HEALTH[..20]).await;
    let mut second = RawClient::send(served.address(), format!("{HEALTH}GET")).await;
    assert!(closes(&mut slow).await);
    // One byte more, and the second head is on its way for certain.
    second.0.write_all(b" ").await.unwrap();
    assert!(closes(&mut second).await);
    answers_health(&mut fresh).await;
    answers_health(&mut used).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let limits = Limits {
        idle: SHORT,
        ..limits()
    };
    let served = serve_within(stuck(), None, limits).await;
    let mut working = RawClient::send(served.address(), inference(ENDLESS)).await;
    let mut writing = RawClient::send(served.address(), &HEALTH[..20]).await;
    let mut fresh = RawClient::connect(served.address()).await;
    let mut used = RawClient::send(served.address(), HEALTH).await;
    assert!(closes(&mut fresh).await);
    assert!(closes(&mut used).await);
    working.read_until("\r\n\r\n").await;
    writing.0.write_all(&HEALTH.as_bytes()[20..]).await.unwrap();
    writing.read_until("healthy").await;
    assert_eq!(*served.engine.alive.borrow(), 1);
}

/// The promise to clients whose pools keep connections for up to 90 s.
#[test]
fn connections_idle_longer_than_clients_keep_them() {
    let limits = Limits::of_this_process();
    assert!(limits.idle > Duration::from_secs(90));
    assert_eq!(limits.head, Duration::from_secs(20));
    assert!(limits.spare > 0 && limits.spare < limits.connections);
}

#[tokio::test]
async fn who_never_reads_is_sent_away() {
    let served = serve_within(ScriptedEngine::default(), None, limits()).await;
    let patient = unread(&served).await;
    assert!(timeout(2 * SHORT, served.server.quiet()).await.is_err());
    drop(patient);
    let limits = Limits {
        write: SHORT,
        ..limits()
    };
    let served = serve_within(ScriptedEngine::default(), None, limits).await;
    let _dozing = unread(&served).await;
    let quiet = timeout(SOON, served.server.quiet()).await;
    assert!(quiet.is_ok());
}

/// Reading slowly is not reading never.
#[tokio::test]
async fn who_reads_slowly_gets_it_all() {
    let limits = Limits {
        write: 3 * SHORT,
        ..limits()
    };
    let served = serve_within(ScriptedEngine::default(), None, limits).await;
    let mut client = unread(&served).await;
    let mut bytes = vec![0; 4 << 20];
    for _ in 0..3 {
        sleep(SHORT).await;
        client.0.read_exact(&mut bytes).await.unwrap();
    }
    let rest = client.read_to_end().await;
    assert!(rest.contains("event: end"));
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones_and_answers_go_on() {
    let limits = Limits {
        connections: 8,
        spare: 2,
        ..limits()
    };
    let engine = ScriptedEngine {
        pace: Duration::from_millis(10),
        ..ScriptedEngine::default()
    };
    let served = serve_within(engine, None, limits).await;
    let address = served.address();
    let body = r#"{"prompt":"a","max_tokens":200,"stream":true}"#;
    let mut stream = RawClient::send(address, inference(body)).await;
    stream.read_until("event: token").await;
    let mut idlers = Vec::new();
    for n in 0..30 {
        idlers.push(RawClient::connect(address).await);
        if n % 2 == 0 {
            let half = &HEALTH.as_bytes()[..20];
            idlers.last_mut().unwrap().0.write_all(half).await.unwrap();
        }
    }
    let mut last = RawClient::connect(address).await;
    timeout(SOON, answers_health(&mut last))
        .await
        .expect("room is made");
    assert!(closes(&mut idlers[0]).await);
    let rest = stream.read_to_end().await;
    assert!(rest.contains("\"index\":199") && rest.contains("event: end"));
}

#[tokio::test]
async fn the_last_places_are_for_what_is_answered_at_once() {
    let limits = Limits {
        connections: 5,
        spare: 2,
        ..limits()
    };
    let served = serve_within(stuck(), None, limits).await;
    let address = served.address();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = RawClient::send(address, inference(ENDLESS)).await;
        stream.read_until("\r\n\r\n").await;
        streams.push(stream);
    }
    let refusal = RawClient::send(address, inference(ENDLESS)).await;
    let refusal = { refusal }.read_to_end().await;
    assert!(refusal.starts_with("HTTP/1.1 429"), "{refusal}");
    assert!(refusal.contains("queue_full") && refusal.contains("retry-after"));
    // It doesn't keep the place that it had.
    for _ in 0..5 {
        let health = RawClient::send(address, HEALTH).await;
        let health = { health }.read_to_end().await;
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    }
    drop(streams);
    served.engine.until_alive(0).await;
    served.server.quiet().await;
}

/// Many large bodies that are never finished don't fill the memory, and small ones pass by.
#[tokio::test]
async fn bodies_have_a_budget() {
    let served = serve(ScriptedEngine::default(), None).await;
    let address = served.address();
    let prompt = "a".repeat((1 << 20) - 40);
    let whole = inference(&format!(r#"{{"prompt":"{prompt}","max_tokens":1}}"#));
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let almost = whole[..whole.len() - 1].to_owned();
        clients.spawn(async move { RawClient::send(address, almost).await.read_to_end().await });
    }
    // Those that are taken wait for their last byte, so that the first answer is a refusal.
    let refusal = clients.join_next().await.unwrap().unwrap();
    assert!(refusal.starts_with("HTTP/1.1 429"), "{refusal}");
    let small = RawClient::send(address, inference(r#"{"prompt":"a","max_tokens":1}"#)).await;
    let small = { small }.read_to_end().await;
    assert!(small.starts_with("HTTP/1.1 200"), "{small}");
    let answers = clients.join_all().await;
    let is_refusal = |answer: &&String| answer.starts_with("HTTP/1.1 429");
    let refused = 1 + answers.iter().filter(is_refusal).count();
    assert!((8..16).contains(&refused), "{refused}");
    // And what was taken is given back.
    let large = RawClient::send(address, whole).await.read_to_end().await;
    assert!(large.starts_with("HTTP/1.1 200"), "{}", &large[..100]);
}

#[tokio::test]
async fn a_slow_reader_has_until_the_caller_loses_patience() {
    let served = serve_within(ScriptedEngine::default(), None, limits()).await;
    let mut client = unread(&served).await;
    served.worker.drain();
    served.worker.idle().await;
    assert!(timeout(SHORT, served.server.quiet()).await.is_err());
    // Others are still told how things are.
    let mut other = RawClient::send(served.address(), HEALTH).await;
    other.read_until("draining").await;
    let stream = client.read_to_end().await;
    assert!(stream.contains("event: end"));
    let end = async {
        served.server.quiet().await;
        served.server.finish().await;
    };
    timeout(SOON, end).await.expect("nobody is left");
}
