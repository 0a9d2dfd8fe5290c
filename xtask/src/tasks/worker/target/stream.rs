//! Streamed answers of a well-behaved client.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::tasks::worker::net::client::{Arrival, Client, Request};
use crate::tasks::worker::net::framing::Head;
use crate::tasks::worker::net::stream::{StreamReader, StreamSpelling, StreamedAnswer};
use crate::tasks::worker::record::event::Mismatch;

/// How long the body may stay open after the last event: whoever waits for its end waits in vain.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Sends the request and reads the stream to its end; `on_text` sees each text as it arrives.
///
/// Fails with a [`Mismatch`] where the stream breaks a rule, and with `NoAnswer` where there is
/// no stream.
pub fn receive(
    spelling: &dyn StreamSpelling,
    client: &Client,
    request: &Request,
    limit: Duration,
    mut on_text: impl FnMut(&str),
) -> Result<StreamedAnswer> {
    let mut reader = StreamReader::new(&request.name(), spelling);
    let mut broken = None;
    let mut is_closed = false;
    let ended = Cell::new(None::<Instant>);
    let is_patient = || {
        ended
            .get()
            .is_none_or(|ended| ended.elapsed() < CLOSE_LIMIT)
    };
    client.stream(request, limit, is_patient, |arrival| match arrival {
        Arrival::Head(answer) => {
            let head = Head {
                status: answer.status,
                headers: answer.headers,
            };
            reader.head(&head, answer.sent);
        }
        Arrival::Bytes(at, bytes) => {
            let pieces = reader.body(at, &bytes);
            pieces.iter().for_each(|piece| on_text(&piece.text));
            ended.set(reader.ended());
        }
        Arrival::End => is_closed = true,
        Arrival::Broken(error) => {
            is_closed = true;
            broken = Some(error.cause);
        }
    })?;
    if !is_closed {
        let expected = "the end of the body after the last event";
        let got = format!("nothing for {} s", CLOSE_LIMIT.as_secs());
        return Err(Mismatch::new(request.name(), expected, got).into());
    }
    let finished = reader.finish(broken.as_deref());
    finished.map_err(|error| error.into_error())
}
