//! Who was started by this run and isn't known to be gone, and the audit when it is over.
//!
//! There is one registry in a process, as there is one process table: signals, guards and the reaper
//! have to agree on it, whatever thread they are on.

use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};

use super::identity::{GroupId, Role};
use super::lock::lock;
use super::platform;
use super::platform::{Listeners, Process};
use super::reaper::Reaper;
use super::strays::{MARK, STRAY_GRACE, TABLE_INTERVAL, adopted, end, marked};
use super::supervisor;
use super::wait::wait_until;

/// How long a port may be held after the end of whoever listened on it.
const PORT_LIMIT: Duration = Duration::from_secs(2);

static REGISTRY: Mutex<ProcessRegistry> = Mutex::new(ProcessRegistry::new());

/// Held while a child of ours isn't in the registry yet, or isn't any more and wasn't let go of: who
/// looks for orphans would take it for one.
static CENSUS: Mutex<()> = Mutex::new(());

/// How often what we have adopted is let go of when it has ended.
const ADOPTION_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that has to be gone in the end.
#[derive(Debug)]
struct ProcessRegistry {
    run_id: Option<String>,
    reaper: Option<Reaper>,
    groups: Vec<(GroupId, Role)>,
    ports: Vec<(u16, &'static str)>,
    left_behind: Vec<String>,
}

/// What was found when everything had been stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// What outlived whoever had started it, had to be ended by us, and wasn't told before.
    pub left_behind: Vec<String>,
    /// What is still there.
    pub survivors: Vec<String>,
}

impl ProcessRegistry {
    const fn new() -> Self {
        Self {
            run_id: None,
            reaper: None,
            groups: Vec::new(),
            ports: Vec::new(),
            left_behind: Vec::new(),
        }
    }
}

/// Begins a run: from now on whatever is started is also known to a reaper, which ends it if we
/// can't.
pub fn open(run_id: &str) -> Result<()> {
    let reaper = if platform::NEEDS_REAPER {
        Some(Reaper::start(run_id).context("cannot start the reaper")?)
    } else {
        None
    };
    *lock(&REGISTRY) = ProcessRegistry {
        run_id: Some(run_id.to_owned()),
        reaper,
        ..ProcessRegistry::new()
    };
    if supervisor::secret().is_some() {
        platform::adopt_orphans().context("cannot become the parent of orphans")?;
        std::thread::spawn(|| {
            loop {
                let census = take_census();
                let zombies = platform::zombies().into_iter();
                let registry = lock(&REGISTRY);
                if registry.run_id.is_none() {
                    return;
                }
                let started = started_by_us(&registry);
                drop(registry);
                zombies
                    .filter(|pid| !started.contains(pid))
                    .for_each(platform::reap);
                drop(census);
                std::thread::sleep(ADOPTION_INTERVAL);
            }
        });
    }
    Ok(())
}

/// As long as it is held, every child of ours is in the registry or an orphan that we have adopted.
pub fn take_census() -> MutexGuard<'static, ()> {
    lock(&CENSUS)
}

/// Our own children.
fn started_by_us(registry: &ProcessRegistry) -> Vec<u32> {
    let groups = registry.groups.iter().map(|(group, _)| group.number);
    groups
        .chain(registry.reaper.as_ref().map(Reaper::pid))
        .collect()
}

/// Living processes that carry the run's mark, or that lost their parent and so became ours.
fn strays() -> Vec<Process> {
    let _census = take_census();
    let (run_id, started) = {
        let registry = lock(&REGISTRY);
        let Some(run_id) = registry.run_id.clone() else {
            return Vec::new();
        };
        (run_id, started_by_us(&registry))
    };
    let mut strays = marked(&run_id);
    // Without a supervisor there is nobody who adopts.
    let adopted = supervisor::secret().map(|secret| adopted(&secret, &started));
    let adopted = adopted.into_iter().flatten();
    let new: Vec<Process> = adopted.filter(|stray| !strays.contains(stray)).collect();
    strays.extend(new);
    strays
}

/// The variable that marks what this run starts; none outside a run.
pub fn mark() -> Option<(&'static str, String)> {
    lock(&REGISTRY).run_id.clone().map(|run_id| (MARK, run_id))
}

/// Whether this process was started by this run, wherever it went since.
pub fn is_marked(process: &Process) -> bool {
    mark().is_some_and(|(name, value)| platform::marks(name).get(&process.pid) == Some(&value))
}

/// A group was started.
pub fn hold(id: GroupId, role: Role, grace: Duration) -> io::Result<()> {
    let mut registry = lock(&REGISTRY);
    registry.groups.push((id, role));
    match &mut registry.reaper {
        Some(reaper) => reaper.hold(id, grace),
        None => Ok(()),
    }
}

