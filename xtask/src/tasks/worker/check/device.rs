//! The device: that it is really used, and free again afterwards.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use crate::tasks::worker::process::gpu::OnDevice;
use crate::tasks::worker::process::stop::in_time;
use crate::tasks::worker::process::{gpu, platform};
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::Promise;

/// While the worker lives.
pub const CHECKS: &[Check] = &[Check::isolation("device.used", used)
        .promise("computes on the requested device, and logs which one that is")
        .quote("With `cuda` its weights are in the device's memory as long as it lives, and its log names the device as the driver does.")
        .explanation("Fails unless nvidia-smi lists the worker's process (in a container: unless used memory has risen since its start) and the log names the device; --backend cuda only.")
        .by_hand(|by| by.worker(&[("--backend", "cuda")]) + " & sleep 5; nvidia-smi --query-compute-apps=pid,used_memory --format=csv")
        .needs(&[Need::Ready, Need::Device, Need::Promised(Promise::OwnProcess)])];

/// After its end.
pub const AFTERWARDS: &[Check] = &[Check::isolation("device.freed", freed)
        .promise("frees the device's memory when it ends")
        .quote("When it has ended, that memory is free.")
        .explanation("Fails if nvidia-smi still lists the process after its end, or if its memory is not free again; --backend cuda only.")
        .by_hand(|by| by.worker(&[("--backend", "cuda")]) + " & sleep 5; kill -TERM $!; wait $!; nvidia-smi --query-compute-apps=pid,used_memory --format=csv")
        .needs(&[Need::Device, Need::Promised(Promise::OwnProcess)])
        .at(Phase::End)];

/// How long a driver may take to clean up after a process.
const FREE_LIMIT: Duration = Duration::from_secs(10);

/// What a device's memory has to rise by to count as used. A context alone takes several times that.
const LEAST_RISE_MIB: u64 = 32;

fn used(subject: &Subject) -> Result<Evidence> {
    let observation = observe(subject)?;
    let evidence = match &observation.seen {
        Use::Listed(process) => format!("pid {} has {}", process.pid, amount(process.used_mib)),
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
        bail!("the worker was not seen on a device, so there is nothing to free");
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
    subject.observations.of(|| DeviceObservation::make(subject))
}

/// The devices at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Devices {
    /// Each device's name.
    names: Vec<String>,
    /// Memory that is taken, on all of them together.
    used_mib: u64,
    /// The processes that compute on them.
    processes: Vec<OnDevice>,
}

/// How a worker was seen on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    /// The driver lists its process.
    Listed(OnDevice),
    /// The driver lists processes that aren't of our process table, so that the worker's can't be
    /// found among them; but since before the worker's start that much more memory is taken.
    Risen(u64),
    /// Neither.
    None {
        /// Whom the driver lists instead.
        listed: Vec<u32>,
        /// How much more memory is taken than before the worker's start.
        risen_mib: u64,
    },
}

/// What was seen of a worker on its device while it lived.
#[derive(Debug)]
struct DeviceObservation {
    /// How it was seen.
    seen: Use,
    /// The devices at that moment.
    devices: Devices,
    /// The worker's processes at that moment.
    pids: Vec<u32>,
}

impl Devices {
    /// Asks the driver's tool.
    fn look() -> Result<Self> {
        let devices = gpu::devices()?;
        ensure!(!devices.is_empty(), "nvidia-smi lists no device");
        Ok(Self {
            // A shared or integrated device may not tell.
            used_mib: devices.iter().filter_map(|device| device.used_mib).sum(),
            names: devices.into_iter().map(|device| device.name).collect(),
            processes: gpu::computing()?,
        })
    }

    /// How a worker with these processes is seen. `lives` tells who is in our process table.
    fn use_by(&self, pids: &[u32], before_mib: u64, lives: impl Fn(u32) -> bool) -> Use {
        let ours = |process: &&OnDevice| pids.contains(&process.pid);
        if let Some(process) = self.processes.iter().find(ours) {
            return Use::Listed(*process);
        }
        let risen_mib = self.used_mib.saturating_sub(before_mib);
        let is_visible = self.processes.iter().any(|process| lives(process.pid));
        if !is_visible && risen_mib >= LEAST_RISE_MIB {
            return Use::Risen(risen_mib);
        }
        Use::None {
            listed: self.processes.iter().map(|process| process.pid).collect(),
            risen_mib,
        }
    }
}

