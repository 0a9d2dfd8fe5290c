//! The stop flag: a signal sets it, every wait looks at it, so that guards unwind and clean up.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::wait::{wait_patiently, wait_until};

/// How often a wait looks at what it waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// Tells every wait of a run to give up.
#[derive(Debug, Clone, Default)]
pub struct StopFlag {
    raised: Arc<OnceLock<Interrupted>>,
}

/// The run was ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupted {
    /// By this signal.
    Signal(i32),
    /// By a panic of ours, or for want of what every run needs: this was said.
    Failure(String),
}

/// A wait ran into its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedOut {
    /// What was awaited: completes "waited for ...".
    pub name: String,
    /// The deadline.
    pub limit: Duration,
}

impl StopFlag {
    /// Tells every wait to give up. The first signal is the one that is remembered.
    pub fn raise(&self, signal: i32) {
        let _ = self.raised.set(Interrupted::Signal(signal));
    }

    /// Tells every wait to give up, because we can't go on ourselves.
    pub fn fail(&self, message: String) {
        let _ = self.raised.set(Interrupted::Failure(message));
    }

    /// Fails once the flag is raised.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.raised.get() {
            None => Ok(()),
            Some(interrupted) => Err(interrupted.clone()),
        }
    }

    /// Lets time pass. Fails with [`Interrupted`] as soon as the flag is raised.
    pub fn let_pass(&self, time: Duration) -> anyhow::Result<()> {
        self.watch(time, || Ok(None::<()>)).map(drop)
    }

    /// Looks at something for as long as that, and no longer, or until there is an answer.
    pub fn watch<T>(
        &self,
        time: Duration,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        let mut answer = None;
        wait_until(time, POLL_INTERVAL, || {
            let looked = self.check().map_err(Into::into).and_then(|()| look());
            answer = looked.transpose();
            answer.is_some()
        });
        answer.transpose()
    }

    /// Polls until there is an answer, patiently where we are late ourselves, and fails with [`TimedOut`]
    /// or [`Interrupted`] otherwise.
    pub fn wait_for<T>(
        &self,
        name: &str,
        limit: Duration,
        poll: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        self.wait_every(POLL_INTERVAL, name, limit, poll)
    }

    /// The same, with an interval of its own.
    pub fn wait_every<T>(
        &self,
        interval: Duration,
        name: &str,
        limit: Duration,
        mut poll: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut answer = None;
        wait_patiently(limit, interval, || {
            let looked = self.check().map_err(Into::into).and_then(|()| poll());
            answer = looked.transpose();
            answer.is_some()
        });
        let name = name.to_owned();
        answer.unwrap_or_else(|| Err(TimedOut { name, limit }.into()))
    }
}

/// What a wait brought; `None` where it ran into its deadline, for waits whose end is a fact too.
pub fn in_time<T>(waited: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match waited {
        Ok(fact) => Ok(Some(fact)),
        Err(error) => error.downcast::<TimedOut>().map(|_| None),
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Interrupted::Signal(signal) => write!(f, "interrupted by signal {signal}"),
            Interrupted::Failure(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Interrupted {}

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limit_s = self.limit.as_secs_f64();
        write!(f, "waited {limit_s} s for {}", self.name)
    }
}

impl std::error::Error for TimedOut {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_what_it_waited_for() {
        let stop = StopFlag::default();
        let error = stop
            .wait_for("the moon", Duration::ZERO, || Ok(None::<()>))
            .unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for the moon");
    }

    #[test]
    fn the_first_signal_ends_a_wait() {
        let stop = StopFlag::default();
        stop.raise(2);
        stop.raise(15);
        let error = stop
            .wait_for("ever", Duration::MAX, || Ok(None::<()>))
            .unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Interrupted::Signal(2)));
    }
}
