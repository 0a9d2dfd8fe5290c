//! Checks of what a worker has to survive: clients that leave, dawdle or flood, a hive in trouble,
//! signals. Here is what they have in common.
//!
//! Each has a worker and a hive of its own, so that none sees what another one did. Requests
//! are scaled by the worker's pace, so that a fast and a slow model are held to the same promises.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::auxiliary::{Auxiliaries, AuxiliaryWorker};
use crate::tasks::worker::target::dialect::BeatState;
use crate::tasks::worker::target::reference::References;

/// The heartbeat interval of every auxiliary here, whatever the run's own is.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How much later than promised something may be seen on a machine that has other work, too.
pub const LATENESS: Duration = Duration::from_secs(1);

/// How long a sample of the processor's use takes; the system counts in steps of 10 ms.
pub const SAMPLE: Duration = Duration::from_millis(250);

/// Less than this many cores is quiet.
pub const QUIET_CORES: f64 = 0.2;

/// A worker that is ready, with a hive of its own, and what it answers alone.
pub fn ready_auxiliary<'s>(
    auxiliaries: &'s Auxiliaries,
    name: &str,
    more: &[(&'static str, &str)],
) -> Result<(AuxiliaryWorker, &'s References)> {
    auxiliaries.ensure_heard()?;
    let mut auxiliary = auxiliaries.start(name, |launch| {
        launch.heartbeat_interval_secs = Some(INTERVAL.as_secs());
        launch.set(more);
    })?;
    auxiliary.wait_until_ready()?;
    let known = auxiliaries.references_alone(&auxiliary.worker)?;
    wait_until_idle(&auxiliary)?;
    Ok((auxiliary, known))
}

/// Lets the end of the last request reach the hive, so that later beats are not about it.
pub fn wait_until_idle(auxiliary: &AuxiliaryWorker) -> Result<()> {
    if !auxiliary.worker.launch().has_heartbeat {
        return Ok(());
    }
    let idle = auxiliary.wait_for("the worker to be idle", LATENESS * 2, || {
        Ok((auxiliary.last_state()? == Some(BeatState::Ready)).then_some(()))
    })?;
    let got = || -> Result<String> { Ok(format!("{:?}", auxiliary.last_state()?)) };
    if idle.is_none() {
        let expected = "state Ready at once after the last request";
        return Err(Mismatch::new("heartbeats", expected, got()?).into());
    }
    Ok(())
}

/// The worker answers the short request with the same text as ever, in a time that fits: this, less what
/// we were late ourselves.
pub fn answers_as_ever(
    auxiliary: &AuxiliaryWorker,
    known: &References,
    when: &str,
) -> Result<Duration> {
    let short = &known.short;
    let sent = Instant::now();
    let answer = auxiliary
        .worker
        .infer_within(&short.request, short.limit(0))?;
    short.expect(
        &format!("inference {when}"),
        &answer.text.unwrap_or_default(),
    )?;
    Ok(auxiliary.jitter.excess(sent, sent.elapsed()))
}

/// How many cores the worker uses just now; `None` where the system doesn't tell.
pub fn cores_used(auxiliary: &AuxiliaryWorker) -> Result<Option<f64>> {
    let (began, before) = (Instant::now(), auxiliary.worker.processor_time());
    auxiliary.let_pass(SAMPLE)?;
    let after = auxiliary.worker.processor_time();
    Ok(before.zip(after).map(|(before, after)| {
        after.saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64()
    }))
}
