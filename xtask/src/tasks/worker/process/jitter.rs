//! How late this very process is woken up: what excuses a worker that was late at the same moment,
//! because the machine was. And whether the machine's wall clock was set meanwhile, which excuses what
//! a worker reads on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

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
    clocks: Arc<Mutex<Clocks>>,
}

/// How far the wall clock was from the one that only goes on, at the least and at the most.
#[derive(Debug, Default)]
struct Clocks {
    apart_s: Option<(f64, f64)>,
}

/// When this process fell asleep, and how much too late it was woken up.
type LateWakeUp = (Instant, Duration);

impl JitterWatch {
    /// Begins to watch.
    pub fn start() -> Self {
        let watch = Self {
            done: Arc::default(),
            late: Arc::default(),
            clocks: Arc::default(),
        };
        let (done, late) = (Arc::clone(&watch.done), Arc::clone(&watch.late));
        let (clocks, began) = (Arc::clone(&watch.clocks), Instant::now());
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let asleep = Instant::now();
                std::thread::sleep(NAP);
                lock(&clocks).look(began);
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

    /// By how much the wall clock was set since this began.
    pub fn clock_set_by(&self) -> Duration {
        lock(&self.clocks).set_by()
    }

    /// How long something took, less what was lost in that time.
    pub fn excess(&self, from: Instant, took: Duration) -> Duration {
        took.saturating_sub(self.between(from, from + took))
    }
}

impl Clocks {
    fn look(&mut self, began: Instant) {
        let before = began.elapsed();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Where we were held up between the two, they say nothing.
        if began.elapsed().saturating_sub(before) < WORTH_NOTING {
            self.note(wall.unwrap_or_default().as_secs_f64() - before.as_secs_f64());
        }
    }

    fn note(&mut self, apart_s: f64) {
        let (least, most) = self.apart_s.unwrap_or((apart_s, apart_s));
        self.apart_s = Some((least.min(apart_s), most.max(apart_s)));
    }

    fn set_by(&self) -> Duration {
        let (least, most) = self.apart_s.unwrap_or_default();
        Duration::from_secs_f64((most - least).max(0.0))
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
    fn a_clock_that_was_set_there_and_back_was_set() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.set_by(), Duration::ZERO);
        for apart_s in [5.0, 5.001, 4.999] {
            clocks.note(apart_s);
        }
        assert!(clocks.set_by() < WORTH_NOTING);
        for apart_s in [3605.0, 5.0] {
            clocks.note(apart_s);
        }
        assert_eq!(clocks.set_by().as_secs(), 3600);
    }

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
