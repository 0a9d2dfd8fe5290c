//! Whose fault an error is. Pure.

use anyhow::Result;

use crate::tasks::worker::record::event::{Mismatch, Outcome, Unmet};

/// What the evidence was, in a few words; empty where the verdict says it all.
pub type Evidence = String;

/// The only place that decides whose fault an error is.
pub fn judge(result: Result<Evidence>) -> (Outcome, Option<String>) {
    match result {
        Ok(evidence) => (
            Outcome::Passed,
            Some(evidence).filter(|text| !text.is_empty()),
        ),
        Err(error) => (blame(error), None),
    }
}

fn blame(error: anyhow::Error) -> Outcome {
    let other = match error.downcast::<Mismatch>() {
        Ok(mismatch) => return Outcome::Failed(mismatch),
        Err(other) => other,
    };
    match other.downcast::<Unmet>() {
        Ok(unmet) => unmet.into(),
        Err(error) => Outcome::Invalid {
            reason: format!("{error:#}"),
        },
    }
}

/// What an error says of a need that it leaves unmet.
pub fn unmet_by(what: &str, error: &anyhow::Error) -> Unmet {
    let reason = format!("{what}: {error:#}");
    match (
        error.downcast_ref::<Mismatch>(),
        error.downcast_ref::<Unmet>(),
    ) {
        (Some(mismatch), _) => Unmet::by(reason, mismatch),
        (None, Some(unmet)) => Unmet {
            reason,
            ..unmet.clone()
        },
        (None, None) => Unmet::because_of(reason),
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
        let error = anyhow::Error::from(Unmet::because_of("no device")).context("while");
        assert!(matches!(judge(Err(error)).0, Outcome::Skipped { .. }));
    }
}
