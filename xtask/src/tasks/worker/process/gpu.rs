//! Graphics processors: which are there, what they are computing, and what a backend that needs one
//! lacks on this machine. The only place that asks for them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{platform, tool};
use crate::tasks::worker::record::backend::Backend;

/// How long one tool may take to answer. `nvidia-smi` wakes sleeping devices first.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What is asked of each device. Its name comes last, because it may have commas in it.
const QUERY: &str = "--query-gpu=index,memory.used,memory.total,driver_version,name";

/// Restricts and renumbers the devices that a program sees.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Variables that name a CUDA toolkit's folder.
const TOOLKITS: [&str; 3] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];

/// Where toolkits are installed when nobody says otherwise.
const DEFAULT_TOOLKIT: &str = "/usr/local/cuda";

/// A device, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// "NVIDIA A100, PCIe, 40GB".
    pub name: String,
    /// Its memory, in the driver's words.
    pub memory: String,
    /// Memory that is taken; `None` where the driver doesn't count it.
    pub used_mib: Option<u64>,
    /// The driver's version.
    pub driver: String,
}

/// A process that has memory on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDevice {
    /// Its number, as the driver sees it: from within a container that may be another one.
    pub pid: u32,
    /// Its memory there; `None` where the driver doesn't tell.
    pub used_mib: Option<u64>,
}

/// What was found for CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CudaFound {
    /// The devices that the driver's tool lists, or why it lists none.
    devices: Result<Vec<Device>, String>,
    /// Whether the driver shows a device by itself.
    has_node: bool,
    /// Whether the compiler is there.
    nvcc: bool,
    /// Whether devices have other numbers for programs than for the driver.
    renumbered: bool,
}

/// The devices that the NVIDIA driver lists. Fails where its tool isn't there or says nothing.
pub fn devices() -> Result<Vec<Device>> {
    parse_devices(&nvidia_smi(QUERY)?)
}

/// The processes that compute on NVIDIA devices.
pub fn computing() -> Result<Vec<OnDevice>> {
    Ok(parse_computing(&nvidia_smi(
        "--query-compute-apps=pid,used_memory",
    )?))
}

/// Whether no program can compute with this backend here, whatever it was built for: neither the
/// system nor a driver shows a device.
pub fn is_surely_absent(backend: Backend) -> bool {
    match backend {
        Backend::Cpu => false,
        Backend::Metal => !platform::HAS_METAL,
        Backend::Cuda => {
            !has_node() && platform::SHOWS_GPUS && devices().map_or(true, |all| all.is_empty())
        }
    }
}

/// What this machine lacks for device number `device` of a backend, and how to get it; `None` where
/// nothing is known to be missing. `builds` is whether the worker has to be compiled first.
pub fn missing(backend: Backend, device: u32, builds: bool) -> Option<String> {
    match backend {
        Backend::Cpu => None,
        Backend::Cuda => missing_for_cuda(&look_for_cuda(builds), device, builds),
        Backend::Metal if platform::HAS_METAL => None,
        Backend::Metal => Some(format!(
            "no Metal device: Metal exists only on macOS, and this is {}\n  try: --backend cpu, or run this on a Mac",
            std::env::consts::OS
        )),
    }
}

fn look_for_cuda(builds: bool) -> CudaFound {
    CudaFound {
        devices: devices().map_err(|error| format!("{error:#}")),
        has_node: has_node(),
        nvcc: builds && has_nvcc(),
        renumbered: std::env::var_os(VISIBLE).is_some(),
    }
}

/// Whether the driver shows a device without being asked.
fn has_node() -> bool {
    let listed = |folder: &&str| {
        let list = std::fs::read_dir(folder);
        list.is_ok_and(|mut list| list.next().is_some())
    };
    let exists = |file: &&str| Path::new(file).exists();
    platform::GPU_LISTS.iter().any(listed) || platform::GPU_NODES.iter().any(exists)
}

fn has_nvcc() -> bool {
    let mut version = Command::new("nvcc");
    version.arg("--version");
    if tool::ask(version, ANSWER_LIMIT).is_ok_and(|(status, _)| status.success()) {
        return true;
    }
    let named = TOOLKITS.iter().filter_map(std::env::var_os);
    let folders = named.map(PathBuf::from);
    let name = format!("nvcc{}", std::env::consts::EXE_SUFFIX);
    folders
        .chain([PathBuf::from(DEFAULT_TOOLKIT)])
        .any(|folder| folder.join("bin").join(&name).is_file())
}

/// The judgement alone.
fn missing_for_cuda(found: &CudaFound, device: u32, builds: bool) -> Option<String> {
    let mut lacks = Vec::new();
    if builds && !found.nvcc {
        lacks.push(String::from(
            "no CUDA compiler to build the worker with: nvcc is neither in PATH nor in CUDA_HOME\n  get it: the CUDA toolkit, from your distribution (Debian: nvidia-cuda-toolkit) or from https://developer.nvidia.com/cuda-downloads",
        ));
    }
    match &found.devices {
        Err(why) if !found.has_node => lacks.push(format!(
            "no NVIDIA driver and no NVIDIA device: {why}, and the system shows none\n  get it: a machine with an NVIDIA GPU and its driver, from https://www.nvidia.com/drivers; in a container, start it with --gpus all"
        )),
        Ok(all) if all.is_empty() && !found.has_node => lacks.push(String::from(
            "no NVIDIA device: the driver is there and lists none\n  get it: a machine with an NVIDIA GPU; in a container, start it with --gpus all",
        )),
        Ok(all)
            if !found.renumbered
                && !all.is_empty()
                && all.iter().all(|known| known.index != device) =>
        {
            let known: Vec<String> = all
                .iter()
                .map(|known| format!("{} ({})", known.index, known.name))
                .collect();
            lacks.push(format!(
                "no NVIDIA device {device}: there is {}\n  try: --device {}",
                known.join(", "),
                all[0].index
            ));
        }
        // A driver shows a device that its tool doesn't tell of: the worker will find out.
        _ => {}
    }
    (!lacks.is_empty()).then(|| lacks.join("\n"))
}