/// The devices before the worker was started.
#[derive(Debug)]
pub struct DevicesBefore(Devices);

impl DevicesBefore {
    /// Asks the driver's tool, for later.
    pub fn look() -> Result<Self> {
        Devices::look().map(Self)
    }
}

impl DeviceObservation {
    /// Looks at the worker while it lives.
    fn make(subject: &Subject) -> Result<Self> {
        // Why it has ended is another check's matter.
        ensure!(
            subject.worker.exited()?.is_none(),
            "the worker exited before its device could be checked"
        );
        let before = &subject.observations.of(DevicesBefore::look)?.0;
        let pids = subject.worker.pids();
        let devices = Devices::look()?;
        let table = platform::processes();
        let lives = |pid| table.iter().any(|process| process.pid == pid);
        Ok(Self {
            seen: devices.use_by(&pids, before.used_mib, lives),
            devices,
            pids,
        })
    }

    /// What is still taken of what the worker was seen to take, where that is something.
    fn still_taken(&self, now: &Devices) -> Option<String> {
        let ours = |process: &&OnDevice| self.pids.contains(&process.pid);
        match &self.seen {
            Use::Listed(_) => {
                let left = now.processes.iter().find(ours)?;
                Some(format!(
                    "pid {} still has {}",
                    left.pid,
                    amount(left.used_mib)
                ))
            }
            Use::Risen(risen_mib) => {
                let fallen_mib = self.devices.used_mib.saturating_sub(now.used_mib);
                let fell = fallen_mib >= risen_mib / 2;
                (!fell).then(|| format!("only {fallen_mib} of {risen_mib} MiB were freed"))
            }
            Use::None { .. } => None,
        }
    }
}

/// "512 MiB", or that the driver doesn't say.
fn amount(used_mib: Option<u64>) -> String {
    match used_mib {
        Some(used_mib) => format!("{used_mib} MiB"),
        None => String::from("memory that the driver doesn't count"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes as their numbers and MiB.
    fn devices(processes: &[(u32, u64)], used_mib: u64) -> Devices {
        let process = |&(pid, used_mib): &(u32, u64)| on_device(pid, Some(used_mib));
        Devices {
            names: vec![String::from("NVIDIA H100 80GB HBM3")],
            used_mib,
            processes: processes.iter().map(process).collect(),
        }
    }

    fn on_device(pid: u32, used_mib: Option<u64>) -> OnDevice {
        OnDevice { pid, used_mib }
    }

    #[test]
    fn a_worker_is_seen_by_its_process_or_where_that_is_hidden_by_the_memory() {
        let nobody = |_| false;
        let listed = devices(&[(7, 500), (8, 1)], 600);
        let found = Use::Listed(on_device(8, Some(1)));
        assert_eq!(listed.use_by(&[9, 8], 600, nobody), found);
        // From within a container: nobody, or strangers' numbers.
        assert_eq!(devices(&[], 900).use_by(&[8], 400, nobody), Use::Risen(500));
        assert_eq!(
            devices(&[(7, 500)], 900).use_by(&[8], 400, nobody),
            Use::Risen(500)
        );
        let unused = |listed, risen_mib| Use::None { listed, risen_mib };
        assert_eq!(
            devices(&[], 400).use_by(&[8], 400, nobody),
            unused(vec![], 0)
        );
        assert_eq!(
            devices(&[], 300).use_by(&[8], 400, nobody),
            unused(vec![], 0)
        );
        // Whose number is in our table is told as it is, so that others' memory proves nothing.
        let others = devices(&[(7, 500)], 900);
        assert_eq!(
            others.use_by(&[8], 400, |pid| pid == 7),
            unused(vec![7], 500)
        );
    }

    #[test]
    fn what_was_taken_has_to_come_back() {
        let observation = |seen, used_mib| DeviceObservation {
            seen,
            devices: devices(&[], used_mib),
            pids: vec![8],
        };
        let listed = observation(Use::Listed(on_device(8, Some(500))), 900);
        assert_eq!(listed.still_taken(&devices(&[(7, 1)], 900)), None);
        let left = listed.still_taken(&devices(&[(8, 500)], 900)).unwrap();
        assert_eq!(left, "pid 8 still has 500 MiB");
        let risen = observation(Use::Risen(500), 900);
        assert_eq!(risen.still_taken(&devices(&[], 420)), None);
        let left = risen.still_taken(&devices(&[], 880)).unwrap();
        assert!(left.contains("only 20 of 500 MiB"), "{left}");
    }
}
