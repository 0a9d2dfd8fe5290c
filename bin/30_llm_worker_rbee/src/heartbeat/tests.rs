//! Beats against hives that behave badly.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::state::Worker;

/// Nothing here takes this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// Short, so that the tests are; long enough to tell on time from late.
const INTERVAL: Duration = Duration::from_millis(800);
/// Far from the 5 s that a hive may hang.
const LATE: Duration = Duration::from_millis(400);
/// How often the machine may be late itself. A heartbeat that is late by its nature is always late.
const ATTEMPTS: usize = 10;

/// What a hive does with a beat that it has read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Accept,
    Fail,
    Redirect,
    HangUp,
    Hang,
}

/// A beat as it came.
struct Arrival {
    at: Instant,
    head: String,
    beat: Value,
}

/// A hive in one mood, and what it has seen.
struct Hive {
    url: HiveUrl,
    mood: tokio::sync::watch::Sender<Mood>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    listening: tokio::task::JoinHandle<()>,
}

impl Hive {
    async fn start(mood: Mood) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), mood)
    }

    fn on(listener: TcpListener, mood: Mood) -> Self {
        let port = listener.local_addr().unwrap().port();
        let mood = tokio::sync::watch::Sender::new(mood);
        let (sender, arrivals) = mpsc::unbounded_channel();
        let moods = mood.subscribe();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(receive(stream, *moods.borrow(), sender.clone()));
            }
        });
        let url = format!("http://127.0.0.1:{port}/base").parse().unwrap();
        Self {
            url,
            mood,
            arrivals,
            listening,
        }
    }

    async fn next(&mut self) -> Arrival {
        let next = timeout(DEADLINE, self.arrivals.recv()).await;
        next.expect("a beat comes").expect("the hive listens")
    }
}

