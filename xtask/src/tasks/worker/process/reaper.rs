//! Cleans up when the run can't, because it was killed.
//!
//! The reaper is this very executable, in a session of its own. It reads which groups there are
//! from a pipe on its standard input, of which only the run holds the other end: when the run ends,
//! however it does, the pipe is closed, and the reaper ends what is still registered.

use std::io::{self, BufRead, Write};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::identity::GroupId;
use super::platform;
use super::platform::GroupSignal;
use super::strays::{STRAY_GRACE, end, marked};
use super::wait::wait_until;

/// The hidden task of the command line that runs the reaper.
pub const TASK: &str = "worker:reaper";

/// How long the reaper may take to end when there is nothing to do.
const DISMISS_LIMIT: Duration = Duration::from_secs(2);

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How often we look through the process table.
const TABLE_INTERVAL: Duration = Duration::from_millis(20);

/// The run's end of the pipe.
#[derive(Debug)]
pub struct Reaper {
    child: Child,
    pipe: ChildStdin,
}

/// What the run tells, one line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReaperMessage {
    /// This group was started; it may take so long to stop.
    Hold(GroupId, Duration),
    /// This group is gone.
    Release(u32),
    /// The run has seen to everything itself.
    Done,
}

impl Reaper {
    /// Starts a reaper for the run of that name.
    pub fn start(run_id: &str) -> io::Result<Self> {
        let mut command = Command::new(platform::own_executable()?);
        command
            .args([TASK, run_id])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        platform::detach(&mut command);
        let mut child = command.spawn()?;
        let pipe = child.stdin.take().expect("standard input is piped");
        Ok(Self { child, pipe })
    }

    /// The reaper's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A group was started.
    pub fn hold(&mut self, id: GroupId, grace: Duration) -> io::Result<()> {
        let gone = |error| io::Error::other(format!("the reaper has ended: {error}"));
        self.tell(ReaperMessage::Hold(id, grace)).map_err(gone)
    }

    /// A group is gone.
    pub fn release(&mut self, id: GroupId) {
        // A reaper that is gone can't kill anybody by mistake.
        let _ = self.tell(ReaperMessage::Release(id.number));
    }

    /// Everything is gone: the reaper isn't needed any more, and ends.
    pub fn dismiss(mut self) {
        let _ = self.tell(ReaperMessage::Done);
        drop(self.pipe);
        let ended = wait_until(DISMISS_LIMIT, Duration::from_millis(2), || {
            !matches!(self.child.try_wait(), Ok(None))
        });
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn tell(&mut self, message: ReaperMessage) -> io::Result<()> {
        // One write, so that a message is never half there when we are killed.
        self.pipe.write_all(message.to_line().as_bytes())
    }
}

/// The reaper's own life: listens until the run has ended, then ends what is left of it.
pub fn run(run_id: &str) -> ExitCode {
    if platform::become_reaper().is_err() {
        return ExitCode::FAILURE;
    }
    let held = listen(io::stdin().lock());
    if let Some(held) = held {
        end_groups(&held);
        end(STRAY_GRACE, || marked(run_id));
    }
    ExitCode::SUCCESS
}

/// What is registered when the pipe is closed; `None` where the run has seen to it itself.
fn listen(pipe: impl BufRead) -> Option<Vec<(GroupId, Duration)>> {
    let mut held = Vec::new();
    for line in pipe.lines().map_while(Result::ok) {
        match ReaperMessage::from_line(&line) {
            Some(ReaperMessage::Hold(id, grace)) => held.push((id, grace)),
            Some(ReaperMessage::Release(number)) => held.retain(|(id, _)| id.number != number),
            Some(ReaperMessage::Done) => return None,
            None => {}
        }
    }
    Some(held)
}

/// Asks each group to stop, kills it after its grace period, and looks until it is gone.
fn end_groups(held: &[(GroupId, Duration)]) {
    let living = || -> Vec<&(GroupId, Duration)> {
        let table = platform::processes();
        let lives = |(id, _): &&(GroupId, Duration)| !id.members(&table).is_empty();
        held.iter().filter(lives).collect()
    };
    for (id, _) in living() {
        platform::tell_group(id.number, GroupSignal::Terminate);
    }
    let asked = Instant::now();
    let longest = held.iter().map(|(_, grace)| *grace).max();
    wait_until(
        longest.unwrap_or_default() + KILL_LIMIT,
        TABLE_INTERVAL,
        || {
            let living = living();
            for (id, grace) in &living {
                if asked.elapsed() >= *grace {
                    platform::kill_group(None, id.number);
                }
            }
            living.is_empty()
        },
    );
}

impl ReaperMessage {
    fn to_line(self) -> String {
        match self {
            ReaperMessage::Hold(id, grace) => format!(
                "hold {} {} {} {}\n",
                id.number,
                id.session,
                id.started,
                grace.as_millis()
            ),
            ReaperMessage::Release(number) => format!("release {number}\n"),
            ReaperMessage::Done => String::from("done\n"),
        }
    }

    fn from_line(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["hold", number, session, started, grace_ms] => {
                let id = GroupId {
                    number: number.parse().ok()?,
                    session: session.parse().ok()?,
                    started: started.parse().ok()?,
                };
                let grace = Duration::from_millis(grace_ms.parse().ok()?);
                Some(ReaperMessage::Hold(id, grace))
            }
            ["release", number] => Some(ReaperMessage::Release(number.parse().ok()?)),
            ["done"] => Some(ReaperMessage::Done),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: GroupId = GroupId {
        number: 40,
        session: 7,
        started: 1000,
    };

    #[test]
    fn messages_survive_the_pipe() {
        let grace = Duration::from_millis(1500);
        for message in [
            ReaperMessage::Hold(ID, grace),
            ReaperMessage::Release(40),
            ReaperMessage::Done,
        ] {
            let line = message.to_line();
            assert_eq!(ReaperMessage::from_line(line.trim_end()), Some(message));
        }
        assert_eq!(ReaperMessage::from_line("hold 40 7"), None);
    }

    #[test]
    fn what_is_registered_at_the_end_is_ended_unless_the_run_is_done() {
        let grace = Duration::from_secs(1);
        let hold = ReaperMessage::Hold(ID, grace).to_line();
        assert_eq!(listen(hold.as_bytes()), Some(vec![(ID, grace)]));
        let released = format!("{hold}release 40\n");
        assert_eq!(listen(released.as_bytes()), Some(Vec::new()));
        let done = format!("{hold}done\n");
        assert_eq!(listen(done.as_bytes()), None);
    }
}
