//! A server whose timing is known exactly: it says when it sent each token. What the load generator
//! sees later than that is its own error. It speaks a dialect of its own: reading events is no part of
//! what is measured.

use std::collections::BinaryHeap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use crate::tasks::worker::net::http::Request;
use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::net::stream::{
    Completion, FinishReason, StreamDecoder, StreamEvent, StreamSpelling,
};
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::record::event::Mismatch;

/// How many tokens go into one write where there is no gap between them.
const AT_ONCE: usize = 256;

/// Whoever connects and says nothing, or takes nothing, holds the others up no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the thread that sends waits for the next connection before it looks whether all is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// How it answers: so many tokens, with so much time between them.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Of each answer.
    pub tokens: u64,
    /// Before each token; none means as fast as they go, many in one write.
    pub gap: Duration,
}

/// Serves on a loopback port until it is dropped.
///
/// One thread accepts and one sends, however many streams there are: what a thread for each would cost,
/// the readers that are measured would lack.
#[derive(Debug)]
pub struct CalibrationServer {
    /// Where it listens.
    pub port: u16,
    /// How it answers.
    pub script: Script,
    over: Arc<AtomicBool>,
    sent: Sent,
}

/// When each token was sent, by the number that its request carried.
type Sent = Arc<Mutex<Vec<Vec<Instant>>>>;

/// An answer byte for byte, made before anybody asks.
#[derive(Debug)]
struct SpelledScript {
    script: Script,
    bytes: Vec<u8>,
    /// Where each token ends in them; the end event follows the last.
    ends: Vec<usize>,
}

/// An answer that is under way.
#[derive(Debug)]
struct PacedAnswer {
    stream: TcpStream,
    number: usize,
    /// When its next token is due.
    due: Instant,
    stamps: Vec<Instant>,
    /// Tokens sent so far.
    index: usize,
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
        let listener = listen().context("cannot listen on a loopback port")?;
        let port = listener.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (begun, begins) = mpsc::channel();
        let is_over = Arc::clone(&over);
        std::thread::spawn(move || accept(&listener, script, &is_over, &begun));
        let (is_over, stamps) = (Arc::clone(&over), Arc::clone(&sent));
        std::thread::spawn(move || send(&SpelledScript::of(script), &begins, &is_over, &stamps));
        Ok(Self {
            port,
            script,
            over,
            sent,
        })
    }

    /// When it sent each token, by the number that the request carried; told once.
    pub fn take_sent(&self, number: usize) -> Vec<Instant> {
        let mut sent = lock(&self.sent);
        sent.get_mut(number).map(std::mem::take).unwrap_or_default()
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

/// With room for everybody who connects at once: whoever finds none tries again after a second.
fn listen() -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Begins an answer for each connection that asks.
fn accept(
    listener: &TcpListener,
    script: Script,
    over: &AtomicBool,
    begun: &mpsc::Sender<PacedAnswer>,
) {
    for stream in listener.incoming() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let answer = stream.and_then(|stream| PacedAnswer::begin(stream, script));
        let Ok(answer) = answer else { continue };
        if begun.send(answer).is_err() {
            return;
        }
    }
}

/// Sends each token when it is due.
fn send(
    spelled: &SpelledScript,
    begins: &mpsc::Receiver<PacedAnswer>,
    over: &AtomicBool,
    sent: &Sent,
) {
    let mut under_way: BinaryHeap<PacedAnswer> = BinaryHeap::new();
    while !over.load(Ordering::Relaxed) {
        under_way.extend(begins.try_iter());
        let now = Instant::now();
        let next = under_way.peek().map(|next| next.due);
        if next.is_none_or(|due| due > now) {
            let wait = next.map_or(LOOK_INTERVAL, |due| LOOK_INTERVAL.min(due - now));
            match begins.recv_timeout(wait) {
                Ok(answer) => under_way.push(answer),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            continue;
        }
        let Some(answer) = under_way.pop() else {
            continue;
        };
        // Whoever went away gets nothing more.
        under_way.extend(answer.send_next(spelled, sent).ok().flatten());
    }
}

impl SpelledScript {
    fn of(script: Script) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for index in 0..script.tokens {
            bytes.extend(chunk("token", index));
            ends.push(bytes.len());
        }
        bytes.extend(chunk("end", script.tokens));
        bytes.extend(b"0\r\n\r\n");
        Self {
            script,
            bytes,
            ends,
        }
    }
}

impl PacedAnswer {
    fn begin(mut stream: TcpStream, script: Script) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let number = read_number(&stream)?;
        stream.write_all(HEAD)?;
        Ok(Self {
            stream,
            number,
            due: Instant::now() + script.gap,
            stamps: Vec::with_capacity(script.tokens as usize),
            index: 0,
        })
    }

    /// Sends what is due; `None` once that was the last.
    fn send_next(mut self, spelled: &SpelledScript, sent: &Sent) -> std::io::Result<Option<Self>> {
        let SpelledScript {
            script,
            bytes,
            ends,
        } = spelled;
        let at_once = if script.gap.is_zero() { AT_ONCE } else { 1 };
        let from = self.index.checked_sub(1).map_or(0, |last| ends[last]);
        self.index = ends.len().min(self.index + at_once);
        let to = ends[self.index - 1];
        let now = Instant::now();
        self.stamps.push(now);
        self.stream.write_all(&bytes[from..to])?;
        // Who is late doesn't make up for it by sending two at once: that would look as if they had
        // been read late.
        self.due = (self.due + script.gap).max(now + script.gap / 2);
        if self.index < ends.len() {
            return Ok(Some(self));
        }
        // Before the end is told: whoever has the whole answer may ask for these.
        let mut sent = lock(sent);
        let length = sent.len().max(self.number + 1);
        sent.resize(length, Vec::new());
        sent[self.number] = self.stamps;
        drop(sent);
        self.stream.write_all(&bytes[to..])?;
        Ok(None)
    }
}

/// The next that is due is the greatest, as a heap has it.
impl Ord for PacedAnswer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for PacedAnswer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PacedAnswer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PacedAnswer {}

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
