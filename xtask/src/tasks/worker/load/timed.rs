//! One streamed answer with exact times: a thread that only reads, a clock that is asked right after
//! each read, and no work beside it. What came is taken apart afterwards.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::tasks::worker::net::framing;
use crate::tasks::worker::net::raw;
use crate::tasks::worker::net::sse::SseParser;
use crate::tasks::worker::record::bench::RequestOutcome;
use crate::tasks::worker::target::dialect;
use crate::tasks::worker::target::dialect::StreamEvent;

/// How long a connection to a loopback port may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Room for an answer of usual length; it grows where there is less left than one read wants.
const BUFFER_BYTES: usize = 32 << 10;
const READ_BYTES: usize = 8 << 10;

/// An answer that is longer isn't read on: no model says that much.
const ANSWER_BYTES: usize = 64 << 20;

/// The status of a refusal that asks to come back later.
const QUEUE_FULL: u16 = 429;

/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An exchange as it came: bytes, and when they came.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Just before the request's first byte was written on a connected socket: t0.
    pub sent: Instant,
    /// After each read: when, and how many bytes there were in all by then.
    reads: Vec<(Instant, usize)>,
    bytes: Vec<u8>,
    /// Why it ended before the answer did.
    broken: Option<String>,
    /// When it was over, whatever came.
    pub over: Instant,
}

/// An exchange taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// Each chunk that carried tokens: its arrival since t0, and how many tokens.
    pub chunks: Vec<(Duration, u32)>,
    /// From t0 to the terminal event, or to the failure.
    pub took: Duration,
    /// The text of all tokens.
    pub text: String,
    /// Tokens in the prompt, as the worker counts them.
    pub prompt_tokens: u64,
    /// What became of it.
    pub outcome: RequestOutcome,
}

/// The bytes of a request whose answer ends with its connection.
pub fn spell(request: &crate::tasks::worker::net::client::Request) -> Vec<u8> {
    let bytes = raw::spell(request);
    let line_end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let at = line_end.map_or(0, |at| at + 2);
    [&bytes[..at], b"connection: close\r\n", &bytes[at..]].concat()
}

/// Sends a request, spelled by [`spell`], on a connection of its own and reads the answer to its end.
pub fn record(port: u16, request: &[u8], limit: Duration) -> Recording {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connected = TcpStream::connect_timeout(&address, CONNECT_LIMIT).and_then(|stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(stream)
    });
    let mut recording = Recording {
        sent: Instant::now(),
        reads: Vec::with_capacity(512),
        bytes: Vec::new(),
        broken: None,
        over: Instant::now(),
    };
    recording.broken = match connected {
        Ok(stream) => recording.exchange(stream, request, limit).err(),
        Err(error) => Some(format!("connecting: {error}")),
    };
    recording.over = Instant::now();
    recording
}

impl Recording {
    fn exchange(
        &mut self,
        mut stream: TcpStream,
        request: &[u8],
        limit: Duration,
    ) -> Result<(), String> {
        self.sent = Instant::now();
        let sent = stream.write_all(request);
        sent.map_err(|error| format!("sending: {error}"))?;
        let mut length = 0;
        let mut buffer = std::mem::take(&mut self.bytes);
        buffer.resize(BUFFER_BYTES, 0);
        let ended = loop {
            if buffer.len() - length < READ_BYTES {
                buffer.resize(buffer.len() * 2, 0);
            }
            let read = stream.read(&mut buffer[length..]);
            let now = Instant::now();
            match read {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    length += count;
                    self.reads.push((now, length));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(describe(&error, limit)),
            }
            if is_whole(&buffer[..length]) {
                break Ok(());
            }
            if length > ANSWER_BYTES {
                break Err(format!("an answer of more than {} MB", ANSWER_BYTES >> 20));
            }
            if now - self.sent > limit {
                break Err(format!("no end within {} s", limit.as_secs()));
            }
        };
        buffer.truncate(length);
        self.bytes = buffer;
        ended
    }

    /// Whether it can't be an answer as wished for, as far as that is seen at a glance.
    pub fn has_failed(&self) -> bool {
        self.broken.is_some() || !framing::is_success(&self.bytes)
    }

    /// Whether the worker said that its queue is full.
    pub fn found_queue_full(&self) -> bool {
        matches!(framing::so_far(&self.bytes), Some((QUEUE_FULL, _)))
    }

