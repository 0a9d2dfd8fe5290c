//! A streamed answer, held to the rules of a valid stream: the one place that knows them.
//!
//! Whoever reads an answer feeds it in the pieces in which it came. How events are spelled is the
//! decoder's to know.

use std::time::Instant;

use anyhow::Context;

use super::framing::Head;
use super::http::{NoAnswer, Response, is_media_type};
use super::sse::{SseEvent, SseParser};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::record::facts::{Phases, cut};

/// How much of an answer that is no stream is shown.
const SHOWN_BYTES: usize = 200;

/// How a dialect spells streams.
pub trait StreamSpelling: Sync {
    /// Reads the events of one streamed answer.
    fn decoder(&self) -> Box<dyn StreamDecoder>;

    /// Whether every token is an event of its own.
    fn has_event_per_token(&self) -> bool;

    /// What an error says, to follow its status in a sentence; empty where it says nothing readable.
    fn error_in_short(&self, body: &[u8]) -> String;
}

/// Reads the events of one streamed answer, in order.
pub trait StreamDecoder: std::fmt::Debug + Send {
    /// What the event means; `None` where it says nothing by itself, or only together with later
    /// ones.
    fn read(&mut self, event: &SseEvent) -> Result<Option<StreamEvent>, Mismatch>;
}

/// What one event of a streamed answer means.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A piece of the text.
    Text {
        /// Its place in the answer, where events are numbered.
        index: Option<u64>,
        /// The piece.
        text: String,
        /// How many tokens it is, where the event says so.
        tokens: Option<u64>,
    },
    /// The orderly end.
    End(Completion),
    /// The end with an error: code and message.
    Error(String),
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

/// What a whole answer and the end of a stream have in common. What is `None` the protocol leaves
/// open; nobody guesses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text; `None` in a stream, whose events carried it.
    pub text: Option<String>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Tokens generated.
    pub tokens: Option<u64>,
    /// Tokens generated, as the usage counts them.
    pub completion_tokens: Option<u64>,
    /// Tokens in the prompt.
    pub prompt_tokens: Option<u64>,
    /// The parts of its time.
    pub phases: Option<Phases>,
}

/// A piece of a streamed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// When the read that completed it came back.
    pub at: Instant,
    /// The text.
    pub text: String,
    /// How many tokens it is, where the event says so.
    pub tokens: Option<u64>,
}

/// A streamed answer that kept the rules.
#[derive(Debug, Clone)]
pub struct StreamedAnswer {
    /// t0: just before the request's first byte was written.
    pub sent: Instant,
    /// The text as it arrived.
    pub pieces: Vec<Piece>,
    /// What the last event said.
    pub completion: Completion,
    /// When the last event came.
    pub ended: Instant,
}

/// Why an answer is no valid stream.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamError {
    /// There was no answer at all.
    NoAnswer(NoAnswer),
    /// The answer is another one: its status, and what it says.
    Refused {
        /// The status.
        status: u16,
        /// What the error says in short.
        said: String,
        /// The same as a broken promise.
        mismatch: Mismatch,
    },
    /// The connection broke within the stream, or the time was up.
    Broken(Mismatch),
    /// The stream breaks a rule.
    Invalid(Mismatch),
}

/// How far an answer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// No status yet.
    Waiting,
    /// So many tokens, and no end.
    Tokens(usize),
    /// The last event is there: an end or an error.
    Ended,
    /// Something else than a stream.
    Refused(u16),
}

/// Reads one streamed answer.
pub struct StreamReader<'s> {
    name: String,
    spelling: &'s dyn StreamSpelling,
    decoder: Box<dyn StreamDecoder>,
    parser: SseParser,
    head: Option<Head>,
    sent: Option<Instant>,
    /// The body of an answer that is no stream.
    body: Vec<u8>,
    pieces: Vec<Piece>,
    end: Option<(Instant, Completion)>,
    /// The stream said that it ends with this error.
    error: Option<(Instant, String)>,
    /// The first rule that was broken.
    mismatch: Option<Mismatch>,
}

impl<'s> StreamReader<'s> {
    /// Nothing has come yet. `name` says what was asked, for messages.
    pub fn new(name: &str, spelling: &'s dyn StreamSpelling) -> Self {
        Self {
            name: name.to_owned(),
            spelling,
            decoder: spelling.decoder(),
            parser: SseParser::default(),
            head: None,
            sent: None,
            body: Vec::new(),
            pieces: Vec::new(),
            end: None,
            error: None,
            mismatch: None,
        }
    }

