//! How late this very process is woken up: what excuses a worker that was late at the same moment,
//! because the machine was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock::lock;

/// How long the watcher sleeps each time.
const NAP: Duration = Duration::from_millis(5);

/// Less than this is what every machine does.
const WORTH_NOTING: Duration = Duration::from_millis(10);

/// A thread that does nothing but sleep and look at the clock, until this is dropped.
#[derive(Debug)]
pub struct JitterWatch {
    done: Arc<AtomicBool>,
    late: Arc<Mutex<Vec<LateWakeUp>>>,
}

/// When this process fell asleep, and how much too late it was woken up.
type LateWakeUp = (Instant, Duration);

impl JitterWatch {
    /// Begins to watch.
    pub fn start() -> Self {
        let watch = Self {
            done: Arc::default(),
            late: Arc::default(),
        };
        let (done, late) = (Arc::clone(&watch.done), Arc::clone(&watch.late));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::sleep(NAP);
                let jitter = asleep.elapsed().saturating_sub(NAP);
                if jitter >= WORTH_NOTING {
                    lock(&late).push((asleep, jitter));
                }
            }
        });
        watch
    }

    /// How much was lost between two moments.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        sum_between(&lock(&self.late), from, to)
    }

    /// How long something took, less what was lost in that time.
    pub fn excess(&self, from: Instant, took: Duration) -> Duration {
        took.saturating_sub(self.between(from, from + took))
    }
}

impl Drop for JitterWatch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

fn sum_between(late: &[LateWakeUp], from: Instant, to: Instant) -> Duration {
    let inside = late
        .iter()
        .filter(|(at, jitter)| *at <= to && *at + *jitter >= from);
    inside.map(|(_, jitter)| *jitter).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_overlaps_counts() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let late = |ms| Duration::from_millis(ms);
        let wake_ups = [(at(100), late(20)), (at(200), late(50))];
        assert_eq!(sum_between(&wake_ups, at(0), at(90)), Duration::ZERO);
        assert_eq!(sum_between(&wake_ups, at(110), at(150)), late(20));
        assert_eq!(sum_between(&wake_ups, at(0), at(300)), late(70));
    }
}
