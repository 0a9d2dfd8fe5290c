//! What the tests of the HTTP side share: an engine that follows a script, a server on a free
//! port, and a client that can misbehave.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use llm_worker_rbee::auth::ApiToken;
use llm_worker_rbee::engine::{
    Completion, Engine, FinishReason, Generation, GenerationEvent, GenerationRequest, Prompt,
    SubmitError, Timings, TokenLogprob, TokenText,
};
use llm_worker_rbee::routes::{About, Desk, app};
use llm_worker_rbee::server::{Limits, Server};
use llm_worker_rbee::state::{StateChanges, Worker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

/// Nothing in these tests takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Longer than any test: a generation that stays in its prefill until it is cancelled.
pub const FOREVER: Duration = Duration::from_secs(3600);

/// Says "w0 w1 w2 ..." at a given pace; special prompts make it fail in special ways.
pub struct ScriptedEngine {
    pub prefill: Duration,
    pub pace: Duration,
    pub context_length: u32,
    pub capacity: usize,
    /// Generations that are neither finished nor cancelled.
    pub alive: watch::Sender<usize>,
    /// Why it can't go on, once a test says so.
    pub failure: watch::Sender<Option<String>>,
    /// As a model file would carry it.
    pub chat_template: Option<&'static str>,
}

impl Default for ScriptedEngine {
    fn default() -> Self {
        Self {
            prefill: Duration::ZERO,
            pace: Duration::ZERO,
            context_length: 4096,
            capacity: 64,
            alive: watch::Sender::new(0),
            failure: watch::Sender::new(None),
            chat_template: None,
        }
    }
}

impl ScriptedEngine {
    /// Returns once as many generations are alive.
    pub async fn until_alive(&self, count: usize) {
        let mut alive = self.alive.subscribe();
        let wait = alive.wait_for(|alive| *alive == count);
        tokio::time::timeout(DEADLINE, wait)
            .await
            .unwrap_or_else(|_| panic!("{count} generations were expected to be alive"))
            .unwrap();
    }
}

impl Engine for ScriptedEngine {
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        let prompt = text_of(&request);
        let prompt_tokens = prompt.split(' ').count() as u32;
        if u64::from(prompt_tokens) + u64::from(request.max_tokens) > u64::from(self.context_length)
        {
            return Err(SubmitError::ContextLengthExceeded {
                prompt_tokens,
                max_tokens: request.max_tokens,
                context_length: self.context_length,
            });
        }
        match prompt {
            "panic" => panic!("the script says so"),
            "stopped" => return Err(SubmitError::Stopped),
            _ => {}
        }
        let mut is_full = false;
        self.alive.send_modify(|alive| {
            is_full = *alive >= self.capacity;
            *alive += usize::from(!is_full);
        });
        if is_full {
            return Err(SubmitError::QueueFull {
                capacity: self.capacity,
            });
        }
        // As small as can be, so that a slow reader would block the engine if it could.
        let (sender, events) = mpsc::channel(1);
        let alive = self.alive.clone();
        let (prefill, pace) = (self.prefill, self.pace);
        tokio::spawn(async move {
            tokio::select! {
                () = speak(request, prompt_tokens, prefill, pace, &sender) => {}
                () = sender.closed() => {}
            }
            alive.send_modify(|alive| *alive -= 1);
        });
        Ok(Generation {
            prompt: vec![0; prompt_tokens as usize],
            events,
        })
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    fn token(&self, token: u32) -> Option<TokenText<'_>> {
        let (piece, name): (&[u8], &[u8]) = match token {
            0..100 => (b"w", b"w"),
            // Half of a character.
            100 => (b"\xE2\x82", b"\xE2\x82"),
            101 => (b"", b"<|end|>"),
            _ => return None,
        };
        let is_end = token == 101;
        Some(TokenText {
            piece,
            name,
            is_end,
        })
    }

    fn chat_template(&self) -> Option<&str> {
        self.chat_template
    }
}

/// The HTTP side only ever sends text.
fn text_of(request: &GenerationRequest) -> &str {
    match &request.prompt {
        Prompt::Text(text) => text,
        Prompt::Tokens(tokens) => panic!("{tokens:?} came instead of text"),
    }
}

