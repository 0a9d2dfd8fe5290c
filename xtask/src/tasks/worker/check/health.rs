//! Health.

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::target::Subject;

/// Health of a worker that is up.
pub const CHECKS: &[Check] = &[
    Check::isolation("health.answers", answers)
        .promise("says that it is healthy, that its model is loaded, and who it is")
        .holds(&["H4", "H5", "C1"])
        .explanation("Fails unless status is healthy, model_loaded is true and worker_id is the one that the worker was given.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Ready]),
];

fn answers(subject: &Subject) -> Result<Evidence> {
    let health = subject.worker.health()?;
    let worker_id = &subject.worker.launch().worker_id;
    let place = "health";
    ensure_kept(
        health.status == "healthy",
        place,
        "status healthy",
        &health.status,
    )?;
    ensure_kept(health.model_loaded, place, "model_loaded true", "false")?;
    if let Some(named) = &health.worker_id {
        ensure_kept(named == worker_id, place, worker_id, named)?;
    }
    Ok(Evidence::new())
}
