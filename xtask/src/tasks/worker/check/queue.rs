//! More requests than the worker takes.

use std::time::Duration;

use anyhow::Result;

use super::apart::{answers_as_ever, ready_auxiliary};
use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::{InferenceRequest, Promise, Reason};
use crate::tasks::worker::target::open_stream::read_whole;
use crate::tasks::worker::target::open_stream::{OpenStream, Progress};
use crate::tasks::worker::target::reference::References;

/// The smallest queue that a worker can be asked for.
const ONE_WAITS: &[(&str, &str)] = &[("--max-queue", "1")];

/// Nobody serves so many at once that this many requests leave nobody waiting.
const MOST_REQUESTS: usize = 96;

/// How many requests come at once.
const BATCH: usize = 8;

/// How soon a refusal is there: nothing has to be generated for it.
const REFUSAL_LIMIT: Duration = Duration::from_millis(500);

/// What a full queue does.
pub const CHECKS: &[Check] = &[
    Check::resilience("queue.refuses", refuses)
        .promise("answers 429 queue_full with Retry-After when its queue is full")
        .holds(&["E15", "C15"])
        .explanation("Sends more and more requests to a worker with --max-queue 1; fails if none is refused, or one is refused in another way.")
        .by_hand(|by| by.infer("-i", &InferenceRequest::new("Once upon a time", 400)))
        .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)]),
    Check::resilience("queue.recovers", recovers)
        .promise("finishes what it accepted when its queue was full, and then accepts requests again")
        .holds(&["E16", "H12"])
        .explanation("After a refusal, reads every accepted stream to its end; fails if one is incomplete, or a later request is refused.")
        .by_hand(|by| by.infer("-i", &InferenceRequest::new("Once upon a time", 20)))
        .needs(&[Need::Ready]),
];

fn refuses(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "queue-refuses", ONE_WAITS)?;
    let Flood {
        mut accepted,
        refused,
    } = flood(&auxiliary, known)?;
    let mut unfinished = 0;
    for stream in &mut accepted {
        unfinished += usize::from(stream.progress()? != Progress::Ended);
    }
    let (accepted, count) = (accepted.len(), refused.len());
    if refused.is_empty() && unfinished < MOST_REQUESTS / 2 {
        // Who answers faster than others ask has no queue.
        return Ok(format!(
            "{accepted} requests at once, of which {unfinished} were unfinished: too fast for a queue"
        ));
    }
    if refused.is_empty() {
        let expected = "429 queue_full with --max-queue 1";
        let got = format!("{accepted} requests accepted at once");
        return Err(Mismatch::new("a full queue", expected, got).into());
    }
    for stream in refused {
        let answer = stream.finish(known.short.limit(0));
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        auxiliary
            .worker
            .dialect()
            .read_refusal(&answer, Reason::QueueFull)?;
    }
    Ok(format!("{accepted} taken, {count} refused"))
}

fn recovers(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let (auxiliary, known) = ready_auxiliary(auxiliaries, "queue-recovers", ONE_WAITS)?;
    let Flood { accepted, refused } = flood(&auxiliary, known)?;
    let (mut finished, mut refused) = (0, refused.len());
    let tokens = flooding(known).max_tokens.unwrap_or_default();
    let limit = known.short.limit_of(tokens, accepted.len() as u32);
    let limit = limit.min(SERVED_LIMIT);
    for stream in accepted {
        let answer = stream.finish(limit);
        let answer = answer.map_err(|error| auxiliary.worker.blame(error))?;
        // Its refusal may have been under way when we looked; how it looks is another check's matter.
        if answer.status >= 400 && answer.status != 500 {
            refused += 1;
            continue;
        }
        let answer = read_whole(auxiliary.worker.dialect(), &answer)?;
        known
            .long
            .expect_beginning("a stream accepted when the queue was full", &answer.text())?;
        finished += 1;
    }
    let place = "a full queue";
    let expected = "at least one request that is served";
    ensure_kept(finished > 0, place, expected, "none")?;
    answers_as_ever(&auxiliary, known, "after the queue was full")?;
    Ok(format!("{finished} finished, {refused} were refused"))
}

struct Flood {
    accepted: Vec<OpenStream>,
    refused: Vec<OpenStream>,
}

/// The longest that a request which takes a second may take behind those that were taken before it.
const SERVED_LIMIT: Duration = Duration::from_secs(60);

/// What is asked again and again: it takes about a second.
fn flooding(known: &References) -> InferenceRequest {
    known.long.lasting(Duration::from_secs(1))
}

/// Requests, more and more at once, until some are refused.
fn flood(auxiliary: &AuxiliaryWorker, known: &References) -> Result<Flood> {
    let request = flooding(known);
    let mut flood = Flood {
        accepted: Vec::new(),
        refused: Vec::new(),
    };
    while flood.refused.is_empty() && flood.accepted.len() < MOST_REQUESTS {
        for _ in 0..BATCH {
            flood.accepted.push(auxiliary.worker.open_stream(&request)?);
        }
        auxiliary.wait_for("a refusal", REFUSAL_LIMIT, || flood.look())?;
    }
    Ok(flood)
}

impl Flood {
    /// Moves what has been refused by now to where it belongs.
    fn look(&mut self) -> Result<Option<()>> {
        for mut stream in std::mem::take(&mut self.accepted) {
            match stream.progress()? {
                Progress::Refused(_) => self.refused.push(stream),
                _ => self.accepted.push(stream),
            }
        }
        Ok((!self.refused.is_empty()).then_some(()))
    }
}
