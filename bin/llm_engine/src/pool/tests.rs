//! That jobs are shared, finished and given up as the pool promises.

use std::sync::atomic::AtomicUsize;

use super::*;

fn pools() -> impl Iterator<Item = Pool> {
    [1, 2, 5]
        .into_iter()
        .map(|threads| Pool::new(threads).expect("threads can be started"))
}

#[test]
fn every_task_is_called_exactly_once() {
    for pool in pools() {
        for tasks in [0, 1, 2, 3, 100, 1000] {
            let calls: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, |number| {
                calls[number].fetch_add(1, Ordering::Relaxed);
            });
            let calls: Vec<_> = calls.into_iter().map(AtomicUsize::into_inner).collect();
            assert_eq!(calls, vec![1; tasks]);
        }
    }
}

#[test]
fn jobs_follow_each_other_at_any_pace() {
    for pool in pools() {
        let sum = AtomicUsize::new(0);
        for job in 0..2000 {
            pool.run(7, |number| {
                sum.fetch_add(number, Ordering::Relaxed);
            });
            if job % 500 == 0 {
                // Longer than anyone spins: the next job must wake them.
                std::thread::sleep(SPIN_FOR_WORK * 5);
            }
        }
        assert_eq!(sum.into_inner(), 2000 * 21);
    }
}

#[test]
fn the_caller_waits_for_a_task_that_takes_long() {
    for pool in pools() {
        let slow = AtomicUsize::new(0);
        pool.run(4, |_| {
            std::thread::sleep(SPIN_FOR_END * 100);
            slow.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(slow.into_inner(), 4);
    }
}

#[test]
fn a_panic_reaches_the_caller_after_the_other_tasks_and_the_pool_goes_on() {
    for pool in pools() {
        for panicking in [0, 5, 9] {
            let others = AtomicUsize::new(0);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(10, |number| {
                    assert_ne!(number, panicking, "task {number} fails");
                    others.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let panic = outcome.expect_err("the panic is not swallowed");
            let message = panic.downcast_ref::<String>().expect("a formatted message");
            assert!(
                message.contains(&format!("task {panicking} fails")),
                "{message}"
            );
            if pool.threads() > 1 {
                assert_eq!(others.into_inner(), 9);
            }
        }
        let calls = AtomicUsize::new(0);
        pool.run(10, |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls.into_inner(), 10);
    }
}

#[test]
fn callers_from_several_threads_take_turns() {
    let pool = Pool::new(3).expect("threads can be started");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let calls = AtomicUsize::new(0);
                    pool.run(5, |_| {
                        calls.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(calls.into_inner(), 5);
                }
            });
        }
    });
}

#[test]
fn pieces_cover_the_whole_without_overlap() {
    for pool in pools() {
        for (total, length) in [(0, 3), (1, 3), (10, 3), (12, 3), (1000, 1)] {
            let mut data = vec![0; total];
            pool.for_pieces(&mut data, length, |number, piece| {
                for (at, value) in piece.iter_mut().enumerate() {
                    *value += number * length + at + 1;
                }
            });
            assert_eq!(data, (1..=total).collect::<Vec<_>>());
        }
    }
}
