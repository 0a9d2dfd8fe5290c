//! What a backend needs of the machine, and whether it is there: asked before anything is built.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::tasks::worker::config::Backend;
use crate::tasks::worker::process::tool;

/// How long one tool may take to answer. `nvidia-smi` wakes sleeping devices first.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Where the driver shows its devices: of Linux, of a Jetson, of Windows' Linux.
const DEVICE_FILES: [&str; 3] = ["/dev/nvidia0", "/dev/nvhost-gpu", "/dev/dxg"];

/// Where the driver of Linux lists its devices, one folder each.
const DRIVER_LIST: &str = "/proc/driver/nvidia/gpus";

/// Variables that name a CUDA toolkit's folder.
const TOOLKITS: [&str; 3] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];

/// Where toolkits are installed when nobody says otherwise.
const DEFAULT_TOOLKIT: &str = "/usr/local/cuda";

/// What was found for CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CudaFound {
    /// How many devices `nvidia-smi` lists, or why it doesn't say.
    devices: Result<usize, String>,
    /// Whether the driver shows a device by itself.
    device_file: bool,
    /// Whether the compiler is there.
    nvcc: bool,
}

/// What this machine lacks for a backend, if it lacks something: the tool or the device by name.
pub fn missing(backend: Backend, builds: bool) -> Option<String> {
    match backend {
        Backend::Cpu => None,
        Backend::Cuda => missing_for_cuda(&look_for_cuda(), builds),
        Backend::Metal if cfg!(target_os = "macos") => None,
        Backend::Metal => Some(format!(
            "no Metal device: Metal is macOS's, and this is {}",
            std::env::consts::OS
        )),
    }
}

fn look_for_cuda() -> CudaFound {
    let mut list = Command::new("nvidia-smi");
    list.arg("--list-gpus");
    let devices = match tool::ask(list, ANSWER_LIMIT) {
        Ok((status, answer)) if status.success() => Ok(count_devices(&answer)),
        Ok((status, answer)) => Err(format!("says `{}` ({status})", answer.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(String::from("is not there"))
        }
        Err(error) => Err(format!("does not answer: {error}")),
    };
    let listed = std::fs::read_dir(DRIVER_LIST).is_ok_and(|mut list| list.next().is_some());
    CudaFound {
        devices,
        device_file: listed || DEVICE_FILES.iter().any(|file| Path::new(file).exists()),
        nvcc: has_nvcc(),
    }
}

/// Lines like `GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-...)`; instances of a shared device are
/// indented below it.
fn count_devices(list: &str) -> usize {
    list.lines().filter(|line| line.starts_with("GPU ")).count()
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
fn missing_for_cuda(found: &CudaFound, builds: bool) -> Option<String> {
    let mut lacks = Vec::new();
    let device = match &found.devices {
        Ok(0) if !found.device_file => Some(String::from("lists none")),
        Err(why) if !found.device_file => Some(why.clone()),
        _ => None,
    };
    if let Some(why) = device {
        lacks.push(format!(
            "no NVIDIA device: nvidia-smi {why}, and the driver shows none in {DRIVER_LIST} or /dev"
        ));
    }
    if builds && !found.nvcc {
        lacks.push(String::from(
            "no CUDA compiler to build the worker with: nvcc is neither in PATH nor in CUDA_HOME",
        ));
    }
    (!lacks.is_empty()).then(|| lacks.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(devices: Result<usize, &str>, device_file: bool, nvcc: bool) -> CudaFound {
        CudaFound {
            devices: devices.map_err(str::to_owned),
            device_file,
            nvcc,
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let absent = Err("is not there");
        let all = missing_for_cuda(&found(absent, false, false), true).unwrap();
        assert!(all.contains("no NVIDIA device") && all.contains("nvidia-smi is not there"));
        assert!(all.contains("nvcc"), "{all}");
        let device = missing_for_cuda(&found(Ok(0), false, true), true).unwrap();
        assert!(device.contains("lists none") && !device.contains("nvcc"));
        let compiler = missing_for_cuda(&found(Ok(1), true, false), true).unwrap();
        assert!(compiler.contains("nvcc") && !compiler.contains("device"));
    }

    #[test]
    fn a_worker_that_is_given_needs_no_compiler_and_a_driver_no_tool() {
        assert_eq!(missing_for_cuda(&found(Ok(2), false, false), false), None);
        let only_driver = found(Err("is not there"), true, true);
        assert_eq!(missing_for_cuda(&only_driver, true), None);
        assert_eq!(missing(Backend::Cpu, true), None);
    }

    #[test]
    fn devices_are_counted_and_their_parts_are_not() {
        let list = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)";
        assert_eq!(count_devices(list), 2);
        assert_eq!(count_devices("No devices found."), 0);
    }
}
