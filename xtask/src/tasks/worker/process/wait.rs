//! The one loop that waits: it looks again and again, until what it waits for is there or its deadline
//! has passed.
//!
//! Whatever a run waits for goes through its stop flag, in `stop`. Clean-up has to wait after that has
//! been raised, and waits here.

use std::time::{Duration, Instant};

/// Less than this is what every machine does to who sleeps.
const WORTH_EXCUSING: Duration = Duration::from_millis(10);

/// A wait is prolonged to so many times its limit at most.
const MOST_TIMES: u32 = 2;

/// Whether `holds` became true within `limit`.
pub fn wait_until(limit: Duration, interval: Duration, holds: impl FnMut() -> bool) -> bool {
    wait(limit, interval, false, holds)
}

/// The same, where the time in which we ourselves were woken up too late doesn't count: on a machine
/// that is so busy what we wait for is late for the same reason.
pub fn wait_patiently(limit: Duration, interval: Duration, holds: impl FnMut() -> bool) -> bool {
    wait(limit, interval, true, holds)
}

fn wait(
    limit: Duration,
    interval: Duration,
    is_patient: bool,
    mut holds: impl FnMut() -> bool,
) -> bool {
    let began = Instant::now();
    let mut excused = Duration::ZERO;
    loop {
        if holds() {
            return true;
        }
        let left = (limit.saturating_add(excused)).saturating_sub(began.elapsed());
        if left.is_zero() {
            return false;
        }
        let (nap, asleep) = (interval.min(left), Instant::now());
        std::thread::sleep(nap);
        let late = asleep.elapsed().saturating_sub(nap);
        if is_patient && late >= WORTH_EXCUSING {
            excused = (excused + late).min(limit.saturating_mul(MOST_TIMES - 1));
        }
    }
}