    /// How much memory its bytes take.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes it apart, by the rules of streams.
    pub fn digest(&self) -> Timed {
        let mut timed = Timed {
            chunks: Vec::new(),
            took: self.over - self.sent,
            text: String::new(),
            prompt_tokens: 0,
            outcome: RequestOutcome::Valid,
        };
        timed.outcome = match self.read_stream(&mut timed) {
            Ok(()) => RequestOutcome::Valid,
            Err(outcome) => outcome,
        };
        timed
    }

    fn read_stream(&self, timed: &mut Timed) -> Result<(), RequestOutcome> {
        let failed = |reason: String| RequestOutcome::Failed { reason };
        let invalid = |reason: String| RequestOutcome::Invalid { reason };
        match framing::so_far(&self.bytes) {
            None => return Err(failed(self.cause("hung up without an answer"))),
            Some((200, _)) => {}
            Some((status, body)) => {
                let said = dialect::refusal_in_short(&body);
                return Err(failed(format!("status {status}{said}")));
            }
        }
        let end = self.read_events(timed).map_err(invalid)?;
        let got = count(timed);
        match end {
            Some(tokens) if tokens == got && got > 0 => Ok(()),
            Some(tokens) => Err(invalid(format!(
                "`tokens` {tokens} after {got} token events"
            ))),
            None if self.broken.is_some() => Err(failed(self.cause(""))),
            None => Err(invalid(format!("no end after {got} tokens"))),
        }
    }

    fn cause(&self, otherwise: &str) -> String {
        self.broken.clone().unwrap_or_else(|| otherwise.to_owned())
    }

    /// The count of the terminal event; `None` where there is none.
    fn read_events(&self, timed: &mut Timed) -> Result<Option<u64>, String> {
        let Some(pieces) = framing::pieces(&self.bytes) else {
            return Ok(None);
        };
        let mut parser = SseParser::default();
        let mut end = None;
        let mut broken = None;
        let mut from = pieces.begin;
        for (at, to) in &self.reads {
            let since = *at - self.sent;
            let mut tokens = 0;
            for piece in pieces.between(from, *to) {
                parser.push(&self.bytes[piece], &mut |event| {
                    let event = match dialect::read_stream_event(&event) {
                        Ok(event) => event,
                        Err(mismatch) => {
                            broken.get_or_insert(mismatch.to_string());
                            return;
                        }
                    };
                    if end.is_some() {
                        broken.get_or_insert(String::from("an event after the end"));
                    }
                    match event {
                        StreamEvent::Token { index, text } => {
                            let expected = count(timed) + u64::from(tokens);
                            if index != expected {
                                let reason = format!("index {index} instead of {expected}");
                                broken.get_or_insert(reason);
                            }
                            tokens += 1;
                            timed.text.push_str(&text);
                        }
                        StreamEvent::End(completion) => {
                            timed.took = since;
                            timed.prompt_tokens = completion.prompt_tokens;
                            end = Some(completion.tokens);
                        }
                        StreamEvent::Error(message) => {
                            broken.get_or_insert(format!("error {message}"));
                        }
                    }
                });
            }
            if tokens > 0 {
                timed.chunks.push((since, tokens));
            }
            from = (*to).max(from);
        }
        match broken {
            Some(reason) => Err(reason),
            None => Ok(end),
        }
    }
}

/// Whether the answer has ended, although its connection may have not. Cheap while a stream runs.
fn is_whole(bytes: &[u8]) -> bool {
    let may_be = bytes.ends_with(LAST_CHUNK) || !framing::is_success(bytes);
    may_be && framing::is_whole(bytes)
}

fn describe(error: &std::io::Error, limit: Duration) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing for {} s", limit.as_secs()),
        _ => format!("reading: {error}"),
    }
}

