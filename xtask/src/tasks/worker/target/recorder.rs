//! Tells the journal what was asked and what came: bounded, so that a flood stays a fact and
//! doesn't become one event a byte.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::dialect::Dialect;
use super::logs_of_check::LogsOfCheck;
use super::silence::Silence;
use crate::tasks::worker::journal::Journal;
use crate::tasks::worker::net::client::{Client, Note, Request, Response, Witness};
use crate::tasks::worker::net::stream::StreamedAnswer;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::record::event::{EventKind, ResponseReceived};
use crate::tasks::worker::record::facts::{AnswerMeta, RequestSent, cut};

/// How much of a body is recorded.
const BODY_BYTES: usize = 64 << 10;

/// How much is recorded of bytes that are no request: their begin shows what is wrong with them.
const RAW_BYTES: usize = 2 << 10;

/// Where facts about requests go.
#[derive(Debug, Clone)]
pub struct Line {
    /// The run's journal.
    pub journal: Journal,
    /// The check that asks.
    pub asker: Asker,
    /// The name of the worker that is asked, where it isn't the one under test.
    pub auxiliary: Option<String>,
    /// How it is talked to.
    pub dialect: &'static dyn Dialect,
    /// What the workers of the run have left unanswered.
    pub silence: Silence,
    /// What auxiliary workers wrote.
    pub logs: LogsOfCheck,
}

impl Line {
    /// For what nobody wants to know.
    pub fn nowhere(dialect: &'static dyn Dialect) -> Self {
        Self {
            journal: Journal::discard(),
            asker: Asker::new(""),
            auxiliary: None,
            dialect,
            silence: Silence::default(),
            logs: LogsOfCheck::default(),
        }
    }
}

/// The check that asks just now: what is recorded bears its name.
#[derive(Debug, Clone)]
pub struct Asker(Arc<Mutex<&'static str>>);

impl Asker {
    /// Begins with this name.
    pub fn new(check_id: &'static str) -> Self {
        Self(Arc::new(Mutex::new(check_id)))
    }

    /// Its name.
    pub fn get(&self) -> &'static str {
        *lock(&self.0)
    }

    /// From now on it is this one.
    pub fn set(&self, check_id: &'static str) {
        *lock(&self.0) = check_id;
    }
}

impl Witness for Line {
    fn asked(&self, client: &Client, request: &Request, limit: Duration) -> Note {
        let recorder = Recorder::of(self, client, request, limit);
        Box::new(move |response| recorder.note(response))
    }
}

/// How many tokens of one stream become events, and how much of their text.
const TOKENS: u64 = 5_000;
const TOKEN_BYTES: usize = 256 << 10;

/// One request on its way into the journal.
#[derive(Debug)]
pub struct Recorder {
    journal: Journal,
    number: u64,
    id: &'static str,
    /// Whether tokens are recorded one by one: a reader would take an auxiliary worker's for those of
    /// the worker under test.
    is_shown: bool,
    dialect: &'static dyn Dialect,
    /// Tokens and bytes of text so far.
    streamed: RefCell<(u64, usize)>,
}

impl Recorder {
    /// Records that `request` is about to be sent, for the check that the line belongs to.
    pub fn of(line: &Line, client: &Client, request: &Request, limit: Duration) -> Self {
        let body = request.body.as_ref().map(|(_, body)| body.as_slice());
        let addressed = (client.url(request), client.headers(request));
        let body = body.map(|body| (body, BODY_BYTES));
        Self::begin(line, request.name(), addressed, body, limit)
    }

    /// The same for bytes that no well-behaved client would send.
    pub fn of_bytes(line: &Line, name: &str, bytes: &[u8], limit: Duration) -> Self {
        let addressed = (String::new(), Vec::new());
        let body = Some((bytes, RAW_BYTES));
        Self::begin(line, name.to_owned(), addressed, body, limit)
    }