async fn receive(mut stream: TcpStream, mood: Mood, sender: mpsc::UnboundedSender<Arrival>) {
    let mut request = Vec::new();
    let beat = loop {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).await.unwrap();
        assert_ne!(length, 0, "a beat ends too early");
        request.extend_from_slice(&bytes[..length]);
        let text = String::from_utf8(request.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(beat) = serde_json::from_str(body)
        {
            break Arrival {
                at: Instant::now(),
                head: head.to_owned(),
                beat,
            };
        }
    };
    let _ = sender.send(beat);
    let answer = match mood {
        Mood::Accept => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        Mood::Fail => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        Mood::Redirect => "HTTP/1.1 307 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
        Mood::HangUp => return,
        Mood::Hang => {
            sleep(Duration::from_secs(3600)).await;
            return;
        }
    };
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn identity() -> Identity {
    Identity {
        worker_id: "w-1".to_owned(),
        model_ref: "hf:m".to_owned(),
        backend: "cpu".to_owned(),
        device: 0,
        port: 18081,
    }
}

fn start(hive: &HiveUrl, interval: Duration) -> (Arc<Worker>, Heartbeat) {
    let (worker, changes) = Worker::new("w-1");
    let heartbeat = Heartbeat::start(hive, identity(), interval, changes, Arc::default()).unwrap();
    (worker, heartbeat)
}

#[tokio::test]
async fn a_beat_says_what_the_contract_says() {
    let mut hive = Hive::start(Mood::Accept).await;
    let (_worker, heartbeat) = start(&hive.url, Duration::from_secs(30));
    let Arrival { head, mut beat, .. } = hive.next().await;
    assert!(
        head.starts_with("POST /base/heartbeat/workers HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json"),
        "{head}"
    );
    let timestamp = beat["timestamp"].take();
    let timestamp = timestamp.as_str().unwrap();
    assert_eq!(
        (timestamp.len(), timestamp.ends_with('Z')),
        (24, true),
        "{timestamp}"
    );
    let sent = chrono::DateTime::parse_from_rfc3339(timestamp).unwrap();
    assert!(
        (chrono::Utc::now() - sent.to_utc()).num_seconds() < 10,
        "{timestamp}"
    );
    assert_eq!(
        beat,
        json!({"worker_id": "w-1", "state": "Loading", "timestamp": null, "sequence": 1,
               "interval_s": 30, "model_ref": "hf:m", "backend": "cpu", "device": 0,
               "port": 18081})
    );
    heartbeat.finish(DEADLINE).await;
}

#[tokio::test]
async fn every_change_of_state_is_told_at_once_and_the_last_one_for_certain() {
    let mut hive = Hive::start(Mood::Accept).await;
    let (worker, heartbeat) = start(&hive.url, Duration::from_secs(3600));
    let mut expect = async |state: &str, sequence: u64| {
        let beat = hive.next().await.beat;
        assert_eq!(
            (&beat["state"], &beat["sequence"]),
            (&json!(state), &json!(sequence))
        );
    };
    expect("Loading", 1).await;
    worker.serve_with_nothing();
    expect("Ready", 2).await;
    // Over before anybody could look, and told all the same.
    worker.admit().unwrap().generating();
    expect("Busy", 3).await;
    expect("Ready", 4).await;
    worker.drain();
    heartbeat.finish(DEADLINE).await;
    expect("Draining", 5).await;
    assert!(hive.arrivals.try_recv().is_err(), "nothing follows");
}

#[tokio::test]
async fn a_flickering_state_does_not_flood_the_hive() {
    let mut hive = Hive::start(Mood::Accept).await;
    let (worker, heartbeat) = start(&hive.url, Duration::from_secs(3600));
    worker.serve_with_nothing();
    let started = Instant::now();
    for _ in 0..1000 {
        worker.admit().unwrap().generating();
        sleep(Duration::from_micros(100)).await;
    }
    let flickered = started.elapsed();
    worker.drain();
    heartbeat.finish(DEADLINE).await;
    let mut count = 0;
    let mut last = Value::Null;
    while let Ok(arrival) = hive.arrivals.try_recv() {
        count += 1;
        last = arrival.beat["state"].clone();
    }
    let most = 4 + u128::from(CHANGES_AT_ONCE) + flickered.as_millis() / CHANGE_GAP.as_millis();
    assert!(count <= most, "{count} beats");
    assert_eq!(last, "Draining");
}

/// Whatever the hive does with beats, they come on the grid, one each, numbered without a gap.
#[tokio::test]
async fn beats_are_on_time_whatever_the_hive_answers() {
    let mut moods = JoinSet::new();
    for mood in [
        Mood::Accept,
        Mood::Fail,
        Mood::Redirect,
        Mood::HangUp,
        Mood::Hang,
    ] {
        moods.spawn(beats_are_on_time(mood));
    }
    moods.join_all().await;
}

async fn beats_are_on_time(mood: Mood) {
    in_some_attempt(|| beats_keep_the_grid(mood)).await;
}

async fn beats_keep_the_grid(mood: Mood) -> Result<(), String> {
    let mut hive = Hive::start(mood).await;
    let (_worker, heartbeat) = start(&hive.url, INTERVAL);
    let first = hive.next().await;
    for n in 1..5 {
        let arrival = hive.next().await;
        assert!(
            arrival.head.contains("/base/heartbeat/workers"),
            "not redirected"
        );
        let due = first.at + INTERVAL * n;
        let off = arrival.at.max(due) - arrival.at.min(due);
        if arrival.beat["sequence"] != n + 1 || off >= LATE {
            let beat = arrival.beat;
            return Err(format!("{mood:?}: beat {n} is off by {off:?}: {beat}"));
        }
    }
    heartbeat.finish(Duration::ZERO).await;
    Ok(())
}

/// Passes where one attempt does.
async fn in_some_attempt<F>(attempt: impl Fn() -> F)
where
    F: Future<Output = Result<(), String>>,
{
    let mut why = Vec::new();
    for _ in 0..ATTEMPTS {
        match attempt().await {
            Ok(()) => return,
            Err(reason) => why.push(reason),
        }
    }
    panic!("{why:#?}");
}

#[tokio::test]
async fn a_hive_that_comes_back_gets_the_next_beat_and_no_burst() {
    in_some_attempt(beats_resume_without_a_burst).await;
}

async fn beats_resume_without_a_burst() -> Result<(), String> {
    // Ours, so that nobody else gets it, but nobody listens there yet.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let (_worker, heartbeat) = start(&url.parse().unwrap(), INTERVAL);
    sleep(3 * INTERVAL + INTERVAL / 2).await;
    let back = Instant::now();
    let mut hive = Hive::on(socket.listen(100).unwrap(), Mood::Accept);
    let (first, second) = (hive.next().await, hive.next().await);
    hive.listening.abort();
    heartbeat.finish(Duration::ZERO).await;
    let sequences = [&first.beat["sequence"], &second.beat["sequence"]];
    let (waited, gap) = (first.at - back, second.at - first.at);
    // Four were due before there was a hive.
    if sequences == [5, 6] && waited < INTERVAL + LATE && gap > INTERVAL / 4 {
        Ok(())
    } else {
        Err(format!("{sequences:?} after {waited:?} and {gap:?} more"))
    }
}

#[tokio::test]
async fn a_hive_that_hung_is_heard_again_within_an_interval() {
    let mut hive = Hive::start(Mood::Hang).await;
    let (_worker, heartbeat) = start(&hive.url, INTERVAL);
    hive.next().await;
    hive.next().await;
    hive.mood.send_replace(Mood::Accept);
    let back = Instant::now();
    let waited = hive.next().await.at - back;
    // Whoever waits for the first beat's answer waits for more than four seconds.
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    heartbeat.finish(Duration::ZERO).await;
}

#[tokio::test]
async fn a_hive_that_hangs_does_not_hold_the_end_up() {
    let mut hive = Hive::start(Mood::Hang).await;
    let (worker, heartbeat) = start(&hive.url, Duration::from_secs(3600));
    hive.next().await;
    worker.drain();
    let started = Instant::now();
    heartbeat.finish(Duration::from_secs(2)).await;
    // The hive would take 5 s.
    assert!(started.elapsed() < Duration::from_millis(4500));
    assert_eq!(hive.next().await.beat["state"], "Draining");
}

/// A life that is over before the heartbeat's thread first looks at it is told in full.
#[tokio::test]
async fn what_happened_before_the_end_is_told_before_it() {
    let mut hive = Hive::start(Mood::Accept).await;
    let (worker, changes) = Worker::new("w-1");
    worker.serve_with_nothing();
    worker.drain();
    let interval = Duration::from_secs(3600);
    let heartbeat =
        Heartbeat::start(&hive.url, identity(), interval, changes, Arc::default()).unwrap();
    heartbeat.finish(DEADLINE).await;
    for state in ["Loading", "Ready", "Draining"] {
        assert_eq!(hive.next().await.beat["state"], state);
    }
}
