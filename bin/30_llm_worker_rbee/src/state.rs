//! What the worker is doing right now: loading, ready, busy or draining. Nothing here knows HTTP
//! or heartbeats; both look at it.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};

use crate::engine::Engine;

/// What heartbeats say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// The model is not there yet.
    Loading,
    /// Nothing is being generated.
    Ready,
    /// At least one request is being generated.
    Busy,
    /// The worker is on its way out.
    Draining,
    /// The worker can't serve, and ends.
    Failed,
}

/// The stages of a worker's life, each entered once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The model is being loaded.
    Loading,
    /// Inference is accepted.
    Serving,
    /// What runs is finished, nothing new is taken.
    Draining,
    /// There is no engine and there won't be one.
    Failed,
}

/// Why an answer ends before it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The time to finish is over.
    CutOff,
    /// The worker can't go on, and why.
    Failed(String),
}

/// Changes of the state, each of them, in order. An open end: it never blocks the worker.
pub type StateChanges = mpsc::UnboundedReceiver<WorkerState>;

/// The worker as routes, heartbeat and main share it.
pub struct Worker {
    /// The name that whoever started the worker gave it.
    pub id: String,
    engine: OnceLock<Arc<dyn Engine>>,
    load: watch::Sender<Load>,
    changes: mpsc::UnboundedSender<WorkerState>,
    over: watch::Sender<Option<Over>>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    phase: Phase,
    /// Requests let in, whose answer isn't made yet. The drain waits for these.
    admitted: usize,
    /// Those of them that the engine took.
    generating: usize,
}

impl Load {
    fn state(self) -> WorkerState {
        match self.phase {
            Phase::Loading => WorkerState::Loading,
            Phase::Draining => WorkerState::Draining,
            Phase::Failed => WorkerState::Failed,
            Phase::Serving if self.generating > 0 => WorkerState::Busy,
            Phase::Serving => WorkerState::Ready,
        }
    }
}

impl Worker {
    /// A worker that is loading, and the stream of what becomes of it.
    pub fn new(id: impl Into<String>) -> (Arc<Self>, StateChanges) {
        let (changes, receiver) = mpsc::unbounded_channel();
        let worker = Self {
            id: id.into(),
            engine: OnceLock::new(),
            load: watch::Sender::new(Load {
                phase: Phase::Loading,
                admitted: 0,
                generating: 0,
            }),
            changes,
            over: watch::Sender::new(None),
        };
        (Arc::new(worker), receiver)
    }

    /// Opens the doors, unless a drain has begun already.
    pub fn serve_with(&self, engine: Arc<dyn Engine>) {
        // A second engine would be a bug in `main`; the first one stays.
        let _ = self.engine.set(engine);
        self.update(|load| {
            if load.phase == Phase::Loading {
                load.phase = Phase::Serving;
            }
        });
    }

    /// Closes the doors. What is inside may finish.
    pub fn drain(&self) {
        self.update(|load| {
            if load.phase != Phase::Failed {
                load.phase = Phase::Draining;
            }
        });
    }

    /// Closes the doors for good, and tells those inside why. The first reason stays.
    pub fn fail(&self, reason: &str) {
        self.update(|load| load.phase = Phase::Failed);
        self.over.send_if_modified(|over| {
            let is_first = !matches!(over, Some(Over::Failed(_)));
            if is_first {
                *over = Some(Over::Failed(reason.to_owned()));
            }
            is_first
        });
    }

