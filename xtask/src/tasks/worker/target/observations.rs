//! What is observed once and judged by several checks.

use std::cell::OnceCell;

use anyhow::{Result, anyhow};

use super::device::{DeviceObservation, Devices};
use super::golden::Golden;
use super::launch_failures::StartErrors;
use super::loading::LoadingObservation;
use super::other_start::OtherStart;
use super::token::TokenObservation;
use crate::tasks::worker::load::polling::LoadObservation;
use crate::tasks::worker::record::event::Mismatch;

/// One place for each kind of observation.
#[derive(Debug, Default)]
pub struct Observations {
    /// The devices before the worker was started.
    pub devices_before: Once<Devices>,
    /// How the worker was seen on its device.
    pub device: Once<DeviceObservation>,
    /// What the worker answers when nothing disturbs it.
    pub golden: Once<Golden>,
    /// What it said while it worked as hard as it can.
    pub load: Once<LoadObservation>,
    /// What another one said while it was loading.
    pub loading: Once<LoadingObservation>,
    /// How quickly others started.
    pub other_start: Once<OtherStart>,
    /// How others ended that could not serve.
    pub start_errors: Once<StartErrors>,
    /// What another one said to clients with and without its token.
    pub token: Once<TokenObservation>,
}

/// An observation, or why it failed: for everybody who asks for it.
#[derive(Debug)]
pub struct Once<T> {
    outcome: OnceCell<Result<T, Failure>>,
}

#[derive(Debug)]
enum Failure {
    Broken(Mismatch),
    Unknown(String),
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self {
            outcome: OnceCell::new(),
        }
    }
}

impl<T> Once<T> {
    /// The observation; `observe` makes it the first time.
    pub fn get(&self, observe: impl FnOnce() -> Result<T>) -> Result<&T> {
        let outcome = self.outcome.get_or_init(|| {
            observe().map_err(|error| match error.downcast::<Mismatch>() {
                Ok(mismatch) => Failure::Broken(mismatch),
                Err(error) => Failure::Unknown(format!("{error:#}")),
            })
        });
        match outcome {
            Ok(observation) => Ok(observation),
            Err(Failure::Broken(mismatch)) => Err(mismatch.clone().into()),
            Err(Failure::Unknown(reason)) => Err(anyhow!("{reason}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_same_for_everybody_and_made_once() {
        let once = Once::<u8>::default();
        let fail = || Err(Mismatch::new("here", "this", "that").into());
        assert!(once.get(fail).unwrap_err().is::<Mismatch>());
        let again = once.get(|| panic!("it is observed once"));
        assert_eq!(
            again.unwrap_err().to_string(),
            "here: expected this, got that"
        );
    }
}
