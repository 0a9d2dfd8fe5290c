//! A load that is measured: requests that warm up, and requests in a window that count. Each is
//! recorded by a thread that only reads; what came is taken apart when the load is over.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::calibrated::Probe;
use super::conversations::{Conversations, Sessions};
use super::generator::{Job, LoadGenerator, Next, Turn};
use super::sample::RequestSample;
use crate::tasks::worker::net::http::Request;
use crate::tasks::worker::net::recording::{Recording, record};
use crate::tasks::worker::net::stream::StreamSpelling;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::Load;

/// Recordings that are kept as they came. Beyond that they are taken apart at once, which costs a
/// stream some time between two requests, but no memory without end.
const RECORDED_BYTES: usize = 256 << 20;

/// The least that separates two moments.
const MOMENT: Duration = Duration::from_micros(1);

/// How long a load goes on.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Before anything counts.
    pub warm_up: Duration,
    /// From then on, at least.
    pub duration: Duration,
    /// Exactly so many requests that count, whatever time they take.
    pub requests: Option<usize>,
    /// Without `requests`: so many that count have to be over before the load ends,
    pub least: usize,
    /// but it doesn't go on for longer than this.
    pub at_most: Duration,
    /// The longest that one request may take.
    pub limit: Duration,
}

/// The requests that a load sends, over and over: those of the warm-up, and those that count.
#[derive(Clone)]
pub struct Requests {
    /// Before the window. Not empty.
    pub warm_up: Arc<[Request]>,
    /// In the window. Not empty.
    pub counted: Arc<[Request]>,
    /// In a trace, when each of those is due after the beginning.
    pub dues: Arc<[Duration]>,
    /// What takes the place of those that count where each stream holds conversations.
    pub sessions: Option<Sessions>,
}

/// Whom a load asks, and in whose words.
#[derive(Clone)]
pub struct Addressee {
    /// Where it listens.
    pub port: u16,
    /// How its streams are spelled.
    pub spelling: &'static dyn StreamSpelling,
    /// Ends everything early.
    pub stop: StopFlag,
}

/// What came of a load.
#[derive(Debug)]
pub struct LoadResult {
    /// Every request, in the order in which they were sent.
    pub samples: Vec<RequestSample>,
    /// From the end of the warm-up until the first stream had nothing more to ask.
    pub window: (Instant, Instant),
    /// By how much tokens of known timing were seen late inside the window.
    pub client_errors: Vec<Duration>,
}

struct Windowed {
    addressee: Addressee,
    warm_up: Spelled,
    counted: Spelled,
    budget: Budget,
    counts_from: Instant,
    /// Requests sent so far: before the window, and in it.
    warmed: AtomicUsize,
    taken: AtomicUsize,
    /// Requests of the window that are over.
    done: AtomicUsize,
    /// In the window.
    conversations: Option<Conversations>,
    /// What was recorded, and how much memory that takes.
    recorded: Mutex<(Vec<Recorded>, usize)>,
}

/// Requests byte for byte, and the name that they all have in messages.
struct Spelled {
    name: String,
    requests: Vec<Vec<u8>>,
}

/// Leave to send one request.
#[derive(Debug, Clone, Copy)]
struct WindowTicket {
    number: usize,
    counts: bool,
}

struct Recorded {
    counts: bool,
    over: Instant,
    answer: Answer,
}

/// Not taken apart yet, as far as memory allows.
enum Answer {
    Recorded(Turn, Recording),
    Sampled(RequestSample),
}