    /// Fails the worker once its engine can't go on; there must be one.
    pub async fn watch_engine(&self) {
        let Some(engine) = self.engine.get() else {
            return;
        };
        let mut failure = engine.failure();
        let reason = match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            // It went without a word.
            Err(_) => None,
        };
        self.fail(reason.as_deref().unwrap_or("the engine has ended"));
    }

    /// The stage that the worker is in.
    pub fn phase(&self) -> Phase {
        self.load.borrow().phase
    }

    /// What a heartbeat would say.
    pub fn state(&self) -> WorkerState {
        self.load.borrow().state()
    }

    /// Whether there is an engine, which stays true while draining.
    pub fn model_loaded(&self) -> bool {
        self.engine.get().is_some()
    }

    /// The engine, once there is one.
    pub fn engine(&self) -> Option<Arc<dyn Engine>> {
        self.engine.get().cloned()
    }

    /// Lets a request in, or says which phase forbids it. One step, so that no request slips in
    /// after the drain has counted who is inside.
    pub fn admit(self: &Arc<Self>) -> Result<Admission, Phase> {
        let mut phase = Phase::Loading;
        self.update(|load| {
            phase = load.phase;
            if phase == Phase::Serving {
                load.admitted += 1;
            }
        });
        match (phase, self.engine.get()) {
            (Phase::Serving, Some(engine)) => Ok(Admission {
                engine: Arc::clone(engine),
                worker: Arc::clone(self),
                generating: false,
            }),
            (phase, _) => Err(phase),
        }
    }

    /// Returns once nobody is inside.
    pub async fn idle(&self) {
        let mut load = self.load.subscribe();
        // The sender is `self`, so the wait can't fail.
        let _ = load.wait_for(|load| load.admitted == 0).await;
    }

    /// Tells those still inside that the time to finish is over.
    pub fn cut_off(&self) {
        self.over.send_if_modified(|over| {
            let is_first = over.is_none();
            if is_first {
                *over = Some(Over::CutOff);
            }
            is_first
        });
    }

    /// Returns once no answer goes on, and says why.
    pub async fn until_over(&self) -> Over {
        let mut over = self.over.subscribe();
        let over = over.wait_for(Option::is_some).await;
        // The sender is `self`, so the wait can't fail.
        over.ok()
            .and_then(|over| over.clone())
            .unwrap_or(Over::CutOff)
    }

    /// Returns the reason once the worker can't go on.
    pub async fn until_failed(&self) -> String {
        let mut over = self.over.subscribe();
        loop {
            if let Some(Over::Failed(reason)) = &*over.borrow_and_update() {
                return reason.clone();
            }
            // The sender is `self`, so the wait can't fail.
            let _ = over.changed().await;
        }
    }

    /// Why the worker can't go on, if that is so.
    pub fn failure(&self) -> Option<String> {
        match &*self.over.borrow() {
            Some(Over::Failed(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// The only way to change the load: whatever changes the state also reports it, in order.
    fn update(&self, change: impl FnOnce(&mut Load)) {
        self.load.send_modify(|load| {
            let before = load.state();
            change(load);
            let after = load.state();
            if before != after {
                // Nobody may be listening, as in tests.
                let _ = self.changes.send(after);
            }
        });
    }
}

/// A request that was let in, until its answer is made. Dropping it lets the drain go on.
pub struct Admission {
    /// What to submit the request to.
    pub engine: Arc<dyn Engine>,
    worker: Arc<Worker>,
    generating: bool,
}

impl Admission {
    /// The engine took the request: the worker is busy.
    pub fn generating(&mut self) {
        if !self.generating {
            self.generating = true;
            self.worker.update(|load| load.generating += 1);
        }
    }

    /// The worker that let the request in.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let generating = usize::from(self.generating);
        self.worker.update(|load| {
            load.admitted -= 1;
            load.generating -= generating;
        });
    }
}

#[cfg(test)]
impl Worker {
    /// For tests that look at the state alone: an engine that is there and takes nothing.
    pub(crate) fn serve_with_nothing(&self) {
        use crate::engine::{Generation, GenerationRequest, SubmitError};

        struct Nothing;
        impl Engine for Nothing {
            fn submit(&self, _: GenerationRequest) -> Result<Generation, SubmitError> {
                Err(SubmitError::Stopped)
            }

            fn failure(&self) -> watch::Receiver<Option<String>> {
                watch::Sender::new(None).subscribe()
            }
        }
        self.serve_with(Arc::new(Nothing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_reported_once_and_in_order() {
        let (worker, mut changes) = Worker::new("w");
        assert_eq!(worker.admit().err(), Some(Phase::Loading));
        worker.serve_with_nothing();
        let mut first = worker.admit().unwrap();
        let mut second = worker.admit().unwrap();
        assert_eq!(
            worker.state(),
            WorkerState::Ready,
            "not taken by the engine yet"
        );
        first.generating();
        second.generating();
        drop(first);
        assert_eq!(worker.state(), WorkerState::Busy);
        drop(second);
        worker.drain();
        worker.drain();
        assert_eq!(worker.admit().err(), Some(Phase::Draining));
        let mut seen = Vec::new();
        while let Ok(state) = changes.try_recv() {
            seen.push(state);
        }
        use WorkerState::{Busy, Draining, Ready};
        assert_eq!(seen, [Ready, Busy, Ready, Draining]);
    }

    #[test]
    fn a_model_that_loads_too_late_does_not_end_the_drain() {
        let (worker, _changes) = Worker::new("w");
        worker.drain();
        worker.serve_with_nothing();
        assert_eq!(worker.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn idle_waits_for_those_inside() {
        let (worker, _changes) = Worker::new("w");
        worker.serve_with_nothing();
        let admission = worker.admit().unwrap();
        worker.drain();
        let idle = worker.idle();
        tokio::pin!(idle);
        let none = std::future::poll_fn(|cx| std::task::Poll::Ready(idle.as_mut().poll(cx))).await;
        assert!(none.is_pending());
        drop(admission);
        idle.await;
    }
}
