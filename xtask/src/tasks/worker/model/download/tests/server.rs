//! A small HTTP server that does what it is told, right or wrong, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    headers: Vec<(String, String)>,
}

/// What goes back over the connection.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Status line and headers, without the empty line; nothing at all where it is empty.
    pub head: String,
    pub body: Vec<u8>,
    /// Hangs up with a reset, not orderly.
    pub reset: bool,
    /// Keeps the connection open after the body until the client leaves.
    pub hang: bool,
}

/// Listens until the test ends.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Asked {
    /// The header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Where the range that was asked for begins.
    pub fn range_start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

impl Reply {
    /// "200 OK" with headers of its own; the length is for the caller to tell or not.
    pub fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        Reply {
            head,
            body: body.to_vec(),
            ..Reply::default()
        }
    }

    /// The whole of `body`, honestly.
    pub fn whole(body: &[u8], etag: &str) -> Reply {
        let length = body.len().to_string();
        Reply::new(
            "200 OK",
            &[("Content-Length", &length), ("ETag", etag)],
            body,
        )
    }

    /// What follows from `start` on, honestly.
    pub fn rest(body: &[u8], start: usize, etag: &str) -> Reply {
        let length = (body.len() - start).to_string();
        let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
        let headers = [
            ("Content-Length", length.as_str()),
            ("Content-Range", &range),
            ("ETag", etag),
        ];
        Reply::new("206 Partial Content", &headers, &body[start..])
    }

    /// Promises as much, and hangs up after `bytes` of the body.
    pub fn cut(mut self, bytes: usize) -> Reply {
        self.body.truncate(bytes);
        self
    }

    /// Hangs up with a reset.
    pub fn reset(mut self) -> Reply {
        self.reset = true;
        self
    }

    /// Never hangs up.
    pub fn hang(mut self) -> Reply {
        self.hang = true;
        self
    }
}

impl Server {
    /// Answers the n-th request (from 0) with what `answer` gives for it.
    pub fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &log, answer.as_ref()));
            }
        });
        Server { url, asked }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// One exchange; a client that goes away ends it.
fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(usize, &Asked) -> Reply) {
    let Some(asked) = peek_request(&stream) else {
        return;
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let reply = answer(number, &asked);
    let mut stream = stream;
    if !reply.reset {
        // A request that was not read makes the system answer the close with a reset.
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
            line.clear();
        }
    }
    let head = if reply.head.is_empty() {
        String::new()
    } else {
        format!("{}\r\n", reply.head)
    };
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&reply.body));
    if sent.is_ok() && reply.hang {
        let _ = stream.peek(&mut [0]);
    }
}

/// The request, which stays unread.
fn peek_request(stream: &TcpStream) -> Option<Asked> {
    let mut buffer = vec![0; 16 << 10];
    let text = loop {
        let count = stream.peek(&mut buffer).ok().filter(|count| *count > 0)?;
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if text.contains("\r\n\r\n") {
            break text;
        }
        std::thread::yield_now();
    };
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Asked {
        path,
        headers: headers.collect(),
    })
}