fn count(timed: &Timed) -> u64 {
    let tokens = timed.chunks.iter().map(|(_, tokens)| u64::from(*tokens));
    tokens.sum()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn token(index: u64) -> String {
        format!("event: token\ndata: {{\"index\":{index},\"text\":\"t{index}\"}}\n\n")
    }

    fn end(tokens: u64) -> String {
        format!(
            "event: end\ndata: {{\"tokens\":{tokens},\"finish_reason\":\"length\",\"usage\":\
             {{\"prompt_tokens\":7,\"completion_tokens\":{tokens}}},\"timings\":\
             {{\"queue_ms\":0,\"prefill_ms\":1,\"decode_ms\":1}}}}\n\n"
        )
    }

    /// A recording whose reads are these, a millisecond after each other.
    fn recording(reads: &[String]) -> Recording {
        let sent = Instant::now();
        let mut recording = Recording {
            sent,
            reads: Vec::new(),
            bytes: Vec::new(),
            broken: None,
            over: sent + Duration::from_secs(1),
        };
        for (number, read) in (1..).zip(reads) {
            recording.bytes.extend_from_slice(read.as_bytes());
            let at = sent + Duration::from_millis(number);
            recording.reads.push((at, recording.bytes.len()));
        }
        recording
    }

    fn outcome(reads: &[String]) -> RequestOutcome {
        recording(reads).digest().outcome
    }

    #[test]
    fn each_token_has_the_time_of_the_read_that_brought_it() {
        let reads = [
            HEAD.to_owned(),
            chunk(&token(0)),
            chunk(&token(1)) + &chunk(&token(2)),
            chunk(&end(3)) + "0\r\n\r\n",
        ];
        let timed = recording(&reads).digest();
        let ms = Duration::from_millis;
        assert_eq!(timed.outcome, RequestOutcome::Valid);
        assert_eq!(timed.chunks, [(ms(2), 1), (ms(3), 2)]);
        assert_eq!((timed.took, timed.prompt_tokens), (ms(4), 7));
        assert_eq!(timed.text, "t0t1t2");
    }

    #[test]
    fn wherever_the_bytes_are_cut_a_token_comes_with_its_last_byte() {
        let whole = [
            HEAD.to_owned(),
            chunk(&token(0)),
            chunk(&end(1)),
            "0\r\n\r\n".to_owned(),
        ];
        let whole = whole.concat();
        let first = HEAD.len() + chunk(&token(0)).len() - "\r\n".len();
        for cut in 1..whole.len() {
            let timed = recording(&[whole[..cut].to_owned(), whole[cut..].to_owned()]).digest();
            let expected = Duration::from_millis(if cut >= first { 1 } else { 2 });
            assert_eq!(timed.outcome, RequestOutcome::Valid, "cut at {cut}");
            assert_eq!(timed.chunks, [(expected, 1)], "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_a_rule_is_invalid_and_what_is_no_answer_failed() {
        let head = || HEAD.to_owned();
        let stream =
            |events: &[String]| outcome(&[head(), chunk(&events.concat()), "0\r\n\r\n".to_owned()]);
        let is_invalid = |outcome: &RequestOutcome, part: &str| {
            assert!(
                matches!(outcome, RequestOutcome::Invalid { reason } if reason.contains(part)),
                "{outcome:?}"
            );
        };
        is_invalid(
            &stream(&[token(0), token(2), end(2)]),
            "index 2 instead of 1",
        );
        is_invalid(&stream(&[token(0), end(2)]), "`tokens` 2 after 1");
        is_invalid(&stream(&[end(0)]), "`tokens` 0");
        is_invalid(&stream(&[token(0)]), "no end");
        is_invalid(&stream(&[token(0), end(1), end(1)]), "after the end");
        let refusal = "HTTP/1.1 429 Too Many\r\nContent-Length: 48\r\n\r\n\
                       {\"error\":{\"code\":\"queue_full\",\"message\":\"full\"}}";
        let RequestOutcome::Failed { reason } = outcome(&[refusal.to_owned()]) else {
            panic!("a refusal is a failure");
        };
        assert_eq!(reason, "status 429, queue_full: full");
    }

    #[test]
    fn nobody_there_or_an_end_too_early_is_a_failure() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1];
            stream.read_exact(&mut asked).unwrap();
            drop(listener);
        });
        let hung_up = record(port, b"GET / HTTP/1.1\r\n\r\n", LIMIT).digest();
        server.join().unwrap();
        assert!(
            matches!(hung_up.outcome, RequestOutcome::Failed { .. }),
            "{hung_up:?}"
        );
        let refused = record(port, b"GET / HTTP/1.1\r\n\r\n", LIMIT).digest();
        assert!(
            matches!(refused.outcome, RequestOutcome::Failed { .. }),
            "{refused:?}"
        );
    }
}