/// The likeliest are half of a character, an end, and nothing else that could come.
fn token_event(index: u32, text: String, top_logprobs: usize) -> GenerationEvent {
    let of = |(token, logprob)| TokenLogprob { token, logprob };
    let top = [(100, -0.25), (101, -1.5), (0, f32::NEG_INFINITY)];
    GenerationEvent::Token {
        index,
        text,
        chosen: of((index, -0.5)),
        top: top.into_iter().map(of).take(top_logprobs).collect(),
    }
}

async fn speak(
    request: GenerationRequest,
    prompt_tokens: u32,
    prefill: Duration,
    pace: Duration,
    sender: &mpsc::Sender<GenerationEvent>,
) {
    tokio::time::sleep(prefill).await;
    for index in 0..request.max_tokens {
        // Even no time at all would be a tick of the timer.
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        let text = match text_of(&request) {
            "wordy" => "w".repeat(4096),
            _ => format!("w{index}\n"),
        };
        let _ = sender
            .send(token_event(index, text, request.top_logprobs))
            .await;
        match text_of(&request) {
            "fail" => {
                let failed = GenerationEvent::Failed("out of memory".to_owned());
                let _ = sender.send(failed).await;
                return;
            }
            "vanish" => return,
            _ => {}
        }
    }
    let completion = Completion {
        prompt_tokens,
        cached_tokens: 0,
        completion_tokens: request.max_tokens,
        finish_reason: FinishReason::Length,
        timings: Timings::default(),
    };
    let _ = sender.send(GenerationEvent::Finished(completion)).await;
}

/// What the routes of a worker need.
pub fn desk(worker: &Arc<Worker>) -> Desk {
    let about = About {
        model_ref: MODEL.to_owned(),
        backend: "cpu".to_owned(),
        device: 0,
    };
    Desk::new(worker.clone(), about, Arc::default())
}

/// The model's name.
pub const MODEL: &str = "hf:someone/some-model";

/// A served worker, with all that a test wants to look at.
pub struct Served {
    pub engine: Arc<ScriptedEngine>,
    pub worker: Arc<Worker>,
    pub changes: StateChanges,
    pub server: Server,
}

impl Served {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }
}

/// Serves the engine on a free port.
pub async fn serve(engine: ScriptedEngine, token: Option<ApiToken>) -> Served {
    serve_within(engine, token, Limits::of_this_process()).await
}

/// The same within limits that a test can wait for.
pub async fn serve_within(
    engine: ScriptedEngine,
    token: Option<ApiToken>,
    limits: Limits,
) -> Served {
    let engine = Arc::new(engine);
    let (worker, changes) = Worker::new("test-worker");
    worker.serve_with(engine.clone());
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(&[address], app(desk(&worker), token), limits)
        .await
        .unwrap();
    let watched = worker.clone();
    tokio::spawn(async move { watched.watch_engine().await });
    Served {
        engine,
        worker,
        changes,
        server,
    }
}

/// A request as it goes over the wire; the connection closes after the answer.
pub fn inference(body: &str) -> String {
    format!(
        "POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A connection on which any bytes can be sent.
pub struct RawClient(pub TcpStream);

impl RawClient {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Connects and sends.
    pub async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Self {
        let mut client = Self::connect(address).await;
        client.0.write_all(bytes.as_ref()).await.unwrap();
        client
    }

    /// Reads until the other side closes.
    pub async fn read_to_end(&mut self) -> String {
        let mut answer = Vec::new();
        let read = self.0.read_to_end(&mut answer);
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("the answer ends")
            .unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Reads until the text has come.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut answer = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&answer).contains(text) {
                let mut byte = [0; 1024];
                let length = self.0.read(&mut byte).await.unwrap();
                assert_ne!(
                    length,
                    0,
                    "closed before {text}: {}",
                    String::from_utf8_lossy(&answer)
                );
                answer.extend_from_slice(&byte[..length]);
            }
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("the text comes");
        String::from_utf8(answer).unwrap()
    }

    /// Leaves with a reset instead of a farewell.
    pub fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}
