//! What is observed once and judged by several checks.

use std::any::Any;
use std::fmt::Debug;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::tasks::worker::record::event::{Mismatch, Unmet};

/// One place for each kind of observation.
#[derive(Debug, Default)]
pub struct Observations {
    of_each_type: AnyOnce,
}

/// A list to which is only added, so that what it holds can be lent.
#[derive(Debug, Default)]
struct AnyOnce {
    next: OnceLock<Box<(Box<dyn Any + Send + Sync>, AnyOnce)>>,
}

impl Observations {
    /// The observation of this type; `observe` makes it the first time.
    pub fn of<T>(&self, observe: impl FnOnce() -> Result<T>) -> Result<&T>
    where
        T: Debug + Send + Sync + 'static,
    {
        let mut at = &self.of_each_type;
        loop {
            let (once, rest) = &**at.next.get_or_init(|| {
                let once: Box<dyn Any + Send + Sync> = Box::new(Once::<T>::default());
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
    outcome: OnceLock<Result<T, Failure>>,
}

#[derive(Debug)]
enum Failure {
    Broken(Mismatch),
    Untried(Unmet),
    Unknown(String),
}

impl Failure {
    fn of(error: anyhow::Error) -> Self {
        let other = match error.downcast::<Mismatch>() {
            Ok(mismatch) => return Failure::Broken(mismatch),
            Err(other) => other,
        };
        match other.downcast::<Unmet>() {
            Ok(unmet) => Failure::Untried(unmet),
            Err(error) => Failure::Unknown(format!("{error:#}")),
        }
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self {
            outcome: OnceLock::new(),
        }
    }
}

impl<T> Once<T> {
    /// The observation; `observe` makes it the first time.
    fn get(&self, observe: impl FnOnce() -> Result<T>) -> Result<&T> {
        let outcome = self.outcome.get_or_init(|| observe().map_err(Failure::of));
        match outcome {
            Ok(observation) => Ok(observation),
            Err(Failure::Broken(mismatch)) => {
                let mismatch = Mismatch {
                    is_shared: true,
                    ..mismatch.clone()
                };
                Err(mismatch.into())
            }
            Err(Failure::Untried(unmet)) => Err(unmet.clone().into()),
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
        let first = once.get(fail).unwrap_err().downcast::<Mismatch>();
        assert!(first.unwrap().is_shared);
        let again = once.get(|| panic!("it is observed once")).unwrap_err();
        assert_eq!(again.to_string(), "here: expected this, got that");
        assert!(again.downcast::<Mismatch>().unwrap().is_shared);
    }
}
