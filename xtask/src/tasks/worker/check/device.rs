//! The device: that it is really used, and free again afterwards.

use std::time::Duration;

use anyhow::{Result, bail};

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::device::{DeviceObservation, Devices, Use, told};

/// While the worker lives.
pub const CHECKS: &[Check] = &[Check::isolation("device.used", used)
        .promise("computes on the device that it was asked for, and says which one that is")
        .quote("With `cuda` its weights are in the device's memory as long as it lives, and its log names the device as the driver does.")
        .explanation("nvidia-smi has to list the worker's process (in a container: more memory taken than before its start), and a log line has to hold a device's name; --backend cuda only.")
        .by_hand("llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cuda --device 0 --port 18081 --hive-url http://127.0.0.1:19200 & sleep 5; nvidia-smi --query-compute-apps=pid,used_memory --format=csv")
        .needs(&[Need::Ready, Need::Device])];

/// After its end.
pub const AFTERWARDS: &[Check] = &[Check::isolation("device.freed", freed)
        .promise("gives the device's memory back when it ends")
        .quote("When it has ended, that memory is free.")
        .explanation("After the worker's end nvidia-smi must not list its process any more, or what memory it took must be free; --backend cuda only.")
        .by_hand("llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cuda --device 0 --port 18081 --hive-url http://127.0.0.1:19200 & sleep 5; kill -TERM $!; wait $!; nvidia-smi --query-compute-apps=pid,used_memory --format=csv")
        .needs(&[Need::Device])
        .at(Phase::End)];

/// How long a driver may take to clean up after a process.
const FREE_LIMIT: Duration = Duration::from_secs(10);

fn used(subject: &Subject) -> Result<Evidence> {
    let observation = observe(subject)?;
    let evidence = match &observation.seen {
        Use::Listed(process) => format!("pid {} has {}", process.pid, told(process.used_mib)),
        Use::Risen(risen_mib) => format!("{risen_mib} MiB more than before the start"),
        Use::None { listed, risen_mib } => {
            let expected = "the worker's process, with memory on a device";
            let got = format!(
                "processes {listed:?}, and {risen_mib} MiB more than before the worker's start"
            );
            return Err(Mismatch::new("nvidia-smi", expected, got).into());
        }
    };
    let names = &observation.devices.names;
    let lines = subject.worker.log().tail(usize::MAX);
    let named = names
        .iter()
        .find(|name| lines.iter().any(|line| line.contains(name.as_str())));
    let expected = format!("a line with the device's name, one of {names:?}");
    ensure_kept(named.is_some(), "the worker's log", expected, "none")?;
    let name = named.map_or("", |name| name.as_str());
    Ok(format!("{evidence} on {name}"))
}

fn freed(subject: &Subject) -> Result<Evidence> {
    let observation = observe(subject)?;
    if let Use::None { .. } = observation.seen {
        bail!("the worker was not seen on a device, so nothing can come back");
    }
    let mut left = None;
    let stop = subject.context.stop;
    let waited = stop.wait_for("the device's memory to be free", FREE_LIMIT, || {
        left = observation.still_taken(&Devices::look()?);
        Ok(left.is_none().then_some(()))
    });
    let is_free = in_time(waited)?.is_some();
    let expected = format!("the memory free within {} s", FREE_LIMIT.as_secs());
    ensure_kept(
        is_free,
        "nvidia-smi after the worker's end",
        expected,
        left.unwrap_or_default(),
    )?;
    Ok(Evidence::new())
}

fn observe<'s>(subject: &'s Subject) -> Result<&'s DeviceObservation> {
    subject.seen.device.get(|| DeviceObservation::make(subject))
}
