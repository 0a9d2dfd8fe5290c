//! Readiness.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Readiness;

/// Readiness of a worker that is up.
pub const CHECKS: &[Check] = &[Check::isolation("ready.answers", answers)
    .promise("says that it would accept an inference")
    .quote(r#"200 `{"ready":true}` while inference is taken."#)
    .explanation("Any other answer than 200 with ready true fails it.")
    .by_hand("curl -i http://127.0.0.1:18081/v1/ready")
    .needs(&[Need::Ready])];

fn answers(subject: &Subject) -> Result<Evidence> {
    match subject.ready()? {
        Readiness::Ready => Ok(Evidence::new()),
        Readiness::NotReady(reason) => {
            ensure_kept(false, "ready", "true", format!("false, because {reason}"))?;
            Ok(Evidence::new())
        }
    }
}
