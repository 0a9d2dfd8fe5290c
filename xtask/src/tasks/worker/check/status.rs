//! Health and readiness.

use anyhow::Result;

use super::{Evidence, ensure_kept};
use crate::tasks::worker::subject::Subject;
use crate::tasks::worker::subject::dialect::Readiness;

pub fn health_answers(subject: &Subject) -> Result<Evidence> {
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

pub fn ready_answers(subject: &Subject) -> Result<Evidence> {
    match subject.ready()? {
        Readiness::Ready => Ok(Evidence::new()),
        Readiness::NotReady(reason) => {
            ensure_kept(false, "ready", "true", format!("false, because {reason}"))?;
            Ok(Evidence::new())
        }
    }
}