/// Puts a worker under a load.
///
/// `alive` is asked all the while and ends the load with its error.
pub fn measure(
    addressee: &Addressee,
    load: Load,
    requests: &Requests,
    budget: Budget,
    alive: impl Fn() -> Result<()>,
) -> Result<LoadResult> {
    let job = Arc::new(Windowed::new(addressee, requests, budget));
    let counts_from = job.counts_from;
    let probe = Probe::start(&addressee.stop)?;
    let generator = match load {
        Load::Trace { .. } => {
            let dues = Vec::from(&*requests.dues);
            LoadGenerator::start_when_due(dues.into_iter(), &job)?
        }
        _ => LoadGenerator::start(load, &job)?,
    };
    // Requests have limits of their own.
    generator.settle(Duration::MAX, &addressee.stop, alive)?;
    let recorded = std::mem::take(&mut lock(&job.recorded).0);
    let mut counted = Vec::new();
    let mut samples = Vec::with_capacity(recorded.len());
    for Recorded {
        counts,
        over,
        answer,
    } in recorded
    {
        let sample = job.sample(answer);
        if counts {
            counted.push((sample.stream, sample.sent, over));
        }
        samples.push(sample);
    }
    samples.sort_by_key(|sample| sample.sent);
    let end = match load {
        Load::Closed { .. } => first_idle(&counted),
        // The last of them is inside.
        Load::Open { .. } | Load::Trace { .. } => {
            let last = counted.iter().map(|(_, sent, _)| *sent).max();
            last.map(|last| last + MOMENT)
        }
    };
    let end = end.unwrap_or_else(Instant::now).max(counts_from);
    let window = (counts_from, end);
    Ok(LoadResult {
        samples,
        window,
        client_errors: probe.end(window, &addressee.stop)?,
    })
}

/// When the first stream had nothing more to ask. One that never got to ask says nothing about when
/// the load was whole.
fn first_idle(counted: &[(u32, Instant, Instant)]) -> Option<Instant> {
    let mut last = std::collections::BTreeMap::new();
    for (stream, _, over) in counted {
        let last = last.entry(*stream).or_insert(*over);
        *last = (*last).max(*over);
    }
    last.into_values().min()
}

impl Job for Windowed {
    type Ticket = WindowTicket;