    /// A streamed answer that is already there as a whole. Its pieces have no times of their own.
    pub fn of(answer: &Response, spelling: &'s dyn StreamSpelling) -> Self {
        let mut reader = Self::new(&answer.request, spelling);
        let head = Head {
            status: answer.status,
            headers: answer.headers.clone(),
        };
        reader.head(&head, answer.sent);
        reader.body(answer.received, &answer.body);
        reader
    }

    /// Status and headers are there; nothing happens the second time. `sent` is t0.
    pub fn head(&mut self, head: &Head, sent: Instant) {
        if self.head.is_none() {
            self.head = Some(head.clone());
            self.sent = Some(sent);
        }
    }

    /// More bytes of the body, read at this moment; gives the pieces of text that they completed.
    pub fn body(&mut self, at: Instant, bytes: &[u8]) -> &[Piece] {
        let before = self.pieces.len();
        if self.head.as_ref().is_none_or(|head| head.status != 200) {
            self.body.extend_from_slice(bytes);
            return &[];
        }
        let mut parser = std::mem::take(&mut self.parser);
        parser.push(bytes, &mut |event| {
            let read = self.decoder.read(&event);
            if let Err(mismatch) = read.and_then(|event| self.take(at, event)) {
                self.mismatch.get_or_insert(mismatch);
            }
        });
        self.parser = parser;
        &self.pieces[before..]
    }

    fn take(&mut self, at: Instant, event: Option<StreamEvent>) -> Result<(), Mismatch> {
        let Some(event) = event else { return Ok(()) };
        if self.has_ended() {
            let got = "another event after it";
            return Err(Mismatch::new("stream", "an end as the last event", got));
        }
        match event {
            StreamEvent::Text {
                index,
                text,
                tokens,
            } => {
                let expected = self.pieces.len() as u64;
                self.pieces.push(Piece { at, text, tokens });
                if let Some(index) = index.filter(|index| *index != expected) {
                    let (expected, got) = (expected.to_string(), index.to_string());
                    return Err(Mismatch::new("stream, `index`", expected, got));
                }
            }
            StreamEvent::End(completion) => self.end = Some((at, completion)),
            StreamEvent::Error(message) => self.error = Some((at, message)),
        }
        Ok(())
    }

    fn has_ended(&self) -> bool {
        self.end.is_some() || self.error.is_some()
    }

    /// When the last event came, an end or an error.
    pub fn ended(&self) -> Option<Instant> {
        let error = self.error.as_ref().map(|(at, _)| *at);
        self.end.as_ref().map(|(at, _)| *at).or(error)
    }

    /// The text so far, as it arrived.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// How far the answer has come.
    pub fn progress(&self) -> Progress {
        match &self.head {
            None => Progress::Waiting,
            Some(head) if head.status != 200 => Progress::Refused(head.status),
            // What breaks a rule ends the stream as far as we are concerned.
            Some(_) if self.has_ended() || self.mismatch.is_some() => Progress::Ended,
            Some(_) => Progress::Tokens(self.pieces.len()),
        }
    }

    /// The answer, now that nothing more comes. `broken` says what kept its rest from coming.
    pub fn finish(self, broken: Option<&str>) -> Result<StreamedAnswer, StreamError> {
        self.ensure_closed(broken)?;
        let count = self.pieces.len();
        let end_with = |got: String| {
            let expected = "a stream that ends with an end, not with an error";
            StreamError::Invalid(Mismatch::new(&self.name, expected, got))
        };
        if let Some((_, error)) = &self.error {
            return Err(end_with(format!("error {error}")));
        }
        let Some((ended, completion)) = self.end else {
            let got = format!("{count} tokens and no end");
            let mismatch = Mismatch::new(&self.name, "exactly one end", got);
            return Err(StreamError::Invalid(mismatch));
        };
        let received = self.pieces.len() as u64;
        let said = completion.tokens.unwrap_or_default();
        let is_exact = self.spelling.has_event_per_token();
        if is_exact && (received == 0 || said != received) {
            return Err(StreamError::Invalid(Mismatch::new(
                "stream, its end",
                "at least one token, and as many as there were token events",
                format!("`tokens` {said} after {received} events"),
            )));
        }
        Ok(StreamedAnswer {
            sent: self.sent.unwrap_or(ended),
            pieces: self.pieces,
            completion,
            ended,
        })
    }

