//! The heartbeats of several workers that share one hive, taken in as they come: whose they are, in
//! which order, and how late.

use std::collections::BTreeSet;

use crate::tasks::worker::check::rhythm::tolerance_ms;
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::target::dialect::{Dialect, HeartbeatPayload};

/// One lost or late beat in so many is not the worker's fault,
const EXCUSED_ONE_IN: u64 = 20;

/// nor is a single one that is late by less than an interval: a worker that is late is late again.
const LATE_ONCE: u64 = 1;

/// How much longer than it may be late a beat may be under way.
const UNDER_WAY_MS: f64 = 50.0;

/// The beats of all workers.
#[derive(Debug)]
pub struct Book {
    dialect: &'static dyn Dialect,
    interval_ms: f64,
    /// Lateness counts from here on.
    from_ms: f64,
    pages: Vec<Page>,
    /// How many requests to the hive were taken in.
    seen: usize,
    /// What no worker should have sent.
    stranger: Option<Mismatch>,
}

/// The beats of one worker.
#[derive(Debug, Default)]
pub struct Page {
    worker_id: String,
    /// Where it listens, and did in its first life.
    ports: Vec<u16>,
    /// How many came.
    pub count: u64,
    /// How many of them were late.
    pub late: u64,
    worst_ms: f64,
    worst_number: u32,
    last_ms: Option<f64>,
    /// The next in the sequence.
    expected: u64,
    /// Those that overtook others on their way.
    ahead: BTreeSet<u64>,
    trouble: Option<Mismatch>,
    /// While it is gone its beats are kept: they may be of its second life.
    held: Option<Vec<(Heartbeat, HeartbeatPayload)>>,
    /// Where its second life begins, until its first beat is seen.
    reborn_ms: Option<f64>,
    /// Beats of its second life.
    pub second_life: u64,
    /// How long after its second start the first of them came.
    pub resumed_after_ms: Option<f64>,
}

impl Book {
    /// For workers with these names and ports.
    pub fn new(
        dialect: &'static dyn Dialect,
        workers: impl IntoIterator<Item = (String, u16)>,
        interval_ms: f64,
    ) -> Self {
        let page = |(worker_id, port)| Page {
            worker_id,
            ports: vec![port],
            expected: 1,
            ..Page::default()
        };
        Self {
            dialect,
            interval_ms,
            from_ms: f64::MAX,
            pages: workers.into_iter().map(page).collect(),
            seen: 0,
            stranger: None,
        }
    }

    /// From here on beats have to be on time.
    pub fn judge_from(&mut self, from_ms: f64) {
        self.from_ms = from_ms;
    }

    /// How many requests to the hive were taken in so far.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// How many beats were late so far.
    pub fn late(&self) -> u64 {
        self.pages.iter().map(|page| page.late).sum()
    }

    /// The beats of the worker of that number.
    pub fn page(&self, worker: usize) -> &Page {
        &self.pages[worker]
    }

    /// A worker is gone on purpose.
    pub fn gone(&mut self, worker: usize) {
        self.pages[worker].held.get_or_insert_default();
    }

    /// It was started again on this port, at this moment.
    pub fn reborn(
        &mut self,
        worker: usize,
        port: u16,
        at_ms: f64,
        lag_ms: impl Fn(f64, f64) -> f64,
    ) {
        let page = &mut self.pages[worker];
        let held = page.held.take().unwrap_or_default();
        page.reborn_ms = Some(at_ms);
        page.ports.push(port);
        for (beat, payload) in held {
            self.file(worker, &beat, &payload, &lag_ms);
        }
    }

    /// Takes in what came, in its order; `lag_ms` tells how late we were ourselves between two
    /// moments.
    pub fn take_in(&mut self, beats: &[Heartbeat], lag_ms: impl Fn(f64, f64) -> f64) {
        for beat in beats {
            self.seen += 1;
            let read = self.dialect.read_heartbeat(beat);
            let sent = read.and_then(|payload| Ok((self.sender(beat, &payload)?, payload)));
            match sent {
                Ok((worker, payload)) => match &mut self.pages[worker].held {
                    Some(held) => held.push((beat.clone(), payload)),
                    None => self.file(worker, beat, &payload, &lag_ms),
                },
                Err(mismatch) => {
                    self.stranger.get_or_insert(mismatch);
                }
            }
        }
    }

    fn sender(&self, beat: &Heartbeat, payload: &HeartbeatPayload) -> Result<usize, Mismatch> {
        let is_its = |page: &Page| page.worker_id == payload.worker_id;
        self.pages.iter().position(is_its).ok_or_else(|| {
            let expected = "the name of one of the workers that were started";
            let place = format!("heartbeat #{}, `worker_id`", beat.number);
            Mismatch::new(place, expected, &payload.worker_id)
        })
    }

