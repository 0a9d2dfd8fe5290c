//! What is observed once and judged by several checks.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt::Debug;

use anyhow::{Result, anyhow};

use crate::tasks::worker::record::event::Mismatch;

/// One place for each kind of observation.
#[derive(Debug, Default)]
pub struct Observations {
    of_each_type: AnyOnce,
}

/// A list to which is only added, so that what it holds can be lent.
#[derive(Debug, Default)]
struct AnyOnce {
    next: OnceCell<Box<(Box<dyn Any>, AnyOnce)>>,
}

impl Observations {
    /// The observation of this type; `observe` makes it the first time.
    pub fn of<T: Debug + 'static>(&self, observe: impl FnOnce() -> Result<T>) -> Result<&T> {
        let mut at = &self.of_each_type;
        loop {
            let (once, rest) = &**at.next.get_or_init(|| {
                let once: Box<dyn Any> = Box::new(Once::<T>::default());
                Box::new((once, AnyOnce::default()))
            });
            match once.downcast_ref::<Once<T>>() {
                Some(once) => return once.get(observe),
                None => at = rest,
            }
        }
    }
}

/// An observation, or why it failed: for everybody who asks for it.
#[derive(Debug)]
struct Once<T> {
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
    fn get(&self, observe: impl FnOnce() -> Result<T>) -> Result<&T> {
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
    fn each_type_has_an_observation_of_its_own() {
        let observations = Observations::default();
        assert_eq!(observations.of(|| Ok(1_u8)).unwrap(), &1);
        assert_eq!(observations.of(|| Ok("one")).unwrap(), &"one");
        // One observation may need another.
        let sum = observations
            .of(|| Ok(u64::from(*observations.of::<u8>(|| panic!("it is observed once"))?) + 1));
        assert_eq!(sum.unwrap(), &2);
        assert_eq!(observations.of(|| Ok(2_u8)).unwrap(), &1);
    }

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