    fn take(&self, at: Instant) -> Option<WindowTicket> {
        let counts = at >= self.counts_from;
        if !counts {
            let number = self.warmed.fetch_add(1, Ordering::Relaxed);
            return Some(WindowTicket { number, counts });
        }
        let wanted = self.budget.requests;
        if wanted.is_none() {
            let lasted = at.saturating_duration_since(self.counts_from);
            let done = self.done.load(Ordering::Relaxed);
            let is_enough = done >= self.budget.least || lasted >= self.budget.at_most;
            if lasted >= self.budget.duration && is_enough {
                return None;
            }
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let is_wanted = wanted.is_none_or(|requests| number < requests);
        is_wanted.then_some(WindowTicket { number, counts })
    }

    fn run(&self, turn: Turn, ticket: WindowTicket) -> Next {
        let requests = &self.of(ticket.counts).requests;
        let (port, stop) = (self.addressee.port, &self.addressee.stop);
        let conversations = self.conversations.as_ref().filter(|_| ticket.counts);
        let request = match conversations {
            Some(conversations) => {
                let request = conversations.next_request(turn.stream);
                Cow::Owned(request.to_closing_bytes(port))
            }
            None => Cow::Borrowed(&requests[ticket.number % requests.len()]),
        };
        let recording = record(port, &request, self.budget.limit, stop);
        let (over, has_failed) = (recording.over, recording.has_failed());
        let mut answer = Answer::Recorded(turn, recording);
        if let Some(conversations) = conversations {
            // The next turn has to know what was said.
            let sample = self.sample(answer);
            conversations.heard(turn.stream, &sample.text);
            answer = Answer::Sampled(sample);
        }
        self.keep(ticket, over, answer);
        if ticket.counts {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        match has_failed {
            true => Next::AfterFailure,
            false => Next::Again,
        }
    }
}

impl Windowed {
    fn new(addressee: &Addressee, requests: &Requests, budget: Budget) -> Self {
        Self {
            addressee: addressee.clone(),
            warm_up: Spelled::of(&requests.warm_up, addressee.port),
            counted: Spelled::of(&requests.counted, addressee.port),
            budget,
            counts_from: Instant::now() + budget.warm_up,
            warmed: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            conversations: requests.sessions.clone().map(Conversations::new),
            recorded: Mutex::default(),
        }
    }

    fn of(&self, counts: bool) -> &Spelled {
        match counts {
            true => &self.counted,
            false => &self.warm_up,
        }
    }

    fn keep(&self, ticket: WindowTicket, over: Instant, mut answer: Answer) {
        let bytes = match &answer {
            Answer::Recorded(_, recording) => recording.bytes(),
            Answer::Sampled(_) => 0,
        };
        let has_room = lock(&self.recorded).1 + bytes <= RECORDED_BYTES;
        if !has_room {
            answer = Answer::Sampled(self.sample(answer));
        }
        let mut recorded = lock(&self.recorded);
        if has_room {
            recorded.1 += bytes;
        }
        recorded.0.push(Recorded {
            counts: ticket.counts,
            over,
            answer,
        });
    }

    fn sample(&self, answer: Answer) -> RequestSample {
        match answer {
            Answer::Sampled(sample) => sample,
            Answer::Recorded(turn, recording) => {
                let name = &self.counted.name;
                RequestSample::of(&recording, turn, name, self.addressee.spelling)
            }
        }
    }
}

impl Spelled {
    fn of(requests: &[Request], port: u16) -> Self {
        Self {
            name: requests.first().map(Request::name).unwrap_or_default(),
            requests: requests
                .iter()
                .map(|request| request.to_closing_bytes(port))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::load::calibration_server::{CalibrationServer, Script};
    use crate::tasks::worker::record::bench::RequestOutcome;

    const LIMIT: Duration = Duration::from_secs(60);

    const SCRIPT: Script = Script {
        tokens: 3,
        gap: Duration::from_millis(2),
    };

    fn requests() -> Requests {
        let numbered = |numbers: std::ops::Range<usize>| numbers.map(CalibrationServer::request);
        Requests {
            warm_up: numbered(0..2).collect(),
            counted: numbered(2..4).collect(),
            dues: Arc::default(),
            sessions: None,
        }
    }

    fn budget(requests: Option<usize>) -> Budget {
        Budget {
            warm_up: Duration::from_millis(20),
            duration: Duration::from_millis(100),
            requests,
            least: 5,
            at_most: LIMIT,
            limit: LIMIT,
        }
    }

    fn addressee(port: u16) -> Addressee {
        Addressee {
            port,
            spelling: CalibrationServer::SPELLING,
            stop: StopFlag::default(),
        }
    }

    fn measured(port: u16, load: Load) -> LoadResult {
        let budget = budget(None);
        measure(&addressee(port), load, &requests(), budget, || Ok(())).unwrap()
    }

    fn in_window(result: &LoadResult) -> Vec<&RequestSample> {
        let counts = |sample: &&RequestSample| sample.sent >= result.window.0;
        result.samples.iter().filter(counts).collect()
    }

    #[test]
    fn a_closed_loop_sends_exactly_the_requests_that_are_asked_for() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        // What warms up is asked before the window, and may be sent within it.
        let budget = Budget {
            warm_up: Duration::ZERO,
            ..budget(Some(7))
        };
        let load = Load::Closed { streams: 3 };
        let result = measure(
            &addressee(worker.port),
            load,
            &requests(),
            budget,
            || Ok(()),
        );
        let result = result.unwrap();
        assert_eq!(result.samples.len(), 7);
        for sample in &result.samples {
            assert_eq!(sample.outcome, RequestOutcome::Valid);
            assert_eq!(sample.text, " word word word");
            assert!(sample.took >= 3 * SCRIPT.gap, "{sample:?}");
        }
    }

    #[test]
    fn a_closed_loop_lasts_as_long_as_is_asked_for_and_has_enough_requests() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let began = Instant::now();
        let result = measured(worker.port, Load::Closed { streams: 1 });
        let Budget {
            warm_up, duration, ..
        } = budget(None);
        // The window is shorter by what passes between the last answer and the look at the clock.
        assert!(began.elapsed() >= warm_up + duration);
        let (from, to) = result.window;
        assert!(from >= began + warm_up && from < to);
        assert!(in_window(&result).len() >= 5);
    }

    #[test]
    fn an_open_loop_sends_when_it_is_due_and_not_before() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let load = Load::Open {
            rate_per_s: 200.0,
            burstiness: 1.0,
            seed: 3,
        };
        let result = measured(worker.port, load);
        assert!(result.samples.len() >= 5);
        for sample in &result.samples {
            assert!(sample.sent >= sample.scheduled.unwrap(), "{sample:?}");
        }
    }

    #[test]
    fn a_trace_is_sent_when_it_says() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let dues = [0, 40, 40, 90].map(Duration::from_millis);
        let requests = Requests {
            counted: (0..4).map(CalibrationServer::request).collect(),
            dues: dues.into(),
            ..requests()
        };
        let budget = Budget {
            warm_up: Duration::ZERO,
            ..budget(Some(4))
        };
        let load = Load::Trace { requests: 4 };
        let addressee = addressee(worker.port);
        let result = measure(&addressee, load, &requests, budget, || Ok(())).unwrap();
        let due = |sample: &RequestSample| sample.scheduled.unwrap();
        let first = result.samples.iter().map(due).min().unwrap();
        let mut found: Vec<_> = result.samples.iter().map(|one| due(one) - first).collect();
        found.sort_unstable();
        assert_eq!(found, dues);
        let is_early = |sample: &RequestSample| sample.sent < due(sample);
        assert!(!result.samples.iter().any(is_early));
        assert_eq!(in_window(&result).len(), 4);
    }

