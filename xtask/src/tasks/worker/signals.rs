//! Signals become a raised stop flag, so that guards unwind and clean up.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::stop::StopFlag;

/// From now on a signal that asks us to end raises the flag; a second one ends us at once.
pub fn raise_on_signal(stop: &StopFlag) -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot take over signals")?;
    let stop = stop.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if stop.check().is_err() {
                std::process::exit(128 + signal);
            }
            stop.raise(signal);
        }
    });
    Ok(())
}
