//! Signals become a raised stop flag, so that guards unwind and clean up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stop::StopFlag;
use super::{platform, registry};

/// The number of SIGHUP: a terminal that closes often sends it twice.
const HANGUP: i32 = 1;

/// What comes so soon after the first signal is the same request: `timeout` signals both the
/// process and its group.
const ECHO: Duration = Duration::from_millis(30);

/// From now on a signal that asks us to end raises the flag; a second one kills everything that
/// was started, and us, at once.
pub fn raise_on_signal(stop: &StopFlag) -> Result<()> {
    let stop = stop.clone();
    let mut first: Option<Instant> = None;
    platform::on_stop_signal(move |signal| match first {
        None => {
            first = Some(Instant::now());
            stop.raise(signal);
        }
        Some(first) if signal == HANGUP || first.elapsed() < ECHO => {}
        Some(_) => {
            registry::kill_everybody();
            platform::exit_now(128 + signal);
        }
    })
    .context("cannot take over signals")
}
