//! Locks that outlive a panic: what a thread left behind when it panicked is still the best that there is.

use std::sync::{Mutex, MutexGuard};

/// Locks, whatever became of the last who did.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_keep_others_out() {
        let mutex = Mutex::new(1);
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let _held = lock(&mutex);
                panic!("while it is held");
            });
            assert!(panics.join().is_err());
        });
        assert_eq!(*lock(&mutex), 1);
    }
}
