//! HTTP with deadlines, for requests that a well-behaved client would send.

use std::io::Read;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ureq::http;
use ureq::unversioned::resolver::DefaultResolver;

pub use super::http::{NoAnswer, Request, Response};
use super::transport::SocketConnector;
use crate::tasks::worker::process::group::Watch;
use crate::tasks::worker::process::stop::StopFlag;

/// How long an answer that is under way may still take when the worker has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How often a request that is under way looks at the stop flag and at the worker.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

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

/// Writes down what a client sends and gets.
pub trait Witness: std::fmt::Debug + Send + Sync {
    /// A request is about to be sent. What this gives is called with what came of it.
    fn asked(&self, client: &Client, request: &Request, limit: Duration) -> Note;
}

/// Writes down what came of a request.
pub type Note = Box<dyn FnOnce(&anyhow::Result<Response>)>;

/// Talks to one worker.
#[derive(Debug, Clone)]
pub struct Client {
    port: u16,
    worker: Watch,
    authorization: Option<String>,
    stop: StopFlag,
    witness: Option<Arc<dyn Witness>>,
}

impl Client {
    /// A client of whatever listens on this loopback port.
    ///
    /// Its requests end when the worker does, whoever else holds the connection open.
    pub fn new(port: u16, worker: Watch, stop: &StopFlag) -> Self {
        Self {
            port,
            worker,
            authorization: None,
            stop: stop.clone(),
            witness: None,
        }
    }

    /// The same client; what it sends and gets from now on is recorded.
    ///
    /// Streams are recorded by whoever reads them.
    pub fn witnessed(&self, witness: impl Witness + 'static) -> Self {
        Self {
            witness: Some(Arc::new(witness)),
            ..self.clone()
        }
    }

    /// The same client, which sends this as its `Authorization`.
    pub fn with_header(mut self, authorization: Option<String>) -> Self {
        self.authorization = authorization;
        self
    }

    /// Where a request goes.
    pub fn url(&self, request: &Request) -> String {
        format!("http://127.0.0.1:{}{}", self.port, request.path)
    }

    /// The headers that are sent with a request, names in lower case: these, and no others.
    pub fn headers(&self, request: &Request) -> Vec<(String, String)> {
        let mut headers = request.headers(self.port);
        if let Some(authorization) = &self.authorization {
            headers.push((String::from("authorization"), authorization.clone()));
        }
        headers
    }

    /// Sends a request and reads the whole answer, within `limit`.
    ///
    /// Fails with [`NoAnswer`], or with `Interrupted` as soon as the run is.
    pub fn send(&self, request: &Request, limit: Duration) -> anyhow::Result<Response> {
        self.send_while(request, limit, || true)
    }

    /// The same, as long as `is_patient` while nothing arrives.
    pub fn send_while(
        &self,
        request: &Request,
        limit: Duration,
        is_patient: impl Fn() -> bool,
    ) -> anyhow::Result<Response> {
        let Some(witness) = &self.witness else {
            return self.exchange(request, limit, is_patient);
        };
        let note = witness.asked(self, request, limit);
        let response = self.exchange(request, limit, is_patient);
        note(&response);
        response
    }

    fn exchange(
        &self,
        request: &Request,
        limit: Duration,
        is_patient: impl Fn() -> bool,
    ) -> anyhow::Result<Response> {
        let began = Instant::now();
        let mut answer = None;
        let mut broken = None;
        let mut is_whole = false;
        self.stream(request, limit, is_patient, |arrival| match arrival {
            Arrival::Head(head) => answer = Some(head),
            Arrival::Bytes(received, bytes) => {
                let answer = answer.as_mut().expect("the head comes before the body");
                answer.body.extend_from_slice(&bytes);
                answer.received = received;
            }
            Arrival::End => is_whole = true,
            Arrival::Broken(error) => broken = Some(error),
        })?;
        match (broken, answer) {
            (Some(error), _) => Err(error.into()),
            (None, Some(answer)) if is_whole => Ok(answer),
            (None, _) => {
                let waited_s = began.elapsed().as_secs();
                let cause = format!("no whole answer within {waited_s} s, and nobody works on it");
                let request = request.name();
                Err(NoAnswer { request, cause }.into())
            }
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
        let (client, request) = (self.clone(), request.clone());
        std::thread::spawn(move || {
            let send = |arrival| sender.send(arrival).is_ok();
            if let Err(error) = client.converse(&request, limit, send) {
                let request = request.name();
                let cause = describe(error, limit);
                let _ = sender.send(Arrival::Broken(NoAnswer { request, cause }));
            }
        });
        let mut ended: Option<Instant> = None;
        loop {
            self.stop.check()?;
            match receiver.recv_timeout(POLL_INTERVAL) {
                Ok(arrival) => {
                    // It says so where a broken connection is ours.
                    self.stop.check()?;
                    sink(arrival);
                }
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

    /// One exchange on a connection of its own. Ends early when `send` says that nobody listens.
    fn converse(
        &self,
        request: &Request,
        limit: Duration,
        send: impl Fn(Arrival) -> bool,
    ) -> Result<(), ureq::Error> {
        let sent = Arc::new(OnceLock::new());
        let agent = self.agent(limit, &sent);
        let url = self.url(request);
        let mut builder = http::Request::builder().method(request.method).uri(url);
        for (name, value) in self.headers(request) {
            builder = builder.header(name, value);
        }
        let response = match &request.body {
            Some((_, body)) => agent.run(builder.body(body.as_slice())?)?,
            None => agent.run(builder.body(())?)?,
        };
        let received = Instant::now();
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
            sent: sent.get().copied().unwrap_or(received),
            received,
        };
        if !send(Arrival::Head(head)) {
            return Ok(());
        }
        let mut reader = body.into_reader();
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

    /// ureq without anything that it would do by itself: no proxy, no redirect, no second request on
    /// a connection. The deadline is the connection's.
    fn agent(&self, limit: Duration, sent: &Arc<OnceLock<Instant>>) -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .build();
        let connector = SocketConnector {
            port: self.port,
            deadline: Instant::now() + limit,
            stop: self.stop.clone(),
            sent: Arc::clone(sent),
        };
        ureq::Agent::with_parts(config, connector, DefaultResolver::default())
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
