//! macOS: what this machine is, asked of its own programs.

use crate::tasks::worker::process::platform::kinds::Ask;

/// Its name.
pub fn host(ask: Ask) -> Option<String> {
    ask("hostname", &[])
}

/// The version of its kernel.
pub fn kernel(ask: Ask) -> Option<String> {
    ask("uname", &["-r"])
}

/// What its system calls itself.
pub fn os(ask: Ask) -> Option<String> {
    let version = ask("sw_vers", &["-productVersion"])?;
    Some(format!("macOS {version}"))
}

/// Its processor.
pub fn cpu(ask: Ask) -> Option<String> {
    ask("sysctl", &["-n", "machdep.cpu.brand_string"])
}

/// How much memory it has.
pub fn memory_bytes(ask: Ask) -> Option<u64> {
    ask("sysctl", &["-n", "hw.memsize"])?.parse().ok()
}
