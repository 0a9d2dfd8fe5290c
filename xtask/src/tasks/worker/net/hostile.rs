//! What a hostile server does to a client, and what it may not achieve: both transports are held to
//! the same, by the same answers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::client::{Client, NoAnswer, Request};
use super::framing::Head;
use super::http::ANSWER_BYTES;
use super::recording::record;
use super::stream::{
    Completion, FinishReason, StreamDecoder, StreamError, StreamEvent, StreamReader,
    StreamSpelling, StreamedAnswer,
};
use crate::tasks::worker::net::client::Arrival;
use crate::tasks::worker::net::sse::SseEvent;
use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::event::Mismatch;

/// Much longer than anything here takes where it works.
const LIMIT: Duration = Duration::from_secs(60);

/// The deadline of what would never end.
const SHORT: Duration = Duration::from_millis(700);

/// How late an end at a deadline may be, on a busy machine.
const LATENESS: Duration = Duration::from_secs(20);

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";

const LAST: &str = "0\r\n\r\n";

/// Events whose data is an index, a count, or an error.
#[derive(Debug)]
struct Plain;

impl StreamSpelling for Plain {
    fn decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(Plain)
    }

    fn has_event_per_token(&self) -> bool {
        true
    }

    fn error_in_short(&self, body: &[u8]) -> String {
        format!(", {}", String::from_utf8_lossy(body))
    }
}

impl StreamDecoder for Plain {
    fn read(&mut self, event: &SseEvent) -> Result<Option<StreamEvent>, Mismatch> {
        let data = String::from_utf8_lossy(&event.data).into_owned();
        let number = || {
            let number = data.parse::<u64>();
            number.map_err(|_| Mismatch::new("an event", "a number", &data))
        };
        Ok(Some(match event.event.as_str() {
            "token" => StreamEvent::Text {
                index: Some(number()?),
                text: format!("t{data}"),
                tokens: None,
            },
            "error" => StreamEvent::Error(data),
            "ping" => return Ok(None),
            _ => StreamEvent::End(Completion {
                text: None,
                finish_reason: FinishReason::Length,
                tokens: Some(number()?),
                completion_tokens: None,
                prompt_tokens: Some(7),
                phases: None,
            }),
        }))
    }
}

/// A server of one connection. `answer` gets it when the request has begun to come.
fn serve(answer: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked);
        answer(stream);
    });
    port
}

/// A server that writes these pieces, a moment after each other, and hangs up.
fn serve_pieces(pieces: Vec<Vec<u8>>) -> u16 {
    serve(move |mut stream| {
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            let _ = stream.write_all(&piece);
            std::thread::sleep(Duration::from_millis(3));
        }
    })
}

/// Writes the same over and over, for as long as anybody takes it.
fn flood(mut stream: TcpStream, first: &str, part: &[u8], pause: Duration) {
    let _ = stream.write_all(first.as_bytes());
    while stream.write_all(part).is_ok() {
        std::thread::sleep(pause);
    }
}

fn get() -> Request {
    Request {
        method: "GET",
        path: String::from("/x"),
        authorization: None,
        body: None,
    }
}

/// A process that lives as long as the test, for clients that want to know of a worker's end.
fn worker() -> ProcessGroup {
    let mut command = Command::new("sleep");
    command.arg("600");
    ProcessGroup::spawn(command, Role::Tool, Duration::ZERO).unwrap()
}

/// What the well-behaved client makes of it.
fn by_client(port: u16, limit: Duration) -> Result<StreamedAnswer, StreamError> {
    let worker = worker();
    let client = Client::new(port, worker.watch(), &StopFlag::default());
    let mut reader = StreamReader::new("GET /x", &Plain);
    let mut broken = None;
    let streamed = client.stream(
        &get(),
        limit,
        || true,
        |arrival| match arrival {
            Arrival::Head(answer) => {
                let (status, headers) = (answer.status, answer.headers);
                reader.head(&Head { status, headers }, answer.sent);
            }
            Arrival::Bytes(at, bytes) => drop(reader.body(at, &bytes)),
            Arrival::End => {}
            Arrival::Broken(error) => broken = Some(error.cause),
        },
    );
    streamed.unwrap();
    reader.finish(broken.as_deref())
}

