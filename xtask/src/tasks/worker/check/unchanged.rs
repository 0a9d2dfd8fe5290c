//! After whatever a worker was given, the same process answers the same short greedy request with the
//! same text, in bounded time.

use std::time::Duration;

use anyhow::Result;

use super::judge::unmet_by;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;

/// A worker that takes longer is asked after every few requests only, so that slow models don't make the
/// suite endless.
pub const SLOW: Duration = Duration::from_millis(150);

/// After how many requests a slow one is asked.
const EVERY: usize = 8;

/// A slow answer counts when so many in a row are slow: a busy machine isn't busy all the time.
const ATTEMPTS: usize = 8;

/// Looks at a worker after each request that it was given.
#[derive(Debug)]
pub struct Unchanged<'s> {
    subject: &'s Subject<'s>,
    every: usize,
    /// What the worker was given since the last look.
    since: Vec<String>,
}

/// Fails with a [`Mismatch`] if the text is another one; gives the time that it took.
pub fn answers_as_before(subject: &Subject, place: &str) -> Result<Duration> {
    let short = &subject.references()?.short;
    // Beyond the limit we still want to see whether an answer comes at all.
    let hard_limit = short.limit_alone() * 2 + Duration::from_secs(10);
    let (answer, took) = subject.worker.infer_timed(&short.request, hard_limit)?;
    short.expect(place, &answer.text.unwrap_or_default())?;
    Ok(took)
}

impl<'s> Unchanged<'s> {
    /// Knows what the worker answered when nothing had disturbed it.
    pub fn new(subject: &'s Subject<'s>) -> Result<Self> {
        let short = &subject.references()?.short;
        Ok(Self {
            subject,
            every: if short.took > SLOW { EVERY } else { 1 },
            since: Vec::new(),
        })
    }

    /// Fails with a [`Mismatch`] if the worker isn't what it was, after it was given `what`.
    pub fn ensure_after(&mut self, what: &str) -> Result<()> {
        self.since.push(what.to_owned());
        if self.since.len() < self.every {
            return Ok(());
        }
        self.finish()
    }

    /// Looks once more if there was a request since the last look.
    pub fn finish(&mut self) -> Result<()> {
        if self.since.is_empty() {
            return Ok(());
        }
        let looked = self.look();
        if let Err(error) = &looked {
            let since = self.since.join(", ");
            let what = format!("the worker answers differently since {since}");
            *self.subject.degraded.borrow_mut() = Some(unmet_by(&what, error));
        }
        looked
    }

    fn look(&mut self) -> Result<()> {
        let place = format!("inference after {}", self.since.join(", "));
        let limit = self.subject.references()?.short.limit_alone();
        let mut took = Duration::ZERO;
        for _ in 0..ATTEMPTS {
            took = answers_as_before(self.subject, &place)?;
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
