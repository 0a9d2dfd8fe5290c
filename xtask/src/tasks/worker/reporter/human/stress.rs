//! Several workers under load for people at a terminal: how it goes. Pure.

use crate::tasks::worker::record::stress::{PoolChange, PoolEvent, StressPlan, StressProgress};
use crate::tasks::worker::reporter::words::{self, NO_FIGURE, number};

/// The load that begins.
pub fn load(plan: &StressPlan) -> String {
    let kill = if plan.kill_one {
        ", one of them killed halfway"
    } else {
        ""
    };
    format!(
        "\n📈 Putting {} workers under load: {} streams each for {}{kill}...",
        plan.workers,
        plan.streams,
        words::duration(plan.duration_ms as f64)
    )
}

/// One of several workers came, went or came back.
pub fn change(change: &PoolChange) -> String {
    let PoolChange {
        worker_id,
        pid,
        port,
        what,
    } = change;
    match what {
        PoolEvent::Started => format!("✓ {worker_id} started (PID: {pid}, port {port})"),
        PoolEvent::Ready => format!("✓ {worker_id} is ready"),
        PoolEvent::Killed => format!("⚠️ {worker_id} (PID: {pid}) is killed, as planned"),
        PoolEvent::Restarted => format!("✓ {worker_id} started again (PID: {pid}, port {port})"),
    }
}

/// How it goes, every minute.
pub fn pulse(pulse: &StressProgress) -> String {
    let memory = pulse.memory_bytes.iter().map(|bytes| match bytes {
        Some(bytes) => format!("{:.1}", *bytes as f64 / 1e6),
        None => NO_FIGURE.to_owned(),
    });
    format!(
        "   {}: {} requests, {} failed, {} tokens/s, memory {} MB, {} late beats",
        words::duration(pulse.since_ms as f64),
        pulse.requests,
        pulse.failures,
        number(pulse.tokens_per_s),
        memory.collect::<Vec<_>>().join(" "),
        pulse.late_beats
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_one_line() {
        let told = pulse(&StressProgress {
            since_ms: 60_000,
            requests: 1234,
            failures: 0,
            tokens_per_s: 456.7,
            memory_bytes: vec![Some(12_340_000), None],
            late_beats: 1,
        });
        assert_eq!(
            told,
            "   1 min 00 s: 1234 requests, 0 failed, 456.7 tokens/s, memory 12.3 - MB, 1 late beats"
        );
    }
}