    #[test]
    fn what_was_answered_is_in_the_next_request() {
        let worker = CalibrationServer::start(SCRIPT).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let requests = Requests {
            sessions: Some(Sessions {
                turns: 2,
                said: ["a", "b"].map(String::from).into(),
                request: Arc::new(move |prompt| {
                    lock(&seen).push(prompt.to_owned());
                    CalibrationServer::request(lock(&seen).len())
                }),
            }),
            ..requests()
        };
        let addressee = addressee(worker.port);
        let load = Load::Closed { streams: 1 };
        let result = measure(&addressee, load, &requests, budget(Some(4)), || Ok(())).unwrap();
        let answers: Vec<_> = in_window(&result)
            .iter()
            .map(|one| one.text.clone())
            .collect();
        assert!(!answers[0].is_empty());
        let second = |answer: &str| format!("a{answer}b");
        let expected = ["a", &second(&answers[0]), "a", &second(&answers[2])];
        assert_eq!(*lock(&asked), expected);
    }

    #[test]
    fn a_load_that_nobody_answers_ends() {
        let nobody = crate::tasks::worker::process::port::pick_free().unwrap();
        let result = measured(nobody, Load::Closed { streams: 8 });
        let failed =
            |sample: &RequestSample| matches!(sample.outcome, RequestOutcome::Failed { .. });
        assert!(!result.samples.is_empty());
        assert!(result.samples.iter().all(failed));
    }

    #[test]
    fn a_worker_that_dies_or_an_interruption_ends_a_load_at_once() {
        let worker = CalibrationServer::start(Script {
            tokens: 1000,
            gap: Duration::from_secs(1),
        })
        .unwrap();
        let run = |addressee: &Addressee, alive: fn() -> Result<()>| {
            let load = Load::Closed { streams: 2 };
            measure(addressee, load, &requests(), budget(None), alive)
        };
        let error = run(&addressee(worker.port), || anyhow::bail!("it is dead")).unwrap_err();
        assert_eq!(error.to_string(), "it is dead");
        let interrupted = addressee(worker.port);
        interrupted.stop.raise(2);
        assert!(run(&interrupted, || Ok(())).is_err());
    }
}
