//! Readiness.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Readiness;

/// Readiness of a worker that is up.
pub const CHECKS: &[Check] = &[Check::isolation("ready.answers", answers)
    .promise("reports that it accepts inference")
    .holds(&["H9"])
    .explanation("Fails on any answer but 200 with ready true.")
    .by_hand(|by| by.ready("-i"))
    .needs(&[Need::Ready])];

fn answers(subject: &Subject) -> Result<Evidence> {
    match subject.worker.ready()? {
        Readiness::Ready => Ok(Evidence::new()),
        Readiness::NotReady(reason) => {
            ensure_kept(false, "ready", "true", format!("false, because {reason}"))?;
            Ok(Evidence::new())
        }
    }
}