    fn begin(
        line: &Line,
        request: String,
        (url, headers): (String, Vec<(String, String)>),
        body: Option<(&[u8], usize)>,
        limit: Duration,
    ) -> Self {
        let (number, id) = (line.journal.next_number(), line.asker.get());
        line.journal.emit(EventKind::Asked(RequestSent {
            number,
            id: id.to_owned(),
            auxiliary: line.auxiliary.clone(),
            request,
            url,
            headers,
            body: body.map(|(body, kept)| cut(&String::from_utf8_lossy(body), kept)),
            body_bytes: body.map_or(0, |(body, _)| body.len() as u64),
            limit_ms: limit.as_millis() as u64,
        }));
        Self {
            journal: line.journal.clone(),
            number,
            id,
            is_shown: line.auxiliary.is_none(),
            dialect: line.dialect,
            streamed: RefCell::default(),
        }
    }

    /// Records that the client didn't wait for the end of the answer.
    pub fn left(&self, tokens: usize) {
        self.journal.emit(EventKind::Unanswered {
            number: self.number,
            cause: format!("the client left after {tokens} tokens"),
            left: true,
        });
    }

    /// Records what came of it.
    pub fn note(&self, response: &anyhow::Result<Response>) {
        match response {
            Ok(answer) => self.answered(answer),
            Err(error) => self.unanswered(error),
        }
    }

    fn answered(&self, response: &Response) {
        let body = if response.body.len() > BODY_BYTES {
            Value::Null
        } else {
            serde_json::from_slice(&response.body).unwrap_or_default()
        };
        let phases = self.dialect.read_phases(&body);
        let body = if body.is_null() {
            Value::String(cut(&String::from_utf8_lossy(&response.body), BODY_BYTES))
        } else {
            body
        };
        self.journal.emit(EventKind::Answered(ResponseReceived {
            id: self.id.to_owned(),
            request: response.request.clone(),
            status: response.status,
            duration_ms: between_ms(response.sent, response.received),
            body,
            meta: Some(AnswerMeta {
                number: self.number,
                sent_ms: self.journal.elapsed_ms(response.sent),
                headers: response.headers.clone(),
                phases,
                tokens_ms: Vec::new(),
            }),
        }));
    }

    /// Records a token of a streamed answer.
    pub fn token(&self, text: &str) {
        if !self.is_shown {
            return;
        }
        let mut streamed = self.streamed.borrow_mut();
        let (count, bytes) = *streamed;
        *streamed = (count + 1, bytes.saturating_add(text.len()));
        if count > TOKENS || bytes > TOKEN_BYTES {
            return;
        }
        if count == TOKENS || bytes + text.len() > TOKEN_BYTES {
            *streamed = (u64::MAX - 1, bytes);
            let message = format!("{}: the rest of the stream isn't recorded", self.id);
            return self.journal.emit(EventKind::Noted { message });
        }
        let (id, text) = (self.id.to_owned(), text.to_owned());
        self.journal.emit(EventKind::TokenReceived { id, text });
    }

    /// Records the end of a streamed answer.
    pub fn streamed(&self, request: &Request, answer: &StreamedAnswer) {
        let since_sent = |at: Instant| between_ms(answer.sent, at);
        let arrivals = answer.pieces.iter().take(TOKENS as usize);
        self.journal.emit(EventKind::Answered(ResponseReceived {
            id: self.id.to_owned(),
            request: request.name(),
            status: 200,
            duration_ms: since_sent(answer.ended),
            body: Value::String(cut(&answer.text(), BODY_BYTES)),
            meta: Some(AnswerMeta {
                number: self.number,
                sent_ms: self.journal.elapsed_ms(answer.sent),
                headers: Vec::new(),
                phases: answer.completion.phases,
                tokens_ms: arrivals.map(|piece| since_sent(piece.at)).collect(),
            }),
        }));
    }

    /// Records that there was no answer, or not a whole one.
    pub fn unanswered(&self, error: &anyhow::Error) {
        self.journal.emit(EventKind::Unanswered {
            number: self.number,
            cause: cut(&format!("{error:#}"), BODY_BYTES),
            left: false,
        });
    }
}

fn between_ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3
}
