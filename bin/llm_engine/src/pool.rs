//! The threads that compute.
//!
//! A job is a number of tasks. Tasks are taken, not assigned: whoever has a core takes the next
//! one, so a thread that isn't given a core costs its share and no more. Threads that have nothing
//! to do spin for a short while, because the next job is usually microseconds away, and then park,
//! because spinning keeps the very core busy that a delayed thread waits for.

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long a worker looks for the next job before it parks.
const SPIN_FOR_WORK: Duration = Duration::from_micros(200);
/// How long the caller looks for the end of the last tasks before it parks.
const SPIN_FOR_END: Duration = Duration::from_micros(50);

type Task<'a> = &'a (dyn Fn(usize) + Sync);

/// Threads that share out the tasks of one job at a time. The calling thread is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs: there is room for one.
    turn: Mutex<()>,
}

/// Keeps what one thread writes all the time off the cache line of another.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// The job's number in the upper half, how many of its tasks nobody has taken in the lower.
    open: Apart<AtomicU64>,
    /// How many of the job's tasks have not ended.
    unfinished: Apart<AtomicU32>,
    job: UnsafeCell<Option<(Task<'static>, u32)>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    work: Bell,
    end: Bell,
}

// SAFETY: everything is made for sharing but `job`, which is written only while no task of it is
// open or unfinished, and read only by a thread that has taken one of its tasks.
#[allow(unsafe_code, reason = "above")]
unsafe impl Sync for Shared {}
// SAFETY: a task may be called from any thread.
#[allow(unsafe_code, reason = "above")]
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, at least one: the caller's and others that are started here.
    pub fn new(threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            open: Apart(AtomicU64::new(0)),
            unfinished: Apart(AtomicU32::new(0)),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            work: Bell::default(),
            end: Bell::default(),
        });
        let mut pool = Self {
            shared,
            workers: Vec::new(),
            turn: Mutex::new(()),
        };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("compute-{number}"))
                .spawn(move || shared.work())?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// How many threads share the work, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once with each number below `tasks`, on any of the threads and in any order,
    /// and returns when all calls have returned.
    ///
    /// A task must not start another job in the same pool: it would wait for itself.
    ///
    /// # Panics
    ///
    /// With a task's own panic, after the other tasks have ended.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(task);
            return;
        }
        let turn = lock(&self.turn);
        self.shared.publish(tasks, &task);
        while self.shared.take_one() {}
        let finished = || self.shared.unfinished.0.load(Ordering::SeqCst) == 0;
        self.shared.end.wait(SPIN_FOR_END, finished);
        let panic = lock(&self.shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Cuts `data` into pieces of `length` (the last may be shorter) and calls `task` with each
    /// piece and its number.
    pub fn for_pieces<T: Send>(
        &self,
        data: &mut [T],
        length: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let start = Start(data.as_mut_ptr());
        let total = data.len();
        self.run(total.div_ceil(length), |number| {
            let from = number * length;
            let length = length.min(total - from);
            // SAFETY: `from + length <= total`, pieces don't overlap, `run` calls once with each
            // number and returns before the borrow of `data` ends.
            #[allow(
                unsafe_code,
                reason = "the borrow checker can't see that pieces are disjoint"
            )]
            let piece = unsafe { std::slice::from_raw_parts_mut(start.at(from), length) };
            task(number, piece);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.work.ring();
        for worker in self.workers.drain(..) {
            // A worker only unwinds tasks, and those it catches.
            let _ = worker.join();
        }
    }
}

/// Where a slice starts; lets tasks on several threads make disjoint pieces of it.
struct Start<T>(*mut T);

impl<T> Start<T> {
    fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

// SAFETY: only the address is shared; whoever makes a slice of it says why that is sound.
#[allow(unsafe_code, reason = "above")]
unsafe impl<T: Send> Sync for Start<T> {}

impl Shared {
    fn publish(&self, tasks: usize, task: Task<'_>) {
        let count = u32::try_from(tasks).expect("fewer tasks than 2^32");
        // SAFETY: only the lifetime changes. `run` doesn't return, nor unwind, before every task
        // has ended, and nobody calls `task` without having taken one.
        #[allow(
            unsafe_code,
            reason = "workers outlive the borrow, their use of it doesn't"
        )]
        let task = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        // SAFETY: no task of the job before is open or unfinished, so nobody reads.
        #[allow(unsafe_code, reason = "above")]
        unsafe {
            *self.job.get() = Some((task, count));
        }
        self.unfinished.0.store(count, Ordering::Relaxed);
        let number = (self.open.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.open
            .0
            .store(number << 32 | u64::from(count), Ordering::SeqCst);
        self.work.ring();
    }

    /// Takes a task and does it; false where no task is open.
    fn take_one(&self) -> bool {
        let mut open = self.open.0.load(Ordering::Acquire);
        loop {
            if open as u32 == 0 {
                return false;
            }
            // A job that has ended meanwhile has another number, so this can't take from the next.
            let taken = self.open.0.compare_exchange_weak(
                open,
                open - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match taken {
                Ok(_) => break,
                Err(now) => open = now,
            }
        }
        // SAFETY: this thread has taken a task that hasn't ended: nobody writes.
        #[allow(unsafe_code, reason = "above")]
        let job = unsafe { *self.job.get() };
        let (task, count) = job.expect("a job with open tasks");
        let number = count - open as u32;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(number as usize))) {
            lock(&self.panic).get_or_insert(panic);
        }
        if self.unfinished.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.end.ring();
        }
        true
    }

    /// A worker's life.
    fn work(&self) {
        let stop = || self.stop.load(Ordering::SeqCst);
        while !stop() {
            while self.take_one() {}
            let something = || self.open.0.load(Ordering::SeqCst) as u32 != 0 || stop();
            self.work.wait(SPIN_FOR_WORK, something);
        }
    }
}

/// Lets threads wait for what another thread brings about.
#[derive(Default)]
struct Bell {
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Bell {
    /// Spins until `happened`, for a bounded time, then parks until it is rung and `happened`.
    fn wait(&self, spin: Duration, happened: impl Fn() -> bool) {
        let mut started = None;
        loop {
            for _ in 0..64 {
                if happened() {
                    return;
                }
                std::hint::spin_loop();
            }
            if started.get_or_insert_with(Instant::now).elapsed() >= spin {
                break;
            }
        }
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !happened() {
            guard = self
                .wake
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes those who wait. Call it after what they wait for has happened, stored `SeqCst`.
    fn ring(&self) {
        // A sleeper counts itself before it looks a last time, so either it is seen here or it
        // sees what happened.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.lock));
            self.wake.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these protect is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
