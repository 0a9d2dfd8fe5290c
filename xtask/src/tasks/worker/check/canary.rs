//! "Poison, then canary": after whatever a worker was given, the same process answers the same short
//! greedy request with the same text, in bounded time.

use std::time::Duration;

use anyhow::Result;

use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;

/// A canary that takes longer sings after every few requests only, so that slow models don't make
/// the suite endless.
const SLOW: Duration = Duration::from_millis(150);

/// After how many requests a slow one sings.
const EVERY: usize = 8;

/// A slow answer counts when so many in a row are slow: a busy machine isn't busy all the time.
const ATTEMPTS: usize = 8;

/// Sings after each request that a worker was given.
#[derive(Debug)]
pub struct Canary<'s> {
    subject: &'s Subject<'s>,
    every: usize,
    /// What the worker was given since the last song.
    since: Vec<String>,
}

/// Fails with a [`Mismatch`] if the text is another one; gives the time that it took.
pub fn sing_once(subject: &Subject, place: &str) -> Result<Duration> {
    let canary = &subject.golden()?.canary;
    // Beyond the limit we still want to see whether an answer comes at all.
    let hard_limit = canary.limit() * 2 + Duration::from_secs(10);
    let (answer, took) = subject.infer_timed(&canary.request, hard_limit)?;
    canary.expect(place, &answer.text.unwrap_or_default())?;
    Ok(took)
}

impl<'s> Canary<'s> {
    /// Knows what the worker answered when nothing had disturbed it.
    pub fn new(subject: &'s Subject<'s>) -> Result<Self> {
        let canary = &subject.golden()?.canary;
        Ok(Self {
            subject,
            every: if canary.took > SLOW { EVERY } else { 1 },
            since: Vec::new(),
        })
    }

    /// Fails with a [`Mismatch`] if the worker isn't what it was, after it was given `what`.
    pub fn sing_after(&mut self, what: &str) -> Result<()> {
        self.since.push(what.to_owned());
        if self.since.len() < self.every {
            return Ok(());
        }
        self.finish()
    }

    /// Sings if it hasn't since the last request.
    pub fn finish(&mut self) -> Result<()> {
        if self.since.is_empty() {
            return Ok(());
        }
        let sung = self.sing();
        if sung.is_err() {
            *self.subject.degraded_by.borrow_mut() = Some(self.since.join(", "));
        }
        sung
    }

    fn sing(&mut self) -> Result<()> {
        let place = format!("inference after {}", self.since.join(", "));
        let canary = &self.subject.golden()?.canary;
        let limit = canary.limit();
        let mut took = Duration::ZERO;
        for _ in 0..ATTEMPTS {
            took = sing_once(self.subject, &place)?;
            if took <= limit {
                self.since.clear();
                return Ok(());
            }
        }
        let expected = format!("an answer within {:.1} s, as before", limit.as_secs_f64());
        let got = format!("one after {:.1} s", took.as_secs_f64());
        Err(Mismatch::new(place, expected, got).into())
    }
}
