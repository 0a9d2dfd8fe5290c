//! Health and readiness.

use anyhow::Result;

use super::{Check, Evidence, Need, ensure_kept};
use crate::tasks::worker::record::event::{Level, Suite};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Readiness;

/// Health and readiness of a worker that is up.
pub const CHECKS: &[Check] = &[
    Check {
        id: "health.answers",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "says that it is healthy, that its model is loaded, and who it is",
        contract: r#"200 as long as the process lives: `{"status":"healthy","model_loaded":true,"worker_id":"..."}`."#,
        explanation: "A status other than healthy, a model that isn't loaded or another worker_id than it was given fails it.",
        by_hand: |by| by.health("-i"),
        needs: &[Need::Ready],
        run: health_answers,
    },
    Check {
        id: "ready.answers",
        suite: Suite::Isolation,
        level: Level::Must,
        promise: "says that it would accept an inference",
        contract: r#"200 `{"ready":true}` while inference is taken."#,
        explanation: "Any other answer than 200 with ready true fails it.",
        by_hand: |by| by.ready("-i"),
        needs: &[Need::Ready],
        run: ready_answers,
    },
];

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
    let named = health.worker_id.unwrap_or_default();
    ensure_kept(&named == worker_id, place, worker_id, &named)?;
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
