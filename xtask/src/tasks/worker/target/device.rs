//! What an NVIDIA driver says of its devices: who computes on them, and how much memory is taken.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Subject;
use crate::tasks::worker::process::{platform, tool};

/// How long `nvidia-smi` may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What a device's memory has to rise by to count as used. A context alone takes several times that.
const LEAST_RISE_MIB: u64 = 32;

/// The devices at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Each device's name.
    pub names: Vec<String>,
    /// Memory that is taken, on all of them together.
    pub used_mib: u64,
    /// The processes that compute on them.
    pub processes: Vec<OnDevice>,
}

/// A process that has memory on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDevice {
    /// Its number, as the driver sees it: from within a container that may be another one.
    pub pid: u32,
    /// Its memory there; `None` where the driver doesn't tell.
    pub used_mib: Option<u64>,
}

/// How a worker was seen on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
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
pub struct DeviceObservation {
    /// How it was seen.
    pub seen: Use,
    /// The devices at that moment.
    pub devices: Devices,
    /// The worker's processes at that moment.
    pub pids: Vec<u32>,
}

impl Devices {
    /// Asks the driver's tool.
    pub fn look() -> Result<Self> {
        let gpus = ask("--query-gpu=name,memory.used")?;
        let processes = ask("--query-compute-apps=pid,used_memory")?;
        Self::parse(&gpus, &processes)
    }

    /// Reads both answers: one device or process a line, fields with commas between.
    fn parse(gpus: &str, processes: &str) -> Result<Self> {
        let mut devices = Self::default();
        for line in gpus.lines().filter(|line| !line.trim().is_empty()) {
            let (name, used) = line
                .rsplit_once(',')
                .with_context(|| format!("nvidia-smi tells of a device as `{line}`"))?;
            devices.names.push(name.trim().to_owned());
            // A shared or integrated device may not tell.
            devices.used_mib += mebibytes(used).unwrap_or_default();
        }
        ensure!(!devices.names.is_empty(), "nvidia-smi lists no device");
        for line in processes.lines().filter(|line| !line.trim().is_empty()) {
            let (pid, used) = line.split_once(',').unwrap_or((line, ""));
            let Ok(pid) = pid.trim().parse() else {
                // "No running processes found", "[Not Supported]".
                continue;
            };
            devices.processes.push(OnDevice {
                pid,
                used_mib: mebibytes(used),
            });
        }
        Ok(devices)
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

impl DeviceObservation {
    /// Looks at the worker while it lives.
    pub fn make(subject: &Subject) -> Result<Self> {
        // Why it has ended is another check's matter.
        ensure!(
            subject.worker.exited()?.is_none(),
            "the worker had ended before anybody looked for it on a device"
        );
        let before = subject.seen.devices_before.get(Devices::look)?;
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
    pub fn still_taken(&self, now: &Devices) -> Option<String> {
        let ours = |process: &&OnDevice| self.pids.contains(&process.pid);
        match &self.seen {
            Use::Listed(_) => {
                let left = now.processes.iter().find(ours)?;
                Some(format!(
                    "pid {} still has {}",
                    left.pid,
                    told(left.used_mib)
                ))
            }
            Use::Risen(risen_mib) => {
                let fallen_mib = self.devices.used_mib.saturating_sub(now.used_mib);
                let fell = fallen_mib >= risen_mib / 2;
                (!fell).then(|| format!("of {risen_mib} MiB only {fallen_mib} MiB came back"))
            }
            Use::None { .. } => None,
        }
    }
}

/// "512 MiB", or that nobody tells.
pub fn told(used_mib: Option<u64>) -> String {
    match used_mib {
        Some(used_mib) => format!("{used_mib} MiB"),
        None => String::from("memory that the driver doesn't count"),
    }
}

/// "512 MiB"; `None` for "[N/A]" and the like.
fn mebibytes(text: &str) -> Option<u64> {
    text.trim().trim_end_matches("MiB").trim().parse().ok()
}

fn ask(query: &str) -> Result<String> {
    let mut command = Command::new("nvidia-smi");
    command.args([query, "--format=csv,noheader"]);
    let (status, answer) = tool::ask(command, ANSWER_LIMIT)
        .context("nvidia-smi, which tells who uses a device, doesn't answer")?;
    ensure!(
        status.success(),
        "nvidia-smi {query} ended with {status}: {}",
        answer.trim()
    );
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(processes: &str, used_mib: u64) -> Devices {
        let gpus = format!("NVIDIA H100 80GB HBM3, {used_mib} MiB\n");
        Devices::parse(&gpus, processes).unwrap()
    }

    fn on_device(pid: u32, used_mib: Option<u64>) -> OnDevice {
        OnDevice { pid, used_mib }
    }

    #[test]
    fn both_answers_are_read_also_where_they_tell_little() {
        let gpus = "NVIDIA A100, PCIe, 40GB, 412 MiB\nNVIDIA T4, [N/A]\n";
        let processes = "4242, 512 MiB\n77, [N/A]\n[Not Supported]\n";
        let devices = Devices::parse(gpus, processes).unwrap();
        assert_eq!(devices.names, ["NVIDIA A100, PCIe, 40GB", "NVIDIA T4"]);
        assert_eq!(devices.used_mib, 412);
        let expected = [on_device(4242, Some(512)), on_device(77, None)];
        assert_eq!(devices.processes, expected);
        assert!(Devices::parse("", "").is_err());
        assert!(Devices::parse("no comma", "").is_err());
    }

    #[test]
    fn a_worker_is_seen_by_its_process_or_where_that_is_hidden_by_the_memory() {
        let nobody = |_| false;
        let listed = devices("7, 500 MiB\n8, 1 MiB", 600);
        let found = Use::Listed(on_device(8, Some(1)));
        assert_eq!(listed.use_by(&[9, 8], 600, nobody), found);
        // From within a container: nobody, or strangers' numbers.
        assert_eq!(devices("", 900).use_by(&[8], 400, nobody), Use::Risen(500));
        assert_eq!(
            devices("7, 500 MiB", 900).use_by(&[8], 400, nobody),
            Use::Risen(500)
        );
        let unused = |listed, risen_mib| Use::None { listed, risen_mib };
        assert_eq!(
            devices("", 400).use_by(&[8], 400, nobody),
            unused(vec![], 0)
        );
        assert_eq!(
            devices("", 300).use_by(&[8], 400, nobody),
            unused(vec![], 0)
        );
        // Whose number is in our table is told as it is, so that others' memory proves nothing.
        let others = devices("7, 500 MiB", 900);
        assert_eq!(
            others.use_by(&[8], 400, |pid| pid == 7),
            unused(vec![7], 500)
        );
    }

    #[test]
    fn what_was_taken_has_to_come_back() {
        let observation = |seen, used_mib| DeviceObservation {
            seen,
            devices: devices("", used_mib),
            pids: vec![8],
        };
        let listed = observation(Use::Listed(on_device(8, Some(500))), 900);
        assert_eq!(listed.still_taken(&devices("7, 1 MiB", 900)), None);
        let left = listed.still_taken(&devices("8, 500 MiB", 900)).unwrap();
        assert_eq!(left, "pid 8 still has 500 MiB");
        let risen = observation(Use::Risen(500), 900);
        assert_eq!(risen.still_taken(&devices("", 420)), None);
        let left = risen.still_taken(&devices("", 880)).unwrap();
        assert!(left.contains("only 20 MiB"), "{left}");
    }
}
