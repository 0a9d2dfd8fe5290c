//! The thread that reads answers for measures: it waits until any of its connections has something,
//! reads it, asks the clock right after, and does no work beside it.
//!
//! A thread for each connection would be woken up for each token of each stream: at tens of thousands
//! of tokens a second the machine does little else, and time stamps say when a thread got its turn.

use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::framing::AnswerParser;
use super::http::ANSWER_BYTES;
use super::raw::too_much;
use super::socket::Received;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::StopFlag;

/// How often it looks at the deadlines and stop flags of connections that bring nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Whoever waits for it gives up so long after the deadline that it is to keep.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that always has more isn't read more often than this before others get their turn.
const READS_AT_ONCE: usize = 16;

/// How many connections are taken note of at once.
const EVENTS: usize = 256;

/// Room for an answer of usual length; it grows where there is less left than one read wants.
const BUFFER_BYTES: usize = 32 << 10;
const READ_BYTES: usize = 8 << 10;

/// Stands for no connection.
const WAKE: Token = Token(usize::MAX);

/// What came of one answer.
#[derive(Debug, Default)]
pub struct Incoming {
    /// After each read: when, and how many bytes there were in all by then.
    pub reads: Vec<(Instant, usize)>,
    /// Those bytes.
    pub bytes: Vec<u8>,
    /// Its status, as soon as that is there.
    pub status: Option<u16>,
    /// Why it ended before the answer did.
    pub broken: Option<String>,
}

/// How long an answer is waited for.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Until then,
    pub deadline: Instant,
    /// which is so long after its beginning,
    pub limit: Duration,
    /// and no longer than this allows.
    pub stop: StopFlag,
}

/// The thread, as those see it that have something to read.
struct ReaderThread {
    registry: Registry,
    waker: Waker,
    connections: Mutex<Connections>,
}

/// By their tokens. A place is empty, and listed as free, once its connection is over.
#[derive(Default)]
struct Connections {
    places: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
}

struct Connection {
    stream: mio::net::TcpStream,
    patience: Patience,
    parser: AnswerParser,
    incoming: Incoming,
    length: usize,
    done: mpsc::Sender<Incoming>,
}

/// Reads an answer to its end. The request has been written.
pub fn read_answer(stream: TcpStream, patience: &Patience) -> io::Result<Incoming> {
    let (done, whole) = mpsc::channel();
    reader()?.take(Connection::new(stream, patience, done)?)?;
    let left = patience.deadline.saturating_duration_since(Instant::now());
    let waited = whole.recv_timeout(left + PATIENCE);
    waited.map_err(|_| io::Error::other("the thread that reads is gone"))
}

/// It lives as long as the process.
fn reader() -> io::Result<&'static ReaderThread> {
    static STARTED: OnceLock<Result<Arc<ReaderThread>, String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| ReaderThread::start().map_err(|error| error.to_string()));
    let started = started.as_deref();
    started.map_err(|error| io::Error::other(error.clone()))
}

impl ReaderThread {
    fn start() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let reader = Arc::new(Self {
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), WAKE)?,
            connections: Mutex::default(),
        });
        let thread = std::thread::Builder::new().name(String::from("reader"));
        let body = Arc::clone(&reader);
        thread.spawn(move || body.read(poll))?;
        Ok(reader)
    }

    /// One more connection.
    fn take(&self, mut connection: Connection) -> io::Result<()> {
        // Whoever hears of the connection before it has its place waits for this lock.
        let mut connections = lock(&self.connections);
        let place = match connections.free.pop() {
            Some(place) => place,
            None => {
                connections.places.push(None);
                connections.places.len() - 1
            }
        };
        let stream = &mut connection.stream;
        let registered = self
            .registry
            .register(stream, Token(place), Interest::READABLE);
        if let Err(error) = registered {
            connections.free.push(place);
            return Err(error);
        }
        connections.places[place] = Some(Box::new(connection));
        drop(connections);
        // Without connections it waits for ever.
        self.waker.wake()
    }

    fn read(&self, mut poll: Poll) {
        let mut events = Events::with_capacity(EVENTS);
        // Those that had more than they may bring at once.
        let mut unread: Vec<Token> = Vec::new();
        let mut looked = Instant::now();
        loop {
            let patience = match unread.is_empty() {
                false => Some(Duration::ZERO),
                true if lock(&self.connections).is_empty() => None,
                true => Some(LOOK_INTERVAL),
            };
            match poll.poll(&mut events, patience) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return,
                _ => {}
            }
            for token in std::mem::take(&mut unread) {
                self.look(token, &mut unread);
            }
            for event in &events {
                self.look(event.token(), &mut unread);
            }
            if looked.elapsed() >= LOOK_INTERVAL {
                looked = Instant::now();
                self.give_up(looked);
            }
        }
    }

    /// Reads what a connection has.
    fn look(&self, token: Token, unread: &mut Vec<Token>) {
        let mut connections = lock(&self.connections);
        let Some(Some(connection)) = connections.places.get_mut(token.0) else {
            return;
        };
        match connection.read() {
            ReadProgress::Waits => {}
            ReadProgress::HasMore => unread.push(token),
            ReadProgress::Over => self.finish(connections.remove(token.0)),
        }
    }

    /// Ends those whose time is over.
    fn give_up(&self, now: Instant) {
        let mut connections = lock(&self.connections);
        for place in 0..connections.places.len() {
            let connection = connections.places[place].as_mut();
            if connection.is_some_and(|connection| connection.has_given_up(now)) {
                self.finish(connections.remove(place));
            }
        }
    }

    fn finish(&self, connection: Option<Box<Connection>>) {
        let Some(mut connection) = connection else {
            return;
        };
        let _ = self.registry.deregister(&mut connection.stream);
        let mut incoming = connection.incoming;
        incoming.bytes.truncate(connection.length);
        incoming.status = connection.parser.head().map(|head| head.status);
        // Whoever waited may have given up.
        let _ = connection.done.send(incoming);
    }
}

