//! Tells the hive that the worker lives and what it is doing. Knows neither the model nor the
//! HTTP side, and can hold neither up: it runs on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use crate::hive_url::HiveUrl;
use crate::log;
use crate::state::{StateChanges, WorkerState};

mod delivery;
use delivery::Delivery;

/// In the long run, changes of the state are told no more often than this: many short requests
/// would else flood the hive. Within the contract's 100 ms.
const CHANGE_GAP: Duration = Duration::from_millis(50);
/// Changes so close together that they are told all the same, one by one: a start and a first
/// short request are over within moments, and no less worth knowing.
const CHANGES_AT_ONCE: u32 = 10;

/// How long a beat has to be answered before the next one may overtake it: a hive that is well sees
/// them in their order, and one that hangs delays only those that come within this time.
const ORDER_PATIENCE: Duration = Duration::from_millis(50);

/// What every heartbeat says about its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The worker's name.
    pub worker_id: String,
    /// Where the model came from, in the hive's terms.
    pub model_ref: String,
    /// `cpu`, `cuda` or `metal`.
    pub backend: String,
    /// Which one of the backend's devices.
    pub device: u32,
    /// Where the worker listens.
    pub port: u16,
}

/// What became of the beats so far.
#[derive(Debug, Default)]
pub struct BeatCounts {
    sent: AtomicU64,
    failed: AtomicU64,
}

impl BeatCounts {
    /// Beats that the hive took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Beats that were lost on their way.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The heartbeat thread, to be asked for its end.
pub struct Heartbeat {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Heartbeat {
    /// Starts to beat: at once, at every interval, and at every change of the state.
    pub fn start(
        hive: &HiveUrl,
        identity: Identity,
        interval: Duration,
        changes: StateChanges,
        counts: Arc<BeatCounts>,
    ) -> io::Result<Self> {
        log::info("Starting heartbeat task");
        let (stop, stop_asked) = oneshot::channel();
        let (stopped_tell, stopped) = oneshot::channel();
        let mut beats = Beats {
            delivery: Delivery::new(hive, counts),
            identity,
            interval,
            sequence: 0,
            told: WorkerState::Loading,
            under_way: JoinSet::new(),
            last_sent: (Instant::now(), oneshot::channel().1),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || {
                runtime.block_on(beats.run(changes, stop_asked));
                // A name look-up may still hang on a thread of the runtime.
                runtime.shutdown_background();
                let _ = stopped_tell.send(());
            })?;
        log::info(&format!(
            "Heartbeat task started ({}s interval)",
            interval.as_secs_f64()
        ));
        Ok(Self { stop, stopped })
    }

    /// Lets beats under way arrive, for at most `limit`, and ends the thread.
    pub async fn finish(self, limit: Duration) {
        let _ = self.stop.send(());
        let _ = timeout(limit, self.stopped).await;
    }
}

/// Now, as every time stamp of the worker is written.
pub fn timestamp() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[derive(Serialize)]
struct Beat<'a> {
    state: &'static str,
    timestamp: String,
    sequence: u64,
    interval_s: serde_json::Number,
    #[serde(flatten)]
    identity: &'a Identity,
}

struct Beats {
    delivery: Delivery,
    identity: Identity,
    interval: Duration,
    /// Of the last beat that was due, sent or not.
    sequence: u64,
    /// The state that the last beat told.
    told: WorkerState,
    under_way: JoinSet<()>,
    /// Until when the next beat waits for the last one, which closes the channel when it is
    /// answered or lost.
    last_sent: (Instant, oneshot::Receiver<()>),
}

impl Beats {
    async fn run(&mut self, mut changes: StateChanges, mut stop: oneshot::Receiver<()>) {
        let mut ticks = interval(self.interval);
        // What was missed while the process slept is counted and not sent: nobody wants a burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut state = WorkerState::Loading;
        let mut last_tick = ticks.tick().await;
        self.send(state);
        let mut allowance = Allowance::full();
        loop {
            tokio::select! {
                biased;
                tick = ticks.tick() => {
                    self.sequence += self.missed(last_tick, tick);
                    last_tick = tick;
                    self.send(state);
                }
                () = sleep_until(allowance.next), if state != self.told => {
                    self.send(state);
                    allowance.spend();
                }
                Some(change) = changes.recv() => {
                    state = change;
                    // Told here and not in the loop's next round, which may find another change.
                    if state != self.told && Instant::now() >= allowance.next {
                        self.send(state);
                        allowance.spend();
                    }
                }
                // After the changes, so that each is told that came before.
                _ = &mut stop => break,
                Some(_) = self.under_way.join_next() => {}
            }
        }
        self.last_words(state, &mut changes).await;
    }

    /// The hive must learn the last state, whatever came between its change and the end.
    async fn last_words(
        &mut self,
        mut state: WorkerState,
        changes: &mut mpsc::UnboundedReceiver<WorkerState>,
    ) {
        while let Ok(change) = changes.try_recv() {
            state = change;
        }
        if state != self.told {
            self.send(state);
        }
        while self.under_way.join_next().await.is_some() {}
    }

    /// Ticks between the last one and this one that the process slept through.
    fn missed(&self, last: Instant, tick: Instant) -> u64 {
        let intervals = (tick - last).as_secs_f64() / self.interval.as_secs_f64();
        (intervals.round() as u64).saturating_sub(1)
    }

    /// Sends without waiting, so that a hive that hangs on this beat doesn't delay the next one.
    /// The delivery's own limit bounds how many are under way.
    fn send(&mut self, state: WorkerState) {
        self.sequence += 1;
        self.told = state;
        let beat = Beat {
            state: match state {
                WorkerState::Loading => "Loading",
                WorkerState::Ready => "Ready",
                WorkerState::Busy => "Busy",
                WorkerState::Draining => "Draining",
                WorkerState::Failed => "Failed",
            },
            timestamp: timestamp(),
            sequence: self.sequence,
            interval_s: seconds(self.interval),
            identity: &self.identity,
        };
        let body = serde_json::to_vec(&beat).expect("our own types are always JSON");
        let delivery = self.delivery.clone();
        let (sent, last_sent) = oneshot::channel();
        let patience = Instant::now() + ORDER_PATIENCE;
        let (until, before) = std::mem::replace(&mut self.last_sent, (patience, last_sent));
        self.under_way.spawn(async move {
            let _ = timeout_at(until, before).await;
            delivery.deliver(body).await;
            drop(sent);
        });
    }
}

/// How many changes may be told: one more every [`CHANGE_GAP`], up to [`CHANGES_AT_ONCE`].
struct Allowance {
    /// From when on another one may be told. In the past by a gap for each that is saved up.
    next: Instant,
}

impl Allowance {
    fn full() -> Self {
        Self {
            next: Self::earliest(),
        }
    }

    fn spend(&mut self) {
        self.next = self.next.max(Self::earliest()) + CHANGE_GAP;
    }

    /// The clock of a machine that has just started may not reach back so far.
    fn earliest() -> Instant {
        let now = Instant::now();
        now.checked_sub(CHANGE_GAP * CHANGES_AT_ONCE).unwrap_or(now)
    }
}

/// 30 and not 30.0, which some readers would not take for the same.
fn seconds(interval: Duration) -> serde_json::Number {
    match interval.subsec_nanos() {
        0 => interval.as_secs().into(),
        _ => serde_json::Number::from_f64(interval.as_secs_f64()).expect("a duration is finite"),
    }
}

#[cfg(test)]
mod tests;
