//! How many connections may be open, and who has to go when more come: idle ones first, and never
//! one whose answer is being made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::Limits;
use super::wire::Progress;
use crate::log::Throttle;

/// Nobody is sent away so soon after connecting or after a request: a burst of clients that all
/// have something to say would chase itself away.
const GRACE: Duration = Duration::from_millis(250);

/// All open connections.
pub struct Crowd {
    limits: Limits,
    state: Mutex<State>,
    /// Told when a connection has ended or may have become idle.
    changed: watch::Sender<()>,
    warnings: Throttle,
}

#[derive(Default)]
struct State {
    next_id: u64,
    open: HashMap<u64, Member>,
}

struct Member {
    progress: Arc<Progress>,
    /// Set once the connection's task runs.
    task: Option<AbortHandle>,
}

/// A connection's right to be open, given back when it is dropped.
pub struct Place {
    /// How far the connection is.
    pub progress: Arc<Progress>,
    /// One of the last places, kept for questions that are answered at once.
    pub is_spare: bool,
    id: u64,
    crowd: Arc<Crowd>,
}

impl Crowd {
    /// Nobody is there yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            warnings: Throttle::new(),
        })
    }

    /// Waits for a place, and makes one where somebody can be sent away.
    pub async fn enter(self: &Arc<Self>) -> Place {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let next = match self.try_enter() {
                Ok(place) => return place,
                Err(next) => next,
            };
            let connections = self.limits.connections;
            self.warnings.warn(&format!(
                "{connections} connections are open, as many as may be: idle ones are closed for new ones"
            ));
            match next {
                Some(ripe) => _ = timeout_at(ripe, changed.changed()).await,
                None => _ = changed.changed().await,
            }
        }
    }

    /// Returns once no answer is being made or written.
    pub async fn quiet(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let is_answering = |member: &Member| member.progress.seen().is_answering();
            if !self.lock().open.values().any(is_answering) {
                return;
            }
            // The sender is `self`, so the wait can't fail.
            let _ = changed.changed().await;
        }
    }

    /// From now on the connection at this place can be sent away.
    pub fn note_task(&self, id: u64, task: AbortHandle) {
        // It may have ended already.
        if let Some(member) = self.lock().open.get_mut(&id) {
            member.task = Some(task);
        }
    }

    /// A place, or when somebody may be sent away, if nothing happens before.
    fn try_enter(self: &Arc<Self>) -> Result<Place, Option<Instant>> {
        let mut state = self.lock();
        let open = state.open.len();
        let regular = self.limits.connections - self.limits.spare;
        if open >= regular {
            match state.first_to_go(Instant::now()) {
                Ok(id) => {
                    // Its place is free when its task is gone, which tells us.
                    state.send_away(id);
                    return Err(None);
                }
                Err(ripe) if open >= self.limits.connections => return Err(ripe),
                Err(_) => {}
            }
        }
        let id = state.next_id;
        state.next_id += 1;
        let progress = Arc::new(Progress::new(self.changed.clone()));
        let member = Member {
            progress: Arc::clone(&progress),
            task: None,
        };
        state.open.insert(id, member);
        Ok(Place {
            progress,
            is_spare: open >= regular,
            id,
            crowd: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant spans the places that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The connection that is missed least of those that have had their grace: in the earliest stage, and
    /// there for the longest time. Where there is none, when the first of them will have had it.
    fn first_to_go(&self, now: Instant) -> Result<u64, Option<Instant>> {
        let members = self.open.iter();
        let members = members.filter(|(_, member)| member.task.is_some());
        let seen = members.map(|(id, member)| (*id, member.progress.seen()));
        let could_go: Vec<_> = seen.filter(|(_, seen)| !seen.is_answering()).collect();
        let ripe = could_go
            .iter()
            .filter(|(_, seen)| seen.since + GRACE <= now);
        ripe.min_by_key(|(_, seen)| (seen.stage, seen.since))
            .map(|(id, _)| *id)
            .ok_or_else(|| could_go.iter().map(|(_, seen)| seen.since + GRACE).min())
    }

    fn send_away(&mut self, id: u64) {
        // Taken, so that it isn't chosen again before it is gone.
        if let Some(task) = self.open.get_mut(&id).and_then(|member| member.task.take()) {
            task.abort();
        }
    }
}

impl Place {
    /// What names it among the open ones.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().open.remove(&self.id);
        self.crowd.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::wire::Stage;

    const LIMITS: Limits = Limits {
        connections: 2,
        spare: 0,
        head: Duration::MAX,
        idle: Duration::MAX,
        write: Duration::MAX,
    };

    /// Somebody who has just come to this stage.
    fn arrive(crowd: &Arc<Crowd>, stage: Stage) -> Place {
        let Ok(place) = crowd.try_enter() else {
            panic!("there is room");
        };
        place.progress.enter(stage);
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        crowd.note_task(place.id(), task);
        place
    }

    #[tokio::test]
    async fn who_has_just_come_does_not_keep_others_waiting_for_those_who_can_go() {
        let crowd = Crowd::new(LIMITS);
        let half_sent = arrive(&crowd, Stage::Body);
        let came = half_sent.progress.seen().since;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let idle = arrive(&crowd, Stage::Idle);
        let first_to_go = |now| crowd.lock().first_to_go(now);
        assert_eq!(first_to_go(came), Err(Some(came + GRACE)));
        assert_eq!(first_to_go(came + GRACE), Ok(half_sent.id()));
        // Once both may go, who has said less is missed less.
        let both = idle.progress.seen().since + GRACE;
        assert_eq!(first_to_go(both), Ok(idle.id()));
        idle.progress.enter(Stage::Answer);
        half_sent.progress.enter(Stage::Answer);
        assert_eq!(first_to_go(both + GRACE), Err(None));
    }
}
