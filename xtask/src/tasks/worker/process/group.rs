//! A child process and all that it starts, as one thing that can be stopped as a whole.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::lock::lock;
use super::platform;
use super::platform::{Leash, Process};
use super::{inheritance, registry};

pub use super::identity::{GroupId, Role};
pub use super::platform::{GroupSignal, describe_exit};
use super::wait::wait_until;

/// How often we look whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// How often we look through the process table, which costs a millisecond or more.
const TABLE_INTERVAL: Duration = Duration::from_millis(15);

/// How long the other members of a group may outlive its leader.
const FOLLOW_LIMIT: Duration = Duration::from_secs(1);

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How long the end of a group may take at most, whose members have so long to stop.
pub const fn longest_end(grace: Duration) -> Duration {
    let asked = grace.saturating_add(FOLLOW_LIMIT.saturating_mul(2));
    asked.saturating_add(KILL_LIMIT.saturating_mul(2))
}

/// Owns a process group. Dropping it stops and reaps whatever is left of it.
#[derive(Debug)]
pub struct ProcessGroup {
    inner: Arc<Inner>,
}

/// Sees whether a group's leader lives, without keeping the group.
#[derive(Debug, Clone)]
pub struct Watch {
    inner: Option<Weak<Inner>>,
}

#[derive(Debug)]
struct Inner {
    id: GroupId,
    role: Role,
    leash: Leash,
    started: Instant,
    grace: Duration,
    child: Mutex<Child>,
    /// How the leader ended, and after how long.
    end: OnceLock<(ExitStatus, Duration)>,
    /// Whether the group was ended and its leader reaped: then its number may be a stranger's.
    gone: AtomicBool,
}

impl ProcessGroup {
    /// Starts `command` as the leader of a group of its own.
    ///
    /// `grace` is how long it may take to stop when it is asked to.
    pub fn spawn(mut command: Command, role: Role, grace: Duration) -> io::Result<Self> {
        if role == Role::Worker {
            command.envs(inheritance::given());
        }
        if role != Role::Tool {
            inheritance::restrict(&mut command);
            command.envs(registry::mark());
        }
        platform::prepare_leader(&mut command);
        let _census = registry::take_census();
        let mut child = spawn_on_lasting_thread(command)?;
        let leash = Leash::tie(&child).inspect_err(|_| {
            let _ = child.kill();
        })?;
        let number = child.id();
        let leader = platform::identify(number);
        let id = GroupId {
            number,
            session: leader.as_ref().map_or(0, |leader| leader.session),
            // Nothing is as young as that: a leader that can't be seen has no members.
            started: leader.map_or(u64::MAX, |leader| leader.started),
        };
        let inner = Arc::new(Inner {
            id,
            role,
            leash,
            started: Instant::now(),
            grace,
            child: Mutex::new(child),
            end: OnceLock::new(),
            gone: AtomicBool::new(false),
        });
        let group = Self { inner };
        registry::hold(id, role, grace)?;
        Ok(group)
    }

    /// The leader's process.
    pub fn pid(&self) -> u32 {
        self.inner.id.number
    }

    /// The leader's standard input and output, where they were piped; once.
    pub fn take_pipes(&self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        let mut child = lock(&self.inner.child);
        (child.stdin.take(), child.stdout.take())
    }

    /// The leader's standard error, where it was piped; once.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        lock(&self.inner.child).stderr.take()
    }

    /// Just after the leader was started.
    pub fn started(&self) -> Instant {
        self.inner.started
    }

    /// How the leader ended, if it did.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        Ok(self.inner.end()?.map(|(status, _)| status))
    }

    /// How the leader ended, and how long it lived, if it has ended.
    pub fn end(&self) -> io::Result<Option<(ExitStatus, Duration)>> {
        self.inner.end()
    }

    /// Sees whether the leader lives, without keeping the group.
    pub fn watch(&self) -> Watch {
        Watch {
            inner: Some(Arc::downgrade(&self.inner)),
        }
    }

    /// Whether this process is one of the group's.
    pub fn contains(&self, process: &Process) -> bool {
        platform::is_member(&self.inner.leash, self.inner.id.number, process)
    }

    /// Sends the group a signal.
    pub fn tell(&self, signal: GroupSignal) {
        if !self.inner.gone.load(Ordering::SeqCst) {
            platform::tell_group(self.inner.id.number, signal);
        }
    }

    /// Asks the group to stop, as an orchestrator would.
    pub fn ask_to_stop(&self) {
        self.tell(GroupSignal::Terminate);
    }

    /// Ends the group at once, without asking, as the system does when memory is short.
    pub fn kill_now(&self) {
        if !self.inner.gone.load(Ordering::SeqCst) {
            self.kill();
        }
    }

    /// Asks the group to stop, kills what hasn't after the grace period, and reaps the leader.
    ///
    /// The leader stays a zombie until its group is gone. Until then nobody else can get its
    /// number, so that no signal of ours can hit a stranger.
    pub fn end_all(&self) {
        if self.inner.gone.swap(true, Ordering::SeqCst) {
            return;
        }
        if !self.has_ended() {
            platform::tell_group(self.inner.id.number, GroupSignal::Terminate);
            wait_until(self.inner.grace, POLL_INTERVAL, || self.has_ended());
        }
        let mut left_behind = Vec::new();
        if self.has_ended() && !self.wait_until_empty(FOLLOW_LIMIT) {
            left_behind = self.members();
            platform::tell_group(self.inner.id.number, GroupSignal::Terminate);
            self.wait_until_empty(FOLLOW_LIMIT);
        }
        self.kill();
        wait_until(KILL_LIMIT, POLL_INTERVAL, || self.has_ended());
        // A member that was just being started may have missed the signal.
        wait_until(KILL_LIMIT, TABLE_INTERVAL, || {
            self.members().is_empty() || {
                self.kill();
                false
            }
        });
        registry::note(self.inner.role, &left_behind);
        // What can't be killed stays registered, so that it is told and the reaper tries again.
        if self.has_ended() && self.members().is_empty() {
            // Its number can be a stranger's as soon as it is reaped, so nobody may know it by then.
            let _census = registry::take_census();
            registry::release(self.inner.id);
            let _ = lock(&self.inner.child).wait();
        }
    }

    fn has_ended(&self) -> bool {
        !matches!(self.inner.end(), Ok(None))
    }

    fn kill(&self) {
        platform::kill_group(Some(&self.inner.leash), self.inner.id.number);
    }

    /// Those of the group that live.
    pub fn members(&self) -> Vec<Process> {
        platform::members(&self.inner.leash, self.inner.id.number)
    }

    fn wait_until_empty(&self, limit: Duration) -> bool {
        wait_until(limit, TABLE_INTERVAL, || self.members().is_empty())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.end_all();
    }
}