fn nvidia_smi(query: &str) -> Result<String> {
    let mut command = Command::new("nvidia-smi");
    command.args([query, "--format=csv,noheader"]);
    let (status, answer) = match tool::ask(command, ANSWER_LIMIT) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            anyhow::bail!("the driver's tool nvidia-smi is not there")
        }
        asked => asked.context("the driver's tool nvidia-smi doesn't answer")?,
    };
    let said = answer.lines().next().unwrap_or_default();
    ensure!(status.success(), "nvidia-smi says `{said}` ({status})");
    Ok(answer)
}

/// One device a line, fields with commas between, the name last.
fn parse_devices(answer: &str) -> Result<Vec<Device>> {
    let lines = answer.lines().filter(|line| line.contains(','));
    let device = |line: &str| {
        read_device(line).with_context(|| format!("nvidia-smi describes a device as `{line}`"))
    };
    lines.map(device).collect()
}

fn read_device(line: &str) -> Option<Device> {
    let mut fields = line.splitn(5, ',').map(|field| field.trim().to_owned());
    Some(Device {
        index: fields.next()?.parse().ok()?,
        used_mib: mebibytes(&fields.next()?),
        memory: fields.next()?,
        driver: fields.next()?,
        name: fields.next()?,
    })
}

/// One process a line.
fn parse_computing(answer: &str) -> Vec<OnDevice> {
    let process = |line: &str| {
        let (pid, used) = line.split_once(',').unwrap_or((line, ""));
        // Or else: "No running processes found", "[Not Supported]".
        let pid = pid.trim().parse().ok()?;
        Some(OnDevice {
            pid,
            used_mib: mebibytes(used),
        })
    };
    answer.lines().filter_map(process).collect()
}

/// "512 MiB"; `None` for "[N/A]" and the like.
fn mebibytes(text: &str) -> Option<u64> {
    text.trim().trim_end_matches("MiB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "0, 412 MiB, 40960 MiB, 550.1, NVIDIA A100, PCIe, 40GB\n1, [N/A], 15360 MiB, 550.1, NVIDIA T4\n";

    fn found(devices: Result<&str, &str>, has_node: bool, nvcc: bool) -> CudaFound {
        CudaFound {
            devices: devices
                .map(|text| parse_devices(text).unwrap())
                .map_err(str::to_owned),
            has_node,
            nvcc,
            renumbered: false,
        }
    }

    #[test]
    fn names_may_have_commas_and_memory_may_not_be_told() {
        let devices = parse_devices(TWO).unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["NVIDIA A100, PCIe, 40GB", "NVIDIA T4"]);
        assert_eq!(
            (devices[0].used_mib, devices[1].used_mib),
            (Some(412), None)
        );
        assert_eq!(devices[0].memory, "40960 MiB");
        assert_eq!(parse_devices("No devices were found\n").unwrap(), []);
        assert!(parse_devices("zero, one").is_err());
        let computing = parse_computing("4242, 512 MiB\n77, [N/A]\n[Not Supported]\n");
        let of = |pid, used_mib| OnDevice { pid, used_mib };
        assert_eq!(computing, [of(4242, Some(512)), of(77, None)]);
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_to_get_it() {
        let absent = Err("the driver's tool nvidia-smi is not there");
        let all = missing_for_cuda(&found(absent, false, false), 0, true).unwrap();
        for part in [
            "no CUDA compiler",
            "no NVIDIA driver",
            "nvidia-cuda-toolkit",
        ] {
            assert!(all.contains(part), "{all}");
        }
        assert_eq!(all.matches("get it:").count(), 2, "{all}");
        let device = missing_for_cuda(&found(Ok(""), false, true), 0, true).unwrap();
        assert!(
            device.contains("no NVIDIA device") && !device.contains("nvcc"),
            "{device}"
        );
        let compiler = missing_for_cuda(&found(Ok(TWO), true, false), 0, true).unwrap();
        assert!(
            compiler.contains("nvcc") && !compiler.contains("device"),
            "{compiler}"
        );
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_those_that_are() {
        let lacks = missing_for_cuda(&found(Ok(TWO), true, true), 7, true).unwrap();
        let expected = "no NVIDIA device 7: there is 0 (NVIDIA A100, PCIe, 40GB), 1 (NVIDIA T4)";
        assert!(lacks.starts_with(expected), "{lacks}");
        assert_eq!(missing_for_cuda(&found(Ok(TWO), true, true), 1, true), None);
        let mut renumbered = found(Ok(TWO), true, true);
        renumbered.renumbered = true;
        assert_eq!(missing_for_cuda(&renumbered, 7, true), None);
    }

    #[test]
    fn a_worker_that_is_given_needs_no_compiler_and_a_driver_no_tool() {
        assert_eq!(
            missing_for_cuda(&found(Ok(TWO), false, false), 0, false),
            None
        );
        let only_driver = found(Err("is not there"), true, true);
        assert_eq!(missing_for_cuda(&only_driver, 0, true), None);
        assert_eq!(missing(Backend::Cpu, 0, true), None);
    }
}
