//! macOS: what this machine is, asked of its own programs.

use crate::tasks::worker::process::tool::answer;

/// Its name.
pub fn host() -> Option<String> {
    answer("hostname", &[])
}

/// The version of its kernel.
pub fn kernel() -> Option<String> {
    answer("uname", &["-r"])
}

/// What its system calls itself.
pub fn os() -> Option<String> {
    let version = answer("sw_vers", &["-productVersion"])?;
    Some(format!("macOS {version}"))
}

/// Its processor.
pub fn cpu() -> Option<String> {
    answer("sysctl", &["-n", "machdep.cpu.brand_string"])
}

/// How much memory it has.
pub fn memory_bytes() -> Option<u64> {
    answer("sysctl", &["-n", "hw.memsize"])?.parse().ok()
}
