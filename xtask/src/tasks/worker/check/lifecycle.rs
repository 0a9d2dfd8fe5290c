//! A worker's life: it lasts until it is asked to end, and nothing outlives it.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::NO_SURVIVORS;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Promise;

/// The check that a worker fails which ends unasked, whatever else it was asked.
pub const LIVES: &str = "lifecycle.lives";

/// After everything that is asked of a worker.
pub const TO_THE_END: &[Check] = &[Check::isolation(LIVES, lives)
    .promise("lives and answers until it is asked to stop")
    .holds(&["H4"])
    .explanation(
        "After all other checks, fails if the process has ended unasked or doesn't answer health.",
    )
    .by_hand(|by| by.health("-i"))
    .needs(&[Need::Promised(Promise::OwnProcess)])
    .at(Phase::End)];

/// Last of all.
pub const AFTERWARDS: &[Check] = &[
    Check::isolation(NO_SURVIVORS, leaves_nobody)
        .promise("leaves no process behind and no port occupied when it ends")
        .holds(&["T9"])
        .explanation("Fails if a process that the worker started, in its group or outside it, survives its end, or if its port is still occupied; survivors are killed. On Linux nothing escapes: what loses its parent becomes the run's child. On macOS what left its group is known by a variable of its environment, and what dropped that, too, isn't seen; on Windows nothing can leave its job.")
        .by_hand(|by| by.worker(&[]) + " & sleep 5; kill -TERM $!; wait $!; ps -o pid,pgid,args -g $!; lsof -nP -iTCP:18081")
        .needs(&[Need::Promised(Promise::OwnProcess)])
        .at(Phase::End),
];

/// How long the last question for health may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

fn lives(subject: &Subject) -> Result<Evidence> {
    subject.worker.ensure_alive()?;
    // What keeps a worker from being ready, and what health says, are other checks' matters.
    if subject.not_ready.is_none() {
        subject
            .worker
            .ask(&subject.dialect().health_request(), HEALTH_LIMIT)?;
    }
    Ok(format!(
        "for {:.1} s",
        subject.worker.started().elapsed().as_secs_f64()
    ))
}

fn leaves_nobody(subject: &Subject) -> Result<Evidence> {
    let left_behind = subject.worker.end();
    ensure_kept(
        left_behind.is_empty(),
        "the process table after the worker's end",
        "no process of the worker's and no held port",
        left_behind.join("; "),
    )?;
    Ok(Evidence::new())
}
