//! A connection that idles between two requests, as those in the pools of clients do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::net::raw::{RawConnection, Received};
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::{Mismatch, Unmet};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Promise;

/// The check for which a connection idles from the moment on when the worker is ready.
pub const KEPT: &str = "connections.kept";

/// What an idle connection is kept for, unless an answer says something else.
const PROMISED: Duration = Duration::from_secs(75);

/// How much earlier than it said a worker may close, whose clock began with its answer and not with
/// the moment when we had it.
const ROUNDING: Duration = Duration::from_millis(500);

/// How long a question for health may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How often the watcher sees whether it is still wanted.
const NAP: Duration = Duration::from_millis(250);

/// After everything that is asked of a worker.
pub const TO_THE_END: &[Check] = &[Check::contract(KEPT, kept)
    .promise("keeps an idle connection for 75 s, or for as long as its `Keep-Alive` header says")
    .holds(&["K9"])
    .explanation("Asks for health on a connection that then idles beside all other checks; fails if the worker closes it before the time, or doesn't answer on it at the end of the run. A run that is shorter than that sees less.")
    .by_hand(|by| by.health("-v"))
    .needs(&[Need::Ready, Need::Promised(Promise::OwnProcess)])
    .at(Phase::End)];

/// What has become of a connection that was watched, and when the worker has closed it.
#[derive(Debug)]
struct Watched {
    connection: RawConnection,
    closed: Option<Instant>,
}

/// How long a connection may idle.
#[derive(Debug, Clone, Copy)]
enum IdleTime {
    /// By the answer's header, or by the protocol.
    For(Duration),
    /// The answer ended the connection.
    Ended,
    /// Neither answer nor protocol say.
    Nothing,
}

/// A connection on which one answer has come, and since then nothing was asked.
#[derive(Debug)]
pub struct IdleConnection {
    promised: IdleTime,
    since: Instant,
    done: Arc<AtomicBool>,
    watcher: Mutex<Option<JoinHandle<Watched>>>,
}

impl IdleConnection {
    /// The one of this run, which is opened when it is first asked for.
    pub fn of<'s>(subject: &'s Subject) -> Result<&'s Self> {
        subject.observations.of(|| Self::open(subject))
    }

    fn open(subject: &Subject) -> Result<Self> {
        let mut connection = subject.worker.connect()?;
        let keep_alive = ask(subject, &mut connection)?;
        let has_rule = subject.dialect().promises(Promise::IdleConnections);
        let said = keep_alive.as_deref().and_then(timeout);
        let promised = match said.or(has_rule.then_some(PROMISED)) {
            _ if !connection.keeps_open() => IdleTime::Ended,
            Some(time) => IdleTime::For(time),
            None => IdleTime::Nothing,
        };
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let watcher = std::thread::spawn(move || {
            let mut closed = None;
            while !is_done.load(Ordering::Relaxed) {
                match connection.receive(1, NAP) {
                    Ok(Received::Nothing) => continue,
                    Ok(Received::End | Received::Reset) => closed = Some(Instant::now()),
                    // A run that is interrupted, and bytes that nobody asked for, which are seen
                    // when the next answer is read.
                    _ => {}
                }
                break;
            }
            Watched { connection, closed }
        });
        Ok(Self {
            promised,
            since: Instant::now(),
            done,
            watcher: Mutex::new(Some(watcher)),
        })
    }

    /// Ends the watch.
    fn take(&self) -> Option<Watched> {
        self.done.store(true, Ordering::Relaxed);
        lock(&self.watcher).take()?.join().ok()
    }
}

impl Drop for IdleConnection {
    fn drop(&mut self) {
        self.take();
    }
}

fn kept(subject: &Subject) -> Result<Evidence> {
    let idle = IdleConnection::of(subject)?;
    let watched = idle.take().context("the idle connection was not watched")?;
    let Watched {
        mut connection,
        closed,
    } = watched;
    let promised = match idle.promised {
        IdleTime::For(time) => time,
        IdleTime::Ended => {
            return Ok(String::from("each answer ends its connection, and says so"));
        }
        IdleTime::Nothing => {
            let name = Promise::IdleConnections.name();
            let reason = format!("the protocol has no {name}, and no answer says it");
            return Err(Unmet::because_of(reason).into());
        }
    };
    let lasted = closed.unwrap_or_else(Instant::now) - idle.since;
    judge(promised, lasted, closed.is_some())?;
    let lasted_s = lasted.as_secs_f64();
    if closed.is_some() {
        return Ok(format!("closed after {lasted_s:.0} s"));
    }
    ask(subject, &mut connection)?;
    Ok(format!("open after {lasted_s:.0} s"))
}

fn judge(promised: Duration, lasted: Duration, is_closed: bool) -> Result<(), Mismatch> {
    ensure_kept(
        !is_closed || lasted + ROUNDING >= promised,
        "an idle connection",
        format!("open for {} s", promised.as_secs()),
        format!("closed after {:.1} s", lasted.as_secs_f64()),
    )
}

/// Asks for health; gives what the answer says of the connection.
fn ask(subject: &Subject, connection: &mut RawConnection) -> Result<Option<String>> {
    let request = subject.dialect().health_request();
    let blame = |error| subject.worker.blame(error);
    connection.send_request(&request, LIMIT).map_err(blame)?;
    let place = format!("{} on an idle connection", request.name());
    let answer = connection.read_answer(&place, LIMIT).map_err(blame)?;
    Ok(answer.header("keep-alive").map(str::to_owned))
}

/// The seconds in `timeout=5, max=100`.
fn timeout(keep_alive: &str) -> Option<Duration> {
    let words = keep_alive.split(',').map(str::trim);
    let mut seconds = words.filter_map(|word| word.strip_prefix("timeout="));
    seconds.next()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_header_says_is_read() {
        let seconds = |text| timeout(text).map(|time| time.as_secs());
        assert_eq!(seconds("timeout=5"), Some(5));
        assert_eq!(seconds("max=100, timeout=90"), Some(90));
        assert_eq!(seconds("max=100"), None);
        assert_eq!(seconds("timeout=long"), None);
    }

    #[test]
    fn only_a_connection_that_was_closed_too_early_is_held_against_a_worker() {
        let seconds = Duration::from_secs;
        assert!(judge(seconds(75), seconds(3), false).is_ok(), "a short run");
        assert!(judge(seconds(75), seconds(76), true).is_ok());
        assert!(judge(seconds(5), Duration::from_millis(4990), true).is_ok());
        let error = judge(seconds(75), seconds(20), true).unwrap_err();
        assert_eq!(error.got, "closed after 20.0 s");
        assert_eq!(error.expected, "open for 75 s");
    }
}
