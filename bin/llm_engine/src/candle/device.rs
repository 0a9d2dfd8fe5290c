//! Which device computes. What was asked for is what is used, or it is an error: never another.

use anyhow::{Context, Result};
use candle_core::{Device, DeviceLocation};

use super::super::backend::Backend;

/// Opens a device.
pub fn open(backend: Backend, number: u32) -> Result<Device> {
    match backend {
        Backend::Cpu => Ok(Device::Cpu),
        Backend::Cuda => Device::new_cuda(number as usize)
            .map_err(first_line)
            .with_context(|| format!("no cuda device {number} here (`nvidia-smi -L` lists them)")),
        Backend::Metal => Device::new_metal(number as usize)
            .map_err(first_line)
            .with_context(|| format!("no metal device {number} here")),
    }
}

/// What people call it.
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => match cuda_name(device) {
            Some(name) => format!("cuda {gpu_id} ({name})"),
            None => format!("cuda {gpu_id}"),
        },
        DeviceLocation::Metal { gpu_id } => format!("metal {gpu_id}"),
    }
}

/// What the driver calls the device.
#[cfg(feature = "cuda")]
fn cuda_name(device: &Device) -> Option<String> {
    let device = device.as_cuda_device().ok()?;
    device.cuda_stream().context().name().ok()
}

/// A build without cuda has no such device.
#[cfg(not(feature = "cuda"))]
fn cuda_name(_device: &Device) -> Option<String> {
    None
}

/// The library's errors carry a backtrace in their text, where one was asked for.
fn first_line(error: candle_core::Error) -> anyhow::Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or("unknown error");
    anyhow::Error::msg(line.trim().to_owned())
}