/// A group is gone.
pub fn release(id: GroupId) {
    let mut registry = lock(&REGISTRY);
    registry.groups.retain(|(held, _)| *held != id);
    if let Some(reaper) = &mut registry.reaper {
        reaper.release(id);
    }
}

/// These members of a group outlived its leader.
pub fn note(role: Role, left_behind: &[Process]) {
    let told = left_behind
        .iter()
        .filter(|_| role != Role::Tool)
        .map(|process| format!("{process}, which outlived {}", role.name()));
    lock(&REGISTRY).left_behind.extend(told);
}

/// Nobody may listen on this port when the run is over.
pub fn watch_port(port: u16, whose: &'static str) {
    lock(&REGISTRY).ports.push((port, whose));
}

/// Somebody else has the port, which is their own affair.
pub fn unwatch_port(port: u16) {
    lock(&REGISTRY)
        .ports
        .retain(|(watched, _)| *watched != port);
}

/// Kills everything at once, without asking.
pub fn kill_everybody() {
    // Before their parents go: what becomes ours later is the reaper's.
    let strays = strays();
    let groups = lock(&REGISTRY).groups.clone();
    for (group, _) in groups {
        platform::kill_group(None, group.number);
    }
    for stray in strays {
        platform::kill_process(stray.pid);
    }
}

/// What outlived whoever had started it, as far as that is known by now. Each is told once.
///
/// Looks also for processes that left their group, and ends them. To be asked when the groups of
/// interest have ended; what belongs to others is left alone.
pub fn left_behind() -> Vec<String> {
    let groups = lock(&REGISTRY).groups.clone();
    let astray = || -> Vec<Process> {
        let all = strays().into_iter();
        all.filter(|stray| !groups.iter().any(|(group, _)| group.number == stray.group))
            .collect()
    };
    let found = astray();
    let names = found.iter();
    let mut told: Vec<String> = names
        .map(|stray| format!("{stray}, which left the group that it was in"))
        .collect();
    if !found.is_empty() {
        end(STRAY_GRACE, astray);
    }
    told.extend(std::mem::take(&mut lock(&REGISTRY).left_behind));
    told
}

/// Ends a run: looks for whatever is left, ends it, and lets the reaper go.
///
/// To be called when every guard has been dropped.
pub fn close() -> Audit {
    let left_behind = left_behind();
    let mut survivors = Vec::new();
    let ports = lock(&REGISTRY).ports.clone();
    survivors.extend(
        ports
            .iter()
            .filter_map(|(port, whose)| held_port(*port, whose)),
    );
    let strays = strays();
    let registry = std::mem::replace(&mut *lock(&REGISTRY), ProcessRegistry::new());
    if registry.run_id.is_some() {
        let table = platform::processes();
        // A question to the system that is still being answered is nobody's fault.
        let groups = registry
            .groups
            .iter()
            .filter(|(_, role)| *role != Role::Tool);
        let members = groups.flat_map(|(group, _)| group.members(&table));
        survivors.extend(members.map(ToString::to_string));
        survivors.extend(strays.iter().map(ToString::to_string));
    }
    // Where something is left the reaper finds its pipe closed and tries once more.
    if let Some(reaper) = registry.reaper.filter(|_| survivors.is_empty()) {
        reaper.dismiss();
    }
    Audit {
        left_behind,
        survivors,
    }
}

/// Tells of a port that is still listened on, unless somebody else has been given it since.
pub fn held_port(port: u16, whose: &str) -> Option<String> {
    let run_id = lock(&REGISTRY).run_id.clone();
    let mut holders = String::new();
    // Whoever looks for a free port holds one for a moment.
    let freed = wait_until(PORT_LIMIT, TABLE_INTERVAL, || {
        holders = match platform::listeners(port) {
            Listeners::Nobody => return true,
            Listeners::Unknown => String::from("an unknown process"),
            Listeners::Known(found) => {
                let (marks, strays) = (platform::marks(MARK), strays());
                let is_anothers = |holder: &Process| match marks.get(&holder.pid) {
                    Some(mark) => Some(mark) != run_id.as_ref(),
                    // Whatever of ours lost its parent and its mark has been adopted.
                    None => supervisor::secret().is_some() && !strays.contains(holder),
                };
                if found.iter().all(is_anothers) {
                    return true;
                }
                let names: Vec<_> = found.iter().map(ToString::to_string).collect();
                names.join(", ")
            }
        };
        false
    });
    (!freed).then(|| format!("port {port} of {whose}, held by {holders}"))
}