impl Inner {
    fn end(&self) -> io::Result<Option<(ExitStatus, Duration)>> {
        if let Some(end) = self.end.get() {
            return Ok(Some(*end));
        }
        let status = platform::peek_exit(&mut lock(&self.child))?;
        Ok(status.map(|status| *self.end.get_or_init(|| (status, self.started.elapsed()))))
    }
}

impl Watch {
    /// Watches nobody, for what never ends as far as we know.
    pub fn nobody() -> Self {
        Self { inner: None }
    }

    /// Whether the leader has ended, or the whole group was given up.
    pub fn has_ended(&self) -> bool {
        let Some(inner) = &self.inner else {
            return false;
        };
        inner
            .upgrade()
            .is_none_or(|inner| !matches!(inner.end(), Ok(None)))
    }
}

/// Starts a child from a thread that lives until this process ends.
///
/// On Linux the child dies with the thread that started it (see [`platform::prepare_leader`]).
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type SpawnRequest = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<SpawnRequest>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, receiver) = channel::<SpawnRequest>();
        std::thread::spawn(move || {
            for (mut command, reply) in receiver {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (reply, answer) = channel();
    let gone = |_| io::Error::other("the thread that starts processes has ended");
    let requests = lock(spawner);
    requests
        .send((command, reply))
        .map_err(|error| gone(error.to_string()))?;
    drop(requests);
    answer.recv().map_err(|error| gone(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, group: u32, session: u32, started: u64) -> Process {
        Process {
            pid,
            parent: 1,
            group,
            session,
            started,
            name: String::from("x"),
        }
    }

    fn pids(id: GroupId, table: &[Process]) -> Vec<u32> {
        id.members(table).iter().map(|member| member.pid).collect()
    }

    const ID: GroupId = GroupId {
        number: 40,
        session: 7,
        started: 1000,
    };

    #[test]
    fn members_are_found_with_and_without_their_leader() {
        let table = [process(40, 40, 7, 1000), process(41, 40, 7, 1001)];
        assert_eq!(pids(ID, &table), [40, 41]);
        assert_eq!(pids(ID, &table[1..]), [41]);
    }

    #[test]
    fn a_number_that_somebody_else_got_is_left_alone() {
        let recycled = [process(40, 40, 7, 2000), process(41, 40, 7, 2001)];
        assert!(pids(ID, &recycled).is_empty());
        let other_session = [process(41, 40, 8, 2001)];
        assert!(pids(ID, &other_session).is_empty());
        let older = [process(41, 40, 7, 999)];
        assert!(pids(ID, &older).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_dropped_group_takes_its_grandchildren_along() {
        let mut command = Command::new("sh");
        // Neither of the two heeds SIGTERM.
        command.args(["-c", "trap '' TERM; sleep 1000 & echo; wait"]);
        command.stdout(std::process::Stdio::piped());
        let group = ProcessGroup::spawn(command, Role::Tool, Duration::from_millis(50)).unwrap();
        let mut line = [0];
        let mut stdout = group.take_pipes().1.unwrap();
        io::Read::read_exact(&mut stdout, &mut line).unwrap();
        let id = group.inner.id;
        assert_eq!(id.members(&platform::processes()).len(), 2);
        drop(group);
        assert_eq!(id.members(&platform::processes()), Vec::<&Process>::new());
    }

    #[cfg(unix)]
    #[test]
    fn an_end_is_remembered_with_the_time_of_its_sight() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -SEGV $$"]);
        let group = ProcessGroup::spawn(command, Role::Tool, Duration::ZERO).unwrap();
        let watch = group.watch();
        assert!(wait_until(Duration::from_secs(60), POLL_INTERVAL, || {
            watch.has_ended()
        }));
        let (status, lived) = group.end().unwrap().unwrap();
        assert_eq!(describe_exit(status), "killed by SIGSEGV");
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(group.end().unwrap().unwrap().1, lived);
    }
}
