//! Health.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;

/// Health of a worker that is up.
pub const CHECKS: &[Check] = &[
    Check::isolation("health.answers", answers)
        .promise("says that it is healthy, that its model is loaded, and who it is")
        .quote(r#"200 as long as the process lives: `{"status":"healthy","model_loaded":true,"worker_id":"..."}`."#)
        .explanation("A status other than healthy, a model that isn't loaded or another worker_id than it was given fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .needs(&[Need::Ready]),
];

fn answers(subject: &Subject) -> Result<Evidence> {
    let health = subject.health()?;
    let worker_id = &subject.worker.launch().worker_id;
    let place = "health";
    ensure_kept(
        health.status == "healthy",
        place,
        "status healthy",
        &health.status,
    )?;
    ensure_kept(health.model_loaded, place, "model_loaded true", "false")?;
    ensure_kept(
        &health.worker_id == worker_id,
        place,
        worker_id,
        &health.worker_id,
    )?;
    Ok(Evidence::new())
}
