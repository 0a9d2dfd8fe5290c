//! How the engine's work is spread over cores.
//!
//! candle's own pool makes all of its threads meet after every matrix. Where one of them isn't
//! given a core at once, because the machine has other work too, all of them wait for it, some
//! hundred times a token: 60 tokens a second become 2. So candle is told to use one thread, and
//! matrices are cut into parts that work-stealing threads share: whoever has a core does the work.

use anyhow::{Context, Result};
use candle_core::Device;
use candle_core::utils::{barrier_pool, get_num_threads};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// candle reads this once, when it first multiplies.
const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";

/// Takes the spreading of work away from candle, which only listens to the environment. Without
/// this call the engine works, but slows down on a busy machine.
///
/// # Safety
///
/// No other thread may exist: call it first in `main`.
#[allow(unsafe_code, reason = "the only way to tell candle")]
pub unsafe fn claim_threads() {
    // SAFETY: the caller promises that nobody else reads the environment meanwhile.
    unsafe { std::env::set_var(CANDLE_THREADS, "1") };
}

/// The threads that compute: as many as were asked for, else as many as there are cores to use.
pub(super) fn pool(threads: Option<usize>) -> Result<ThreadPool> {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.unwrap_or_else(|| get_num_threads().min(usable));
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("engine-{number}"))
        .build()
        .with_context(|| format!("cannot start {threads} threads to compute with"))
}

/// Into how many parts matrices are best cut.
pub(super) fn parts(device: &Device) -> usize {
    // Whoever didn't call `claim_threads` has candle's pool, which does one matrix at a time.
    if device.is_cpu() && barrier_pool().n_workers() == 0 {
        rayon::current_num_threads()
    } else {
        1
    }
}
