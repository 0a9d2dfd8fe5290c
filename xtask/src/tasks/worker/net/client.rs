//! HTTP with deadlines, for requests that a well-behaved client would send.

use std::io::Read;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ureq::http;

use crate::tasks::worker::process::group::Watch;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::target::recorder::{Line, Recorder};

/// The largest answer that is read; whatever is beyond it is a broken promise anyway.
const BODY_LIMIT_BYTES: u64 = 64 << 20;

/// Who we are, to the worker's logs.
const USER_AGENT: &str = "cargo-xtask-worker-test";

/// How long an answer that is under way may still take when the worker has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How often a request that is under way looks at the stop flag and at the worker.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A request, as the dialect spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with its leading slash.
    pub path: String,
    /// The content type and the body, where there is one.
    pub body: Option<(&'static str, Vec<u8>)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// "GET /v1/health", for messages.
    pub request: String,
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, in the order of their arrival.
    pub headers: Vec<(String, String)>,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Just before the request was sent.
    pub sent: Instant,
    /// When the body was complete.
    pub received: Instant,
}

/// No answer, or not a whole one.
#[derive(Debug)]
pub struct NoAnswer {
    /// "GET /v1/health", for messages.
    pub request: String,
    /// "connection refused", "nothing within 2 s".
    pub cause: String,
}

/// What a streamed answer brings, as it arrives.
#[derive(Debug)]
pub enum Arrival {
    /// Status and headers.
    Head(Response),
    /// Bytes of the body, and when they were read.
    Bytes(Instant, Vec<u8>),
    /// The body's end; nothing follows.
    End,
    /// The connection broke or the deadline passed; nothing follows.
    Broken(NoAnswer),
}

/// Talks to one worker.
#[derive(Debug, Clone)]
pub struct Client {
    base_url: String,
    worker: Watch,
    authorization: Option<String>,
    stop: StopFlag,
    witness: Option<Line>,
}

impl Response {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Request {
    /// "GET /v1/health", for messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Client {
    /// Where a request goes.
    pub fn url(&self, request: &Request) -> String {
        format!("{}{}", self.base_url, request.path)
    }

    /// The headers that are sent with a request, names in lower case.
    pub fn headers(&self, request: &Request) -> Vec<(String, String)> {
        let host = self.base_url.trim_start_matches("http://").to_owned();
        let mut headers = vec![
            (String::from("host"), host),
            (String::from("user-agent"), USER_AGENT.to_owned()),
            (String::from("accept"), String::from("*/*")),
        ];
        if let Some((content_type, body)) = &request.body {
            headers.push((String::from("content-type"), (*content_type).to_owned()));
            headers.push((String::from("content-length"), body.len().to_string()));
        }
        headers
    }

    /// A client of whatever listens on this loopback port.
    ///
    /// Its requests end when the worker does, whoever else holds the connection open.
    pub fn new(port: u16, worker: Watch, stop: &StopFlag) -> Self {
        Self {
            base_url: format!("http://127.0.0.1:{port}"),
            worker,
            authorization: None,
            stop: stop.clone(),
            witness: None,
        }
    }

    /// The same client; what it sends and gets from now on is recorded.
    ///
    /// Streams are recorded by whoever reads them.
    pub fn witnessed(&self, line: Line) -> Self {
        Self {
            witness: Some(line),
            ..self.clone()
        }
    }

    /// The same client, which sends this as its `Authorization`.
    pub fn with_header(mut self, authorization: Option<String>) -> Self {
        self.authorization = authorization;
        self
    }

    /// Sends a request and reads the whole answer, within `limit`.
    ///
    /// Fails with [`NoAnswer`], or with `Interrupted` as soon as the run is.
    pub fn send(&self, request: &Request, limit: Duration) -> anyhow::Result<Response> {
        let Some(line) = &self.witness else {
            return self.exchange(request, limit);
        };
        let recorder = Recorder::of(line, self, request, limit);
        recorder.note(self.exchange(request, limit))
    }

