//! A server whose timing is known exactly: it says when it sent each token. What the load generator
//! sees later than that is its own error. It speaks a dialect of its own: reading events is no part of
//! what is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tasks::worker::net::http::Request;
use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::net::stream::{
    Completion, FinishReason, StreamDecoder, StreamEvent, StreamSpelling,
};
use crate::tasks::worker::record::event::Mismatch;

/// A thread for each connection, with next to no stack.
const STACK_BYTES: usize = 256 << 10;

/// How many tokens go into one write where there is no gap between them.
const AT_ONCE: usize = 256;

/// How it answers: so many tokens, with so much time between them.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Of each answer.
    pub tokens: u64,
    /// Before each token; none means as fast as they go, many in one write.
    pub gap: Duration,
}

/// Serves on a loopback port until it is dropped.
#[derive(Debug)]
pub struct CalibrationServer {
    /// Where it listens.
    pub port: u16,
    over: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Vec<Instant>>>>,
}

/// How the server spells its streams: a token's data is its index, and that of the end is their
/// number.
#[derive(Debug)]
struct Spelling;

/// The text of each token.
const WORD: &str = " word";

impl CalibrationServer {
    /// How its streams are to be read.
    pub const SPELLING: &'static dyn StreamSpelling = &Spelling;

    /// Starts to listen. Every answer follows the script.
    pub fn start(script: Script) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("cannot listen on a loopback port")?;
        let port = listener.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (is_over, stamps) = (Arc::clone(&over), Arc::clone(&sent));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let stamps = Arc::clone(&stamps);
                let Ok(stream) = stream else { continue };
                let answer = move || drop(answer(stream, script, &stamps));
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                let _ = thread.spawn(answer);
            }
        });
        Ok(Self { port, over, sent })
    }

    /// When it sent each token, by the number that the request carried.
    pub fn sent(&self, number: usize) -> Vec<Instant> {
        let sent = self.sent.lock().map(|sent| sent.get(number).cloned());
        sent.ok().flatten().unwrap_or_default()
    }

    /// A request that carries a number.
    pub fn request(number: usize) -> Request {
        Request {
            method: "POST",
            path: String::from("/"),
            authorization: None,
            body: Some(("text/plain", number.to_string().into_bytes())),
        }
    }
}

impl StreamSpelling for Spelling {
    fn decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(Spelling)
    }

    fn has_event_per_token(&self) -> bool {
        true
    }

    fn error_in_short(&self, _body: &[u8]) -> String {
        String::new()
    }
}

impl StreamDecoder for Spelling {
    fn read(&mut self, event: &SseEvent) -> Result<Option<StreamEvent>, Mismatch> {
        let data = String::from_utf8_lossy(&event.data);
        let number = data.parse().map_err(|_| {
            let got = data.into_owned();
            Mismatch::new("the calibration server", "a number", got)
        })?;
        Ok(Some(match event.event.as_str() {
            "token" => StreamEvent::Text {
                index: Some(number),
                text: WORD.to_owned(),
                tokens: None,
            },
            _ => StreamEvent::End(Completion {
                text: None,
                finish_reason: FinishReason::Length,
                tokens: Some(number),
                completion_tokens: Some(number),
                prompt_tokens: Some(1),
                phases: None,
            }),
        }))
    }
}

impl Drop for CalibrationServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn answer(
    mut stream: TcpStream,
    script: Script,
    sent: &Mutex<Vec<Vec<Instant>>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let number = read_number(&stream)?;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )?;
    let mut stamps = Vec::with_capacity(script.tokens as usize);
    let mut due = Instant::now();
    let mut index = 0;
    while index < script.tokens {
        let until = if script.gap.is_zero() {
            script.tokens.min(index + AT_ONCE as u64)
        } else {
            index + 1
        };
        let bytes: Vec<u8> = (index..until).flat_map(|at| chunk("token", at)).collect();
        due += script.gap;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stamps.push(Instant::now());
        stream.write_all(&bytes)?;
        index = until;
    }
    // Before the end is told: whoever has the whole answer may ask for these.
    if let Ok(mut sent) = sent.lock() {
        let length = sent.len().max(number + 1);
        sent.resize(length, Vec::new());
        sent[number] = stamps;
    }
    stream.write_all(&chunk("end", script.tokens))?;
    stream.write_all(b"0\r\n\r\n")
}

/// A chunk with one event.
fn chunk(event: &str, number: u64) -> Vec<u8> {
    let text = format!("event: {event}\ndata: {number}\n\n");
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// The number that the request carries; 0 where it carries none.
fn read_number(stream: &TcpStream) -> std::io::Result<usize> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).parse().unwrap_or(0))
}
