//! Whose fault an error is. Pure.

use anyhow::Result;

use crate::tasks::worker::record::event::{Mismatch, Outcome};

/// What the evidence was, in a few words; empty where the verdict says it all.
pub type Evidence = String;

/// The only place that decides whose fault an error is.
pub fn judge(result: Result<Evidence>) -> (Outcome, Option<String>) {
    match result {
        Ok(evidence) => (
            Outcome::Passed,
            Some(evidence).filter(|text| !text.is_empty()),
        ),
        Err(error) => match error.downcast::<Mismatch>() {
            Ok(mismatch) => (Outcome::Failed(mismatch), None),
            Err(error) => {
                let reason = format!("{error:#}");
                (Outcome::Invalid { reason }, None)
            }
        },
    }
}

/// Fails with a [`Mismatch`] unless `kept`.
pub fn ensure_kept(
    kept: bool,
    place: &str,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> Result<(), Mismatch> {
    if kept {
        Ok(())
    } else {
        Err(Mismatch::new(place, expected, got))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_blames_the_worker_even_in_a_context() {
        let error = anyhow::Error::from(Mismatch::new("here", "this", "that")).context("while");
        assert!(matches!(judge(Err(error)).0, Outcome::Failed(_)));
        let error = anyhow::anyhow!("the sink died").context("while");
        let (outcome, _) = judge(Err(error));
        let reason = String::from("while: the sink died");
        assert_eq!(outcome, Outcome::Invalid { reason });
    }
}
