//! A worker's life: it lasts until it is asked to end, and nothing outlives it.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::Check;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::NO_SURVIVORS;
use crate::tasks::worker::target::{Subject, dialect};

/// The check that a worker fails which ends unasked, whatever else it was asked.
pub const LIVES: &str = "lifecycle.lives";

/// After everything that is asked of a worker.
pub const TO_THE_END: &[Check] = &[
    Check::isolation(LIVES, lives)
        .promise("lives and answers until it is asked to stop")
        .quote("200 as long as the process lives.")
        .explanation("After all other checks the process has to be there and answer health; an end of the process unasked, or silence, fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/health")
        .at(Phase::End),
];

/// Last of all.
pub const AFTERWARDS: &[Check] = &[
    Check::isolation(NO_SURVIVORS, leaves_nobody)
        .promise("leaves no process and no held port behind when it ends")
        .quote("The last heartbeat says `Draining`. Exit status 0.")
        .explanation("After the worker's end a process that it started, in its group or out of it, or a port that is still held fails it; whatever is found is ended.")
        .by_hand("llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cpu --device 0 --port 18081 --hive-url http://127.0.0.1:19200 & sleep 5; kill -TERM $!; wait $!; ps -o pid,pgid,args -g $!; lsof -nP -iTCP:18081")
        .at(Phase::End),
];

/// How long the last question for health may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

fn lives(subject: &Subject) -> Result<Evidence> {
    subject.worker.ensure_alive()?;
    // What keeps a worker from being ready, and what health says, are other checks' matters.
    if subject.not_ready.is_none() {
        subject.ask(&dialect::health_request(), HEALTH_LIMIT)?;
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
