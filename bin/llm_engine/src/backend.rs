//! Which device computes. What was asked for is what is used, or it is an error: never another.

use anyhow::{Result, bail, ensure};

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

/// Refuses a device that can't exist, or that this build can't use.
pub(super) fn check(backend: Backend, number: u32) -> Result<()> {
    match backend {
        Backend::Cpu => ensure!(
            number == 0,
            "there is no cpu device {number}: the cpu is device 0"
        ),
        Backend::Cuda if !cfg!(feature = "cuda") => bail!(
            "this worker was built without cuda: build it with `--features cuda`, or use \
             `--backend cpu`"
        ),
        Backend::Metal if !cfg!(feature = "metal") => bail!(
            "this worker was built without metal: build it on macOS with `--features metal`, or \
             use `--backend cpu`"
        ),
        Backend::Cuda | Backend::Metal => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_one_device() {
        assert!(check(Backend::Cpu, 0).is_ok());
        let error = check(Backend::Cpu, 1).unwrap_err().to_string();
        assert!(error.contains("cpu device 1"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_backend_that_the_build_lacks_is_refused_with_the_way_to_get_it() {
        let error = check(Backend::Cuda, 0).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
