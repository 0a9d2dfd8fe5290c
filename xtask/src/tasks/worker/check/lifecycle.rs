//! A worker's life: it lasts until it is asked to end, and nothing outlives it.

use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::net::client::NoAnswer;
use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::{Mismatch, NO_SURVIVORS};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{InferenceRequest, Promise};

/// The check that a worker fails which ends unasked, whatever else it was asked.
pub const LIVES: &str = "lifecycle.lives";

/// After everything that is asked of a worker.
pub const TO_THE_END: &[Check] = &[
    Check::isolation("lifecycle.engine_failure", engine_failure)
        .promise("says `failed` and ends when its engine can't go on")
        .holds(&["S12", "H7"])
        .explanation("After all other checks, asks for one token; fails if none comes, or an error of the server, while health goes on to say that the worker is healthy.")
        .by_hand(|by| by.infer("-i", &InferenceRequest::greedy("Hello", 1)))
        .needs(&[Need::Promised(Promise::Stages)])
        .at(Phase::End),
    Check::isolation(LIVES, lives)
        .promise("stays alive and answers until it is asked to stop")
        .holds(&["H4"])
        .explanation("After all other checks, fails if the process has ended unasked or doesn't answer health.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Promised(Promise::OwnProcess)])
        .at(Phase::End),
];

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

/// How long a worker may call itself healthy when its engine computes no more: it has to say so at
/// once, and to end within 2 s of that.
const FAILURE_LIMIT: Duration = Duration::from_secs(2);

/// How long the last question for health may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

/// A dead engine behind a live port is what a hive can't see: it goes on to send requests there.
fn engine_failure(subject: &Subject) -> Result<Evidence> {
    if subject.not_ready.is_some() {
        return Ok(String::from("it was never ready, which other checks judge"));
    }
    let Some(failure) = no_token(subject)? else {
        return Ok(String::from("it generates"));
    };
    let waited = subject
        .context
        .stop
        .wait_for("health to say `failed`", FAILURE_LIMIT, || {
            let has_ended = subject.worker.exited()?.is_some();
            Ok((has_ended || !says_healthy(subject)?).then_some(()))
        });
    if in_time(waited)?.is_some() {
        return Ok(format!(
            "{failure}, and it doesn't call itself healthy, which other checks judge"
        ));
    }
    // It may have been about that one request.
    if let Some(failure) = no_token(subject)? {
        return Err(Mismatch::new(
            format!("health {} s after {failure}", FAILURE_LIMIT.as_secs()),
            "status failed, or the end of the process",
            "status healthy",
        )
        .into());
    }
    Ok(format!("{failure}; the next one was answered"))
}

/// What came instead of one token, where that shows an engine that doesn't compute.
fn no_token(subject: &Subject) -> Result<Option<String>> {
    let request = InferenceRequest::greedy("Hello", 1);
    let request = subject.dialect().inference_request(&request, false);
    let limit = match subject.auxiliaries.ensure_heard() {
        Ok(()) => subject.worker.inference_limit(),
        // It has had its time.
        Err(_) => FAILURE_LIMIT,
    };
    let failure = match subject.worker.client().send(&request, limit) {
        Ok(answer) if answer.status < 500 => return Ok(None),
        Ok(answer) => format!("status {}", answer.status),
        Err(error) => error.downcast::<NoAnswer>()?.cause,
    };
    Ok(Some(format!("an inference that got {failure}")))
}

fn says_healthy(subject: &Subject) -> Result<bool> {
    let request = subject.dialect().health_request();
    match subject.worker.quiet_client().send(&request, HEALTH_LIMIT) {
        // An answer in another form is another check's matter.
        Ok(answer) => Ok(subject
            .dialect()
            .read_health(&answer)
            .is_ok_and(|health| health.status == "healthy")),
        Err(error) => error.downcast::<NoAnswer>().map(|_| false),
    }
}

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
        "no process of the worker and no occupied port",
        left_behind.join("; "),
    )?;
    Ok(Evidence::new())
}