impl Connections {
    fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    fn remove(&mut self, place: usize) -> Option<Box<Connection>> {
        let connection = self.places[place].take();
        self.free.push(place);
        connection
    }
}

/// What a look at a connection brought.
enum ReadProgress {
    /// All that has arrived.
    Waits,
    /// As much as it may bring at once.
    HasMore,
    /// The end, of whatever kind.
    Over,
}

impl Connection {
    fn new(
        stream: TcpStream,
        patience: &Patience,
        done: mpsc::Sender<Incoming>,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: mio::net::TcpStream::from_std(stream),
            patience: patience.clone(),
            parser: AnswerParser::default(),
            incoming: Incoming {
                reads: Vec::with_capacity(512),
                bytes: vec![0; BUFFER_BYTES],
                ..Incoming::default()
            },
            length: 0,
            done,
        })
    }

    /// Reads what has arrived.
    fn read(&mut self) -> ReadProgress {
        for _ in 0..READS_AT_ONCE {
            let bytes = &mut self.incoming.bytes;
            if bytes.len() - self.length < READ_BYTES {
                bytes.resize(bytes.len() * 2, 0);
            }
            let read = self.stream.read(&mut bytes[self.length..]);
            let now = Instant::now();
            let received = match read {
                Ok(0) => Received::End,
                Ok(count) => Received::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return ReadProgress::Waits,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => Received::Reset,
            };
            if let Some(broken) = self.take(received, now) {
                self.incoming.broken = broken;
                return ReadProgress::Over;
            }
        }
        ReadProgress::HasMore
    }

    /// Takes what came. `Some` at the end, with what is wrong with it.
    fn take(&mut self, received: Received, now: Instant) -> Option<Option<String>> {
        match received {
            Received::Bytes(count) => {
                let to = self.length + count;
                // Where the body's bytes lie is found again afterwards: here they are only counted.
                self.parser
                    .push(&self.incoming.bytes[self.length..to], |_| {});
                self.length = to;
                self.incoming.reads.push((now, to));
            }
            Received::End => self.parser.end(),
            Received::Reset | Received::Nothing | Received::TooMuch => {}
        }
        if self.parser.is_whole() {
            return Some(None);
        }
        let broken = match received {
            Received::Bytes(_) if self.parser.is_broken() => String::from("no HTTP answer"),
            Received::Bytes(_) if self.length >= ANSWER_BYTES => too_much(),
            Received::Bytes(_) if now < self.patience.deadline => return None,
            Received::Bytes(_) | Received::Nothing => self.patience.too_late(),
            Received::End => String::from("hung up before the end of the answer"),
            Received::Reset => String::from("reset the connection"),
            Received::TooMuch => too_much(),
        };
        Some(Some(broken))
    }

    /// Whether it is time to give up; then it says why.
    fn has_given_up(&mut self, now: Instant) -> bool {
        let stopped = self.patience.stop.check().err();
        let is_late = now >= self.patience.deadline;
        let late = is_late.then(|| self.patience.too_late());
        self.incoming.broken = stopped.map(|stopped| stopped.to_string()).or(late);
        self.incoming.broken.is_some()
    }
}

impl Patience {
    fn too_late(&self) -> String {
        format!("no end within {} s", self.limit.as_secs_f64())
    }
}