/// What the recording one makes of it.
fn by_recording(port: u16, limit: Duration) -> Result<StreamedAnswer, StreamError> {
    let bytes = get().to_closing_bytes(port);
    let recording = record(port, &bytes, limit, &StopFlag::default());
    let reader = recording.reader("GET /x", &Plain);
    reader.finish(recording.broken())
}

/// Both transports' answers to the same server.
fn both(serve: impl Fn() -> u16, limit: Duration) -> [Result<StreamedAnswer, StreamError>; 2] {
    [by_client(serve(), limit), by_recording(serve(), limit)]
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn token(index: u64) -> String {
    event("token", &index.to_string())
}

fn end(tokens: u64) -> String {
    event("end", &tokens.to_string())
}

/// A whole answer with these events.
fn stream_of(events: &[String]) -> String {
    HEAD.to_owned() + &chunk(&events.concat()) + LAST
}

#[test]
fn each_piece_has_the_time_of_the_read_that_brought_it() {
    let pieces = || {
        let pieces = [
            HEAD.to_owned(),
            chunk(&token(0)),
            chunk(&event("ping", "")) + &chunk(&token(1)) + &chunk(&token(2)),
            chunk(&end(3)) + LAST,
        ];
        serve_pieces(pieces.map(String::into_bytes).to_vec())
    };
    for answer in both(pieces, LIMIT) {
        let answer = answer.unwrap();
        assert_eq!(answer.text(), "t0t1t2");
        let at: Vec<Instant> = answer.pieces.iter().map(|piece| piece.at).collect();
        assert!(answer.sent < at[0] && at[0] < at[1] && at[1] == at[2]);
        assert!(at[2] <= answer.ended);
        assert_eq!(
            (answer.tokens(), answer.completion.prompt_tokens),
            (3, Some(7))
        );
    }
}

#[test]
fn wherever_the_bytes_are_cut_the_stream_is_the_same() {
    let whole = stream_of(&[token(0), end(1)]).into_bytes();
    for cut in [
        1,
        HEAD.len() - 1,
        HEAD.len() + 1,
        HEAD.len() + 20,
        whole.len() - 1,
    ] {
        let serve = || serve_pieces(vec![whole[..cut].to_vec(), whole[cut..].to_vec()]);
        for answer in both(serve, LIMIT) {
            assert_eq!(answer.unwrap().text(), "t0", "cut at {cut}");
        }
    }
}

#[test]
fn what_breaks_a_rule_breaks_it_for_both() {
    let plain = |head: &str, body: &str| {
        format!(
            "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let good = [token(0), end(1)].concat();
    let sse = "Content-Type: text/event-stream";
    let invalid = [
        (stream_of(&[token(0), token(2), end(2)]), "`index`"),
        (stream_of(&[token(1), end(1)]), "`index`"),
        (stream_of(&[token(0), end(2)]), "`tokens` 2 after 1"),
        (stream_of(&[end(0)]), "`tokens` 0"),
        (stream_of(&[token(0)]), "no end"),
        (
            stream_of(&[token(0), end(1), end(1)]),
            "another event after",
        ),
        (
            stream_of(&[token(0), end(1), token(1)]),
            "another event after",
        ),
        (stream_of(&[token(0), event("error", "no")]), "error no"),
        (stream_of(&[token(0), event("token", "x")]), "a number"),
        (
            stream_of(&[token(0), end(1), String::from("event: x")]),
            "part",
        ),
        (plain("200 OK", &good), "text/event-stream"),
        (
            plain("200 OK\r\nContent-Type: text/plain", &good),
            "text/plain",
        ),
    ];
    for (answer, part) in invalid {
        for read in both(|| serve_pieces(vec![answer.clone().into_bytes()]), LIMIT) {
            let Err(StreamError::Invalid(mismatch)) = read else {
                panic!("{answer}: {read:?}");
            };
            assert!(mismatch.to_string().contains(part), "{answer}: {mismatch}");
        }
    }
    // The right one, so that the others fail for their own reason.
    let right = plain(&format!("200 OK\r\n{sse}"), &good);
    for read in both(|| serve_pieces(vec![right.clone().into_bytes()]), LIMIT) {
        assert_eq!(read.unwrap().text(), "t0");
    }
}

#[test]
fn what_is_cut_off_is_broken_for_both() {
    let head = HEAD.to_owned();
    let cut = [
        head.clone() + &chunk(&token(0)),
        head.clone() + &chunk(&[token(0), end(1)].concat()),
        head + "ff\r\nevent: token",
    ];
    for answer in cut {
        for read in both(|| serve_pieces(vec![answer.clone().into_bytes()]), LIMIT) {
            assert!(
                matches!(read, Err(StreamError::Broken(_))),
                "{answer}: {read:?}"
            );
        }
    }
}

#[test]
fn a_refusal_is_one_for_both() {
    let answer = "HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nfull";
    for read in both(|| serve_pieces(vec![answer.as_bytes().to_vec()]), LIMIT) {
        let Err(StreamError::Refused { status, said, .. }) = read else {
            panic!("{read:?}");
        };
        assert_eq!((status, said.as_str()), (429, ", full"));
    }
}

#[test]
fn no_answer_is_none_for_both() {
    for pieces in [
        vec![],
        vec![b"HTTP/1.1 200 OK\r\n".to_vec()],
        vec![b"x\r\n\r\n".to_vec()],
    ] {
        for read in both(|| serve_pieces(pieces.clone()), LIMIT) {
            assert!(matches!(read, Err(StreamError::NoAnswer(_))), "{read:?}");
        }
    }
    let nobody = crate::tasks::worker::process::port::pick_free().unwrap();
    for read in both(|| nobody, LIMIT) {
        assert!(matches!(read, Err(StreamError::NoAnswer(_))), "{read:?}");
    }
}

#[test]
fn a_deadline_holds_while_bytes_flow() {
    let floods: [(&str, &[u8]); 4] = [
        // Drop by drop, below any limit of size.
        (HEAD, b"1\r\n:\r\n"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
            b":",
        ),
        ("HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        ("", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    for (first, part) in floods {
        let endless =
            move || serve(move |stream| flood(stream, first, part, Duration::from_millis(5)));
        let began = Instant::now();
        for read in both(endless, SHORT) {
            let is_late = matches!(
                &read,
                Err(StreamError::NoAnswer(_) | StreamError::Broken(_))
            );
            assert!(is_late, "{first}: {read:?}");
        }
        assert!(began.elapsed() < LATENESS, "{first}");
    }
}

#[test]
fn endless_answers_end_at_a_size() {
    let part = vec![b'x'; 256 << 10];
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let endless = || {
        let part = part.clone();
        serve(move |stream| flood(stream, head, &part, Duration::ZERO))
    };
    for read in both(endless, LIMIT) {
        let Err(StreamError::Broken(mismatch)) = read else {
            panic!("{read:?}");
        };
        let said = format!("more than {} MiB", ANSWER_BYTES >> 20);
        assert!(mismatch.got.contains(&said), "{mismatch}");
    }
}

#[test]
fn endless_interim_answers_end_and_overflow_no_stack() {
    let part = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(4096);
    let endless = || {
        let part = part.clone();
        serve(move |stream| flood(stream, "", &part, Duration::ZERO))
    };
    let began = Instant::now();
    for read in both(endless, Duration::from_secs(5)) {
        assert!(matches!(read, Err(StreamError::NoAnswer(_))), "{read:?}");
    }
    assert!(began.elapsed() < LATENESS);
    let port = endless();
    let answer = super::raw::exchange(port, "GET /x", b"x", SHORT, &StopFlag::default());
    assert!(answer.unwrap_err().is::<NoAnswer>());
}

#[test]
fn what_is_said_to_be_sent_is_what_is_sent_and_t0_is_when() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"{\"a\": 1}") {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
        }
        let seen = Instant::now();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        (String::from_utf8(got).unwrap(), seen)
    });
    let worker = worker();
    let client = Client::new(port, worker.watch(), &StopFlag::default());
    let client = client.with_header(Some(String::from("Bearer x")));
    let request = Request {
        method: "POST",
        path: String::from("/x"),
        authorization: None,
        body: Some(("application/json", b"{\"a\": 1}".to_vec())),
    };
    let before = Instant::now();
    let answer = client.send(&request, LIMIT).unwrap();
    let (sent, seen) = server.join().unwrap();
    assert!(before < answer.sent && answer.sent < seen && seen < answer.received);
    let head = sent.split("\r\n\r\n").next().unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("POST /x HTTP/1.1"));
    let mut sent: Vec<String> = lines.map(str::to_owned).collect();
    let headers = client.headers(&request).into_iter();
    let mut told: Vec<String> = headers
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    sent.sort_unstable();
    told.sort_unstable();
    assert_eq!(sent, told);
}
