//! Windows: what this machine is, out of the environment and by one call.

use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

use crate::tasks::worker::process::platform::kinds::Ask;

/// Its name.
pub fn host(_ask: Ask) -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// The kernel has no version of its own here.
pub fn kernel(_ask: Ask) -> Option<String> {
    None
}

/// "Microsoft Windows [Version 10.0.22631.4317]".
pub fn os(ask: Ask) -> Option<String> {
    ask("cmd", &["/c", "ver"]).map(|text| text.trim().to_owned())
}

/// Its processor.
pub fn cpu(_ask: Ask) -> Option<String> {
    std::env::var("PROCESSOR_IDENTIFIER").ok()
}

/// How much memory it has.
#[allow(unsafe_code)]
pub fn memory_bytes(_ask: Ask) -> Option<u64> {
    let mut memory = MEMORYSTATUSEX {
        dwLength: size_of::<MEMORYSTATUSEX>() as u32,
        ..Default::default()
    };
    // SAFETY: the pointer is to a local of the size that it names.
    let told = unsafe { GlobalMemoryStatusEx(&raw mut memory) };
    (told != 0).then_some(memory.ullTotalPhys)
}
