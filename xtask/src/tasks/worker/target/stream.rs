//! A streamed answer: received, held to the rules of a stream, and kept with its times.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::dialect;
use super::dialect::{Completion, StreamEvent};
use crate::tasks::worker::net::client::{Arrival, Client, Request, Response};
use crate::tasks::worker::net::sse::SseParser;
use crate::tasks::worker::record::event::Mismatch;

/// How long the body may stay open after the last event: whoever waits for its end waits in vain.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A streamed answer that kept the rules.
#[derive(Debug, Clone)]
pub struct StreamedAnswer {
    /// Just before the request was sent.
    pub sent: Instant,
    /// Each token's arrival and text.
    pub tokens: Vec<(Instant, String)>,
    /// What the last event said.
    pub completion: Completion,
    /// When the last event came.
    pub ended: Instant,
}

impl StreamedAnswer {
    /// The texts of all tokens, joined.
    pub fn text(&self) -> String {
        self.tokens.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Output tokens a second from the first token to the last; `None` with fewer than two.
    pub fn decode_tokens_per_s(&self) -> Option<f64> {
        let (first, last) = (self.tokens.first()?.0, self.tokens.last()?.0);
        let gaps = self.tokens.len() - 1;
        (gaps > 0 && last > first).then(|| gaps as f64 / (last - first).as_secs_f64())
    }
}

/// Sends the request and reads the stream to its end; `on_token` sees each text as it arrives.
///
/// Fails with a [`Mismatch`] where the stream breaks a rule, and with `NoAnswer` where there is
/// no stream.
pub fn receive(
    client: &Client,
    request: &Request,
    limit: Duration,
    mut on_token: impl FnMut(&str),
) -> Result<StreamedAnswer> {
    let mut reading = Reading::default();
    let mut broken = None;
    let mut is_closed = false;
    let ended = Cell::new(None::<Instant>);
    let is_patient = || {
        ended
            .get()
            .is_none_or(|ended| ended.elapsed() < CLOSE_LIMIT)
    };
    client.stream(request, limit, is_patient, |arrival| match arrival {
        Arrival::Head(head) => reading.head = Some(head),
        Arrival::Bytes(at, bytes) => {
            reading.take(at, &bytes, &mut on_token);
            ended.set(reading.end.as_ref().map(|(at, _)| *at));
        }
        Arrival::End => is_closed = true,
        Arrival::Broken(error) => {
            is_closed = true;
            broken = Some(error);
        }
    })?;
    if !is_closed {
        let expected = "the end of the body after the last event";
        let got = format!("nothing for {} s", CLOSE_LIMIT.as_secs());
        return Err(Mismatch::new(request.name(), expected, got).into());
    }
    match broken {
        // What is known about a stream that broke off is a rule of streams, not of connections.
        Some(error) if reading.head.is_none() => Err(error.into()),
        Some(error) => {
            let got = format!("{} tokens, then {}", reading.tokens.len(), error.cause);
            Err(Mismatch::new(error.request, "a stream that ends with `event: end`", got).into())
        }
        None => Ok(reading.finish()?),
    }
}

/// A streamed answer that is already there as a whole. Its tokens have no times of their own.
pub fn read_whole(mut answer: Response) -> Result<StreamedAnswer, Mismatch> {
    let (at, body) = (answer.received, std::mem::take(&mut answer.body));
    let mut reading = Reading {
        head: Some(answer),
        ..Reading::default()
    };
    reading.take(at, &body, &mut |_| {});
    reading.finish()
}

#[derive(Debug, Default)]
struct Reading {
    head: Option<Response>,
    body: Vec<u8>,
    parser: SseParser,
    tokens: Vec<(Instant, String)>,
    end: Option<(Instant, Completion)>,
    mismatch: Option<Mismatch>,
}

impl Reading {
    fn take(&mut self, at: Instant, bytes: &[u8], on_token: &mut impl FnMut(&str)) {
        if self.head.as_ref().is_none_or(|head| head.status != 200) {
            self.body.extend_from_slice(bytes);
            return;
        }
        let mut parser = std::mem::take(&mut self.parser);
        parser.push(bytes, &mut |event| {
            let taken = dialect::read_stream_event(&event)
                .and_then(|event| self.take_event(at, event, on_token));
            if let Err(mismatch) = taken {
                self.mismatch.get_or_insert(mismatch);
            }
        });
        self.parser = parser;
    }

    fn take_event(
        &mut self,
        at: Instant,
        event: StreamEvent,
        on_token: &mut impl FnMut(&str),
    ) -> Result<(), Mismatch> {
        if self.end.is_some() {
            let got = "another event after it";
            return Err(Mismatch::new(
                "stream",
                "`event: end` as the last event",
                got,
            ));
        }
        match event {
            StreamEvent::Token { index, text } => {
                let expected = self.tokens.len() as u64;
                on_token(&text);
                self.tokens.push((at, text));
                if index != expected {
                    let place = "stream, `index`";
                    return Err(Mismatch::new(
                        place,
                        expected.to_string(),
                        index.to_string(),
                    ));
                }
            }
            StreamEvent::End(completion) => self.end = Some((at, completion)),
            StreamEvent::Error(message) => {
                let expected = "a stream that ends with `event: end`";
                return Err(Mismatch::new(
                    "stream",
                    expected,
                    format!("error {message}"),
                ));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<StreamedAnswer, Mismatch> {
        let mut head = self.head.expect("a stream that isn't broken has a head");
        head.body = self.body;
        dialect::expect_status(&head, &[200])?;
        let content_type = head.header("content-type").unwrap_or("none");
        if !dialect::is_media_type(content_type, "text/event-stream") {
            let expected = "content type text/event-stream";
            return Err(Mismatch::new(&head.request, expected, content_type));
        }
        if let Some(mismatch) = self.mismatch {
            return Err(mismatch);
        }
        let Some((ended, completion)) = self.end.filter(|_| !self.parser.has_remainder()) else {
            let got = format!("{} tokens and no end", self.tokens.len());
            return Err(Mismatch::new(head.request, "exactly one `event: end`", got));
        };
        let received = self.tokens.len() as u64;
        if received == 0 || received != completion.tokens {
            let got = format!("`tokens` {} after {received} events", completion.tokens);
            return Err(Mismatch::new(
                "stream, `event: end`",
                "at least one token, and as many as there were token events",
                got,
            ));
        }
        Ok(StreamedAnswer {
            sent: head.sent,
            tokens: self.tokens,
            completion,
            ended,
        })
    }
}