    fn file(
        &mut self,
        worker: usize,
        beat: &Heartbeat,
        payload: &HeartbeatPayload,
        lag_ms: impl Fn(f64, f64) -> f64,
    ) {
        let (interval_ms, from_ms) = (self.interval_ms, self.from_ms);
        let page = &mut self.pages[worker];
        if let Err(mismatch) = page.expect_port(beat, payload) {
            self.stranger.get_or_insert(mismatch);
            return;
        }
        page.count += 1;
        page.look_for_second_life(beat, payload.sequence);
        page.take_sequence(beat, payload.sequence);
        if let Some(last_ms) = page.last_ms
            && beat.arrived_ms >= from_ms
        {
            let due_ms = last_ms + interval_ms;
            let late_ms = beat.arrived_ms - due_ms - lag_ms(due_ms, beat.arrived_ms);
            page.note_lateness(late_ms, beat.number, interval_ms);
        }
        page.last_ms = Some(beat.arrived_ms);
    }

    /// Fails with the first broken promise of any worker, as it is at this moment.
    pub fn judge(&self, now_ms: f64, lag_ms: impl Fn(f64, f64) -> f64) -> Result<(), Mismatch> {
        if let Some(mismatch) = &self.stranger {
            return Err(mismatch.clone());
        }
        for page in self.pages.iter().filter(|page| page.held.is_none()) {
            page.judge(self.interval_ms)?;
            let last_ms = page.last_ms.unwrap_or(0.0);
            let due_ms = last_ms + self.interval_ms;
            let silent_ms = now_ms - due_ms - lag_ms(due_ms, now_ms);
            if silent_ms > tolerance_ms(self.interval_ms) + UNDER_WAY_MS {
                let place = format!("heartbeats of {}", page.worker_id);
                let expected = format!("one every {:.0} ms", self.interval_ms);
                let got = format!("none for {:.0} ms", now_ms - last_ms);
                return Err(Mismatch::new(place, expected, got));
            }
        }
        Ok(())
    }
}

impl Page {
    fn expect_port(&self, beat: &Heartbeat, payload: &HeartbeatPayload) -> Result<(), Mismatch> {
        let is_its = |port: &u16| u64::from(*port) == payload.port;
        if self.ports.iter().any(is_its) {
            return Ok(());
        }
        let place = format!("heartbeat #{}, `port`", beat.number);
        let port = self.ports.last().map_or(0, |port| *port);
        let expected = format!("{port}, which is that of {}", payload.worker_id);
        Err(Mismatch::new(place, expected, payload.port.to_string()))
    }

    /// A beat that the first life had sent may come when the second one has begun.
    fn look_for_second_life(&mut self, beat: &Heartbeat, sequence: u64) {
        let Some(reborn_ms) = self.reborn_ms.filter(|at| beat.arrived_ms >= *at) else {
            self.second_life += u64::from(self.resumed_after_ms.is_some());
            return;
        };
        if sequence == self.expected && sequence != 1 {
            return;
        }
        self.reborn_ms = None;
        self.resumed_after_ms = Some(beat.arrived_ms - reborn_ms);
        self.second_life = 1;
        self.expected = 1;
        self.ahead.clear();
        self.last_ms = None;
    }

    fn take_sequence(&mut self, beat: &Heartbeat, sequence: u64) {
        if sequence < self.expected || !self.ahead.insert(sequence) {
            let place = format!(
                "heartbeat #{} of {}, `sequence`",
                beat.number, self.worker_id
            );
            let expected = format!("{} or more", self.expected);
            let mismatch = Mismatch::new(place, expected, sequence.to_string());
            self.trouble.get_or_insert(mismatch);
        }
        while self.ahead.remove(&self.expected) {
            self.expected += 1;
        }
    }

    fn note_lateness(&mut self, late_ms: f64, number: u32, interval_ms: f64) {
        self.late += u64::from(late_ms > tolerance_ms(interval_ms));
        if late_ms > self.worst_ms {
            (self.worst_ms, self.worst_number) = (late_ms, number);
        }
    }

    fn judge(&self, interval_ms: f64) -> Result<(), Mismatch> {
        if let Some(mismatch) = &self.trouble {
            return Err(mismatch.clone());
        }
        let excused = self.count / EXCUSED_ONE_IN;
        let missing = self
            .ahead
            .last()
            .map_or(0, |last| last + 1 - self.expected - self.ahead.len() as u64);
        if missing > excused {
            let place = format!("heartbeats of {}, `sequence`", self.worker_id);
            let got = format!("{missing} missing of {}", self.count + missing);
            return Err(Mismatch::new(place, "a sequence without gaps", got));
        }
        if self.late > excused.max(LATE_ONCE) || self.worst_ms > interval_ms {
            let place = format!("heartbeat #{} of {}", self.worst_number, self.worker_id);
            let expected = format!("at most {:.0} ms late", tolerance_ms(interval_ms));
            let got = format!(
                "late by {:.0} ms; {} of {} were late",
                self.worst_ms, self.late, self.count
            );
            return Err(Mismatch::new(place, expected, got));
        }
        Ok(())
    }

