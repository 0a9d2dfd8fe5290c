//! How much memory there is for the cache.

use std::fs::read_to_string;

/// Where the system doesn't say.
const UNKNOWN: u64 = 4 << 30;

/// Bytes that can be used without taking them from others, as far as the system tells: what is
/// free, or what is left of this process's own limit.
pub fn available_bytes() -> u64 {
    let machine = read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| of_machine(&text));
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or(0);
    let own = limit.map(|limit| limit.saturating_sub(used));
    machine.unwrap_or(UNKNOWN).min(own.unwrap_or(u64::MAX))
}

fn number(path: &str) -> Option<u64> {
    read_to_string(path).ok()?.trim().parse().ok()
}

/// From a line such as `MemAvailable:   12345 kB`.
fn of_machine(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_words_are_read() {
        let text = "MemTotal:       24576 kB\nMemAvailable:   12345 kB\nBuffers: 1 kB\n";
        assert_eq!(of_machine(text), Some(12345 * 1024));
        assert_eq!(of_machine("MemTotal: 1 kB"), None);
    }
}
