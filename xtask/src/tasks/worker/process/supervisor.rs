//! The process in front of a run, on Linux: both adopt what loses its parent, so that whichever of the
//! two is killed, the other one ends all that was started, whatever that did to its environment.
//!
//! The supervisor is what a user starts and signals. It starts this very program again with the same
//! arguments, hands signals on, and gives the run's exit code. Where it is killed the run is asked to
//! stop by the kernel; where the run is killed, it kills what the run has left behind.

use std::io;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock::lock;
use super::platform;
use super::strays::{SUPERVISOR, TABLE_INTERVAL, adopted};
use super::wait::wait_until;

/// How long what is killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The run's process, and the signals that came before there was one.
#[derive(Debug, Default)]
struct Supervised {
    pid: Option<u32>,
    early: Vec<i32>,
}

/// What a run was told by its supervisor; none where there is none.
pub fn secret() -> Option<String> {
    std::env::var(SUPERVISOR).ok()
}

/// Supervises this program's run, and gives its exit code; `None` where this process is the run itself.
pub fn supervise() -> io::Result<Option<ExitCode>> {
    let is_parent = |secret: String| {
        let pid = secret.split(':').next().and_then(|pid| pid.parse().ok());
        pid == Some(platform::parent_id())
    };
    if !platform::ADOPTS_ORPHANS || secret().is_some_and(is_parent) {
        return Ok(None);
    }
    platform::adopt_orphans()?;
    let supervised = Arc::new(Mutex::new(Supervised::default()));
    let told = Arc::clone(&supervised);
    platform::on_stop_signal(move |signal| {
        let mut supervised = lock(&told);
        match supervised.pid {
            Some(pid) => platform::pass_on(pid, signal),
            None => supervised.early.push(signal),
        }
    })?;
    let secret = format!("{}:{}", std::process::id(), uuid::Uuid::new_v4());
    let mut command = Command::new(platform::own_executable()?);
    command
        .args(std::env::args_os().skip(1))
        .env(SUPERVISOR, &secret);
    platform::prepare_supervised(&mut command);
    let mut run = command.spawn()?;
    {
        let mut supervised = lock(&supervised);
        let early = std::mem::take(&mut supervised.early).into_iter();
        early.for_each(|signal| platform::pass_on(run.id(), signal));
        supervised.pid = Some(run.id());
    }
    platform::await_exit(&mut run)?;
    // From here on its number may be a stranger's.
    lock(&supervised).pid = None;
    let status = run.wait()?;
    wait_until(KILL_LIMIT, TABLE_INTERVAL, || {
        let left = adopted(&secret, &[]);
        left.iter()
            .for_each(|process| platform::kill_process(process.pid));
        left.is_empty()
    });
    Ok(Some(ExitCode::from(platform::exit_code(status))))
}