    /// By how much the latest was late.
    pub fn worst_ms(&self) -> f64 {
        self.worst_ms
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tasks::worker::target::dialect::native;

    fn beat(number: u32, arrived_ms: f64, id: &str, sequence: u64) -> Heartbeat {
        Heartbeat {
            number,
            arrived_ms,
            clock: String::new(),
            method: String::from("POST"),
            path: String::from("/heartbeat/workers"),
            content_type: Some(String::from("application/json")),
            body: json!({
                "worker_id": id, "state": "Ready", "timestamp": "2026-01-31T10:54:23.120Z",
                "sequence": sequence, "interval_s": 1, "model_ref": "m", "backend": "cpu",
                "device": 0, "port": if id == "a" { 1 } else { 2 },
            }),
            answered: Some(200),
        }
    }

    fn book() -> Book {
        let mut book = Book::new(
            native(),
            [(String::from("a"), 1), (String::from("b"), 2)],
            1000.0,
        );
        book.judge_from(0.0);
        book
    }

    fn no_lag(_: f64, _: f64) -> f64 {
        0.0
    }

    fn judged(beats: &[Heartbeat], now_ms: f64) -> Result<(), Mismatch> {
        let mut book = book();
        book.take_in(beats, no_lag);
        book.judge(now_ms, no_lag)
    }

    #[test]
    fn beats_that_overtake_each_other_are_in_order_and_lost_ones_are_not() {
        let mut beats = vec![
            beat(1, 0.0, "a", 1),
            beat(2, 0.0, "b", 1),
            beat(3, 990.0, "a", 3),
            beat(4, 1000.0, "a", 2),
            beat(5, 1000.0, "b", 2),
        ];
        judged(&beats, 1900.0).unwrap();
        beats.push(beat(6, 1900.0, "a", 5));
        assert!(
            judged(&beats, 1900.0)
                .unwrap_err()
                .got
                .contains("1 missing")
        );
        beats.push(beat(7, 1900.0, "a", 3));
        assert!(
            judged(&beats, 1900.0)
                .unwrap_err()
                .place
                .contains("#7 of a")
        );
    }

    #[test]
    fn lateness_silence_and_strangers_are_seen_and_our_own_lateness_is_not_blamed() {
        let beats = [
            beat(1, 0.0, "a", 1),
            beat(2, 0.0, "b", 1),
            beat(3, 1000.0, "a", 2),
            beat(4, 1300.0, "b", 2),
            beat(5, 2000.0, "a", 3),
            beat(6, 2550.0, "b", 3),
        ];
        judged(&beats[..5], 2100.0).unwrap();
        let late = judged(&beats, 2900.0).unwrap_err();
        assert!(late.place.contains("#4 of b"), "{late}");
        let mut book = book();
        book.take_in(&beats, |_, _| 250.0);
        book.judge(2900.0, no_lag).unwrap();
        let silent = book.judge(3400.0, no_lag).unwrap_err();
        assert!(silent.place.contains("of a"), "{silent}");
        let stranger = judged(&[beat(1, 0.0, "c", 1)], 1.0).unwrap_err();
        assert_eq!(stranger.got, "c");
        let mut borrowed = beat(1, 0.0, "a", 1);
        borrowed.body["port"] = json!(2);
        assert!(judged(&[borrowed], 1.0).unwrap_err().place.contains("port"));
    }

    #[test]
    fn a_second_life_begins_with_one_and_after_the_last_words_of_the_first() {
        let mut book = book();
        let first = [
            beat(1, 0.0, "a", 1),
            beat(2, 0.0, "b", 1),
            beat(3, 1000.0, "a", 2),
            beat(4, 1000.0, "b", 2),
        ];
        book.take_in(&first, no_lag);
        book.gone(1);
        let second = [
            beat(5, 1500.0, "b", 3),
            beat(6, 1520.0, "b", 1),
            beat(7, 2500.0, "b", 2),
        ];
        book.take_in(&second, no_lag);
        book.reborn(1, 2, 1490.0, no_lag);
        let page = book.page(1);
        assert_eq!((page.second_life, page.resumed_after_ms), (2, Some(30.0)));
        book.take_in(&[beat(8, 2000.0, "a", 3)], no_lag);
        book.judge(2600.0, no_lag).unwrap();
        book.take_in(&[beat(9, 2600.0, "b", 2)], no_lag);
        assert!(book.judge(2600.0, no_lag).is_err());
    }

    #[test]
    fn a_second_life_may_be_on_another_port_and_nobody_else_s_beats_are() {
        let on_port = |number, arrived_ms, sequence, port| {
            let mut beat = beat(number, arrived_ms, "b", sequence);
            beat.body["port"] = json!(port);
            beat
        };
        let mut book = book();
        book.take_in(&[on_port(1, 0.0, 1, 2)], no_lag);
        book.gone(1);
        book.take_in(&[on_port(2, 1500.0, 1, 3)], no_lag);
        book.reborn(1, 3, 1490.0, no_lag);
        book.take_in(&[beat(3, 1500.0, "a", 1)], no_lag);
        book.judge(1600.0, no_lag).unwrap();
        book.take_in(&[on_port(4, 2500.0, 2, 4)], no_lag);
        let stranger = book.judge(2500.0, no_lag).unwrap_err();
        assert_eq!(stranger.expected, "3, which is that of b");
    }
}