    /// Whether a stream that may end with an error ended with an end.
    pub fn finish_either_way(self) -> Result<bool, StreamError> {
        self.ensure_closed(None)?;
        match (self.end.is_some(), self.error.is_some()) {
            (false, false) => {
                let got = format!("{} tokens and no end", self.pieces.len());
                let expected = "exactly one end, or one error";
                let mismatch = Mismatch::new(&self.name, expected, got);
                Err(StreamError::Invalid(mismatch))
            }
            (is_end, _) => Ok(is_end),
        }
    }

    /// The rules of every stream, however it ends.
    fn ensure_closed(&self, broken: Option<&str>) -> Result<(), StreamError> {
        let Some(head) = &self.head else {
            return Err(StreamError::NoAnswer(NoAnswer {
                request: self.name.clone(),
                cause: broken.unwrap_or("hung up without an answer").to_owned(),
            }));
        };
        if head.status != 200 {
            let body = cut(&String::from_utf8_lossy(&self.body), SHOWN_BYTES);
            let got = format!("status {} with {body}", head.status);
            return Err(StreamError::Refused {
                status: head.status,
                said: self.spelling.error_in_short(&self.body),
                mismatch: Mismatch::new(&self.name, "status 200", got),
            });
        }
        let content_type = head.header("content-type").unwrap_or("none");
        if !is_media_type(content_type, "text/event-stream") {
            let expected = "content type text/event-stream";
            let mismatch = Mismatch::new(&self.name, expected, content_type);
            return Err(StreamError::Invalid(mismatch));
        }
        if let Some(mismatch) = &self.mismatch {
            return Err(StreamError::Invalid(mismatch.clone()));
        }
        if let Some(cause) = broken {
            let got = format!("{} tokens, then {cause}", self.pieces.len());
            let expected = "a stream that ends with its body";
            return Err(StreamError::Broken(Mismatch::new(
                &self.name, expected, got,
            )));
        }
        if self.parser.has_remainder() {
            let got = format!("{} tokens and a part of an event", self.pieces.len());
            let mismatch = Mismatch::new(&self.name, "whole events", got);
            return Err(StreamError::Invalid(mismatch));
        }
        Ok(())
    }
}

impl Completion {
    /// Tokens generated. Fails where the answer doesn't say.
    pub fn tokens(&self) -> anyhow::Result<u64> {
        self.tokens
            .context("the answer doesn't say how many tokens it has")
    }

    /// Tokens in the prompt. Fails where the answer doesn't say.
    pub fn prompt_tokens(&self) -> anyhow::Result<u64> {
        self.prompt_tokens
            .context("the answer doesn't say how many tokens its prompt has")
    }

    /// The parts of its time. Fails where the answer doesn't say.
    pub fn phases(&self) -> anyhow::Result<Phases> {
        self.phases
            .context("the answer doesn't say how long its parts took")
    }
}

impl StreamedAnswer {
    /// The whole text.
    pub fn text(&self) -> String {
        let texts = self.pieces.iter().map(|piece| piece.text.as_str());
        texts.collect()
    }

    /// Tokens generated: as many as the end says, or else as pieces came.
    pub fn tokens(&self) -> u64 {
        self.completion.tokens.unwrap_or(self.pieces.len() as u64)
    }

    /// Whether each piece is known to be one token: where events don't say so, their number tells.
    pub fn has_piece_per_token(&self) -> bool {
        let says_so = self.pieces.iter().all(|piece| piece.tokens == Some(1));
        says_so || self.completion.tokens == Some(self.pieces.len() as u64)
    }

    /// Output tokens a second from the first piece to the last; `None` with fewer than two, or where
    /// nobody knows which piece has how many.
    pub fn decode_tokens_per_s(&self) -> Option<f64> {
        let (first, last) = (self.pieces.first()?, self.pieces.last()?);
        let rest = self.pieces.len() - 1;
        let span = last.at - first.at;
        let is_known = self.has_piece_per_token() && rest > 0 && !span.is_zero();
        is_known.then(|| rest as f64 / span.as_secs_f64())
    }
}

impl StreamError {
    /// As a check tells it: a broken promise, or no answer.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            StreamError::NoAnswer(no_answer) => no_answer.into(),
            StreamError::Refused { mismatch, .. }
            | StreamError::Broken(mismatch)
            | StreamError::Invalid(mismatch) => mismatch.into(),
        }
    }
}
