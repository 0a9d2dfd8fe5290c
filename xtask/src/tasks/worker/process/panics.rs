//! A panic in any thread becomes a raised stop flag, so that guards unwind and clean up.

use std::panic::PanicHookInfo;

use super::stop::StopFlag;
use crate::tasks::worker::record::output::REPORTING_THREAD;

/// From now on a panic anywhere ends the run, except in a reporter: the others go on without it.
pub fn raise_on_panic(stop: &StopFlag) {
    let stop = stop.clone();
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if std::thread::current().name() != Some(REPORTING_THREAD) {
            stop.fail(describe(panic));
        }
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let cause = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map_or(String::from("an unknown place"), ToString::to_string);
    format!("the test itself failed because of a bug in it: {cause} ({place})")
}

/// Panics where the tests of the guards ask for it; in debug builds only.
///
/// `WORKER_TEST_PANIC` is `main` for the thread that runs the checks, or `thread` for another.
#[cfg(debug_assertions)]
pub fn rehearse() {
    match std::env::var("WORKER_TEST_PANIC").as_deref() {
        Ok("main") => panic!("rehearsed in the main thread"),
        Ok("thread") => {
            std::thread::spawn(|| panic!("rehearsed in a thread"));
        }
        _ => {}
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn rehearse() {}
