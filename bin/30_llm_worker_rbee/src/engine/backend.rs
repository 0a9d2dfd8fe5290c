//! Which device computes. What was asked for is what is used, or it is an error: never another.

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU; needs a build with the feature `cuda`.
    Cuda,
    /// An Apple GPU; needs a build with the feature `metal`.
    Metal,
}

/// Opens a device.
pub(super) fn open(backend: Backend, number: u32) -> Result<Device> {
    match backend {
        Backend::Cpu => {
            ensure!(
                number == 0,
                "there is no cpu device {number}: the cpu is device 0"
            );
            Ok(Device::Cpu)
        }
        Backend::Cuda if !candle_core::utils::cuda_is_available() => bail!(
            "this worker was built without cuda: build it with `--features cuda`, or use \
             `--backend cpu`"
        ),
        Backend::Cuda => Device::new_cuda(number as usize)
            .map_err(first_line)
            .with_context(|| format!("no cuda device {number} here (`nvidia-smi -L` lists them)")),
        Backend::Metal if !candle_core::utils::metal_is_available() => bail!(
            "this worker was built without metal: build it on macOS with `--features metal`, or \
             use `--backend cpu`"
        ),
        Backend::Metal => Device::new_metal(number as usize)
            .map_err(first_line)
            .with_context(|| format!("no metal device {number} here")),
    }
}

/// What the driver calls the device.
#[cfg(feature = "cuda")]
pub(super) fn cuda_name(device: &Device) -> Option<String> {
    let device = device.as_cuda_device().ok()?;
    device.cuda_stream().context().name().ok()
}

/// A build without cuda has no such device.
#[cfg(not(feature = "cuda"))]
pub(super) fn cuda_name(_device: &Device) -> Option<String> {
    None
}

/// The library's errors carry a backtrace in their text, where one was asked for.
pub(super) fn first_line(error: candle_core::Error) -> anyhow::Error {
    let text = error.to_string();
    anyhow::Error::msg(
        text.lines()
            .next()
            .unwrap_or("unknown error")
            .trim()
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_one_device() {
        assert!(open(Backend::Cpu, 0).is_ok());
        let error = open(Backend::Cpu, 1).unwrap_err().to_string();
        assert!(error.contains("cpu device 1"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_backend_that_the_build_lacks_is_refused_with_the_way_to_get_it() {
        let error = open(Backend::Cuda, 0).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
