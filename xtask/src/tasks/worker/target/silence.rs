//! How often the workers of a run have left a good inference unanswered: from the second time on nobody
//! waits for another answer, each with a deadline of its own.

use std::sync::{Arc, Mutex};

use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::record::event::{Mismatch, Unmet};

/// After so many unanswered requests no more are sent.
const ENOUGH: u32 = 2;

/// What the workers of a run have left unanswered.
#[derive(Debug, Clone, Default)]
pub struct Silence(Arc<Mutex<Unanswered>>);

#[derive(Debug, Default)]
struct Unanswered {
    times: u32,
    first: Option<Mismatch>,
}

impl Silence {
    /// One more request wasn't answered.
    pub fn count(&self, mismatch: &Mismatch) {
        let mut unanswered = lock(&self.0);
        unanswered.times += 1;
        unanswered.first.get_or_insert_with(|| mismatch.clone());
    }

    /// Fails with [`Unmet`] once another inference makes no sense.
    pub fn ensure_heard(&self) -> Result<(), Unmet> {
        let unanswered = lock(&self.0);
        match &unanswered.first {
            Some(first) if unanswered.times >= ENOUGH => Err(Unmet::by(
                "the worker has gone silent twice in inference",
                first,
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silence_is_no_reason_to_give_up_and_two_are() {
        let silence = Silence::default();
        let of_another_worker = silence.clone();
        let mismatch = |got: &str| Mismatch::new("POST /x", "an answer", got);
        assert!(silence.ensure_heard().is_ok());
        silence.count(&mismatch("none within 30 s"));
        assert!(silence.ensure_heard().is_ok());
        of_another_worker.count(&mismatch("none within 5 s"));
        let unmet = silence.ensure_heard().unwrap_err();
        assert_eq!(
            unmet.because.as_deref(),
            Some(&mismatch("none within 30 s"))
        );
        assert!(unmet.to_string().contains("silent twice"), "{unmet}");
    }
}
