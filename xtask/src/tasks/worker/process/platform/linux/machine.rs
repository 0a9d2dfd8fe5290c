//! Linux: what this machine is, out of files.

use std::fs::read_to_string;

use crate::tasks::worker::process::platform::kinds::Ask;

/// Its name.
pub fn host(_ask: Ask) -> Option<String> {
    trimmed("/proc/sys/kernel/hostname")
}

/// The version of its kernel.
pub fn kernel(_ask: Ask) -> Option<String> {
    trimmed("/proc/sys/kernel/osrelease")
}

/// What its system calls itself.
pub fn os(_ask: Ask) -> Option<String> {
    let release = read_to_string("/etc/os-release").ok()?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Its processor.
pub fn cpu(_ask: Ask) -> Option<String> {
    let info = read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// How much memory it has.
pub fn memory_bytes(_ask: Ask) -> Option<u64> {
    let info = read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

fn trimmed(path: &str) -> Option<String> {
    Some(read_to_string(path).ok()?.trim().to_owned())
}
