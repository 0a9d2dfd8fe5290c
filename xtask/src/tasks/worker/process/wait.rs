//! The one loop that waits: it looks again and again, until what it waits for is there or its deadline
//! has passed.
//!
//! Whatever a run waits for goes through its stop flag, in `stop`. Clean-up has to wait after that has
//! been raised, and waits here.

use std::time::{Duration, Instant};

/// Whether `holds` became true within `limit`.
pub fn wait_until(limit: Duration, interval: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if holds() {
            return true;
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(interval.min(left));
    }
}