    fn exchange(&self, request: &Request, limit: Duration) -> anyhow::Result<Response> {
        let mut answer = None;
        let mut broken = None;
        self.stream(
            request,
            limit,
            || true,
            |arrival| match arrival {
                Arrival::Head(head) => answer = Some(head),
                Arrival::Bytes(received, bytes) => {
                    let answer = answer.as_mut().expect("the head comes before the body");
                    answer.body.extend_from_slice(&bytes);
                    answer.received = received;
                }
                Arrival::End => {}
                Arrival::Broken(error) => broken = Some(error),
            },
        )?;
        match (broken, answer) {
            (Some(error), _) => Err(error.into()),
            (None, Some(answer)) => Ok(answer),
            (None, None) => unreachable!("a stream begins with its head or breaks"),
        }
    }

    /// Sends a request and hands over what arrives, as it arrives, within `limit`.
    ///
    /// While nothing arrives, `is_patient` says whether to go on waiting.
    /// Time stamps are taken by a thread that does nothing but read. Fails only with
    /// `Interrupted`; then the connection is left to the end of the process.
    pub fn stream(
        &self,
        request: &Request,
        limit: Duration,
        is_patient: impl Fn() -> bool,
        mut sink: impl FnMut(Arrival),
    ) -> anyhow::Result<()> {
        let (sender, receiver) = channel();
        let name = request.name();
        let (request, url) = (
            request.clone(),
            format!("{}{}", self.base_url, request.path),
        );
        let authorization = self.authorization.clone();
        std::thread::spawn(move || {
            let send = |arrival| sender.send(arrival).is_ok();
            if let Err(error) = converse(&request, &url, authorization, limit, send) {
                let request = request.name();
                let cause = describe(error, limit);
                let _ = sender.send(Arrival::Broken(NoAnswer { request, cause }));
            }
        });
        let mut ended: Option<Instant> = None;
        loop {
            self.stop.check()?;
            match receiver.recv_timeout(POLL_INTERVAL) {
                Ok(arrival) => sink(arrival),
                Err(RecvTimeoutError::Timeout) if self.worker.has_ended() => {
                    let since = ended.get_or_insert_with(Instant::now);
                    if since.elapsed() >= LAST_WORDS {
                        let cause = String::from("the worker's process has ended");
                        let request = name;
                        sink(Arrival::Broken(NoAnswer { request, cause }));
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) if !is_patient() => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// One exchange on a connection of its own. Ends early when `send` says that nobody listens.
fn converse(
    request: &Request,
    url: &str,
    authorization: Option<String>,
    limit: Duration,
    send: impl Fn(Arrival) -> bool,
) -> Result<(), ureq::Error> {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .user_agent(USER_AGENT)
            .timeout_global(Some(limit))
            .build(),
    );
    let mut builder = http::Request::builder().method(request.method).uri(url);
    if let Some((content_type, _)) = &request.body {
        builder = builder.header("content-type", *content_type);
    }
    if let Some(authorization) = authorization {
        builder = builder.header("authorization", authorization);
    }
    let sent = Instant::now();
    let response = match &request.body {
        Some((_, body)) => agent.run(builder.body(body.as_slice())?)?,
        None => agent.run(builder.body(())?)?,
    };
    let (head, body) = response.into_parts();
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let head = Response {
        request: request.name(),
        status: head.status.as_u16(),
        headers: headers.collect(),
        body: Vec::new(),
        sent,
        received: Instant::now(),
    };
    if !send(Arrival::Head(head)) {
        return Ok(());
    }
    let mut reader = body.into_with_config().limit(BODY_LIMIT_BYTES).reader();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = reader.read(&mut buffer).map_err(ureq::Error::from)?;
        let now = Instant::now();
        if count == 0 {
            send(Arrival::End);
            return Ok(());
        }
        if !send(Arrival::Bytes(now, buffer[..count].to_vec())) {
            return Ok(());
        }
    }
}

fn describe(error: ureq::Error, limit: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no whole answer within {} s", limit.as_secs_f64()),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::ConnectionFailed => String::from("connection refused"),
        other => other.to_string(),
    }
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.request, self.cause)
    }
}

impl std::error::Error for NoAnswer {}
