//! A whole life in this process, over an engine that does what no model can be made to do.

mod support;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llm_worker_rbee::cli::{self, Config};
use llm_worker_rbee::engine::Engine;
use llm_worker_rbee::life::live;
use serde_json::Value;
use support::{RawClient, ScriptedEngine, inference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The contract says 2 s; these tests run beside many others.
const SOON: Duration = Duration::from_secs(10);

/// A hive that answers every beat and hands it on.
async fn hive() -> (String, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, beats) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let beat: Value = loop {
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes).await.unwrap();
                request.extend_from_slice(&bytes[..length]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                if let Ok(beat) = serde_json::from_str(body) {
                    break beat;
                }
            };
            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(ok).await.unwrap();
            let _ = sender.send(beat);
        }
    });
    (url, beats)
}

fn config(hive: &str) -> Config {
    let arguments = format!(
        "llm-worker-rbee --worker-id w --model m --model-ref r --backend cpu --device 0 --port 0 \
         --hive-url {hive}"
    );
    let Ok(config) = cli::parse(arguments.split(' ').map(OsString::from), None) else {
        panic!("the arguments make sense");
    };
    config
}

struct Life {
    engine: Arc<ScriptedEngine>,
    address: SocketAddr,
    beats: mpsc::UnboundedReceiver<Value>,
    end: JoinHandle<anyhow::Result<()>>,
}

impl Life {
    /// Lives until it serves.
    async fn begin(engine: ScriptedEngine) -> Self {
        let (url, mut beats) = hive().await;
        let engine = Arc::new(engine);
        let loaded: Arc<dyn Engine> = engine.clone();
        let end = tokio::spawn(live(config(&url), Box::new(move |_| Ok(loaded))));
        let port = loop {
            let beat = beats.recv().await.unwrap();
            if beat["state"] == "Ready" {
                break beat["port"].as_u64().unwrap() as u16;
            }
        };
        Self {
            engine,
            address: ([127, 0, 0, 1], port).into(),
            beats,
            end,
        }
    }

    /// Why it ended, and what it told the hive last.
    async fn ended(mut self) -> (String, Value) {
        let asked = Instant::now();
        let end = tokio::time::timeout(SOON, self.end).await;
        let error = end.expect("it ends").unwrap().unwrap_err();
        assert!(asked.elapsed() < SOON);
        let mut last = Value::Null;
        while let Ok(beat) = self.beats.try_recv() {
            last = beat;
        }
        (format!("{error:#}"), last["state"].take())
    }
}

fn stuck() -> ScriptedEngine {
    ScriptedEngine {
        prefill: support::FOREVER,
        ..ScriptedEngine::default()
    }
}

#[tokio::test]
async fn an_engine_that_can_not_go_on_ends_the_worker_and_everybody_hears_why() {
    let life = Life::begin(stuck()).await;
    let stream = r#"{"prompt":"a","max_tokens":5,"stream":true}"#;
    let plain = r#"{"prompt":"a","max_tokens":5}"#;
    let mut stream = RawClient::send(life.address, inference(stream)).await;
    let mut plain = RawClient::send(life.address, inference(plain)).await;
    life.engine.until_alive(2).await;
    let reason = "the device is lost".to_owned();
    life.engine.failure.send_replace(Some(reason));
    let stream = stream.read_to_end().await;
    assert!(stream.starts_with("HTTP/1.1 200"), "{stream}");
    assert_eq!(stream.matches("event: ").count(), 1, "{stream}");
    let plain = plain.read_to_end().await;
    assert!(plain.starts_with("HTTP/1.1 500"), "{plain}");
    for answer in [&stream, &plain] {
        assert!(answer.contains("generation_failed"), "{answer}");
        assert!(answer.contains("the device is lost"), "{answer}");
    }
    let (error, last_beat) = life.ended().await;
    assert_eq!(error, "cannot go on serving: the device is lost");
    assert_eq!(last_beat, "Failed");
}

/// Nobody has asked anything when it happens.
#[tokio::test]
async fn an_idle_worker_notices_that_its_engine_is_gone() {
    let life = Life::begin(ScriptedEngine::default()).await;
    life.engine
        .failure
        .send_replace(Some("the device is lost".to_owned()));
    let (error, last_beat) = life.ended().await;
    assert_eq!(error, "cannot go on serving: the device is lost");
    assert_eq!(last_beat, "Failed");
}

#[tokio::test]
async fn a_model_that_can_not_be_loaded_ends_the_worker() {
    let (url, mut beats) = hive().await;
    let end = tokio::time::timeout(
        SOON,
        live(config(&url), Box::new(|_| anyhow::bail!("no such model"))),
    );
    let error = end.await.expect("it ends").unwrap_err();
    assert_eq!(error.to_string(), "no such model");
    let mut states = Vec::new();
    while let Ok(beat) = beats.try_recv() {
        states.push(beat["state"].clone());
    }
    assert_eq!(states.last().unwrap(), "Failed");
}
