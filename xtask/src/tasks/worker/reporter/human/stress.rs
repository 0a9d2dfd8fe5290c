//! Several workers under load for people at a terminal: how it goes, and what came of it. Pure.

use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::stress::{PoolChange, PoolEvent, Pulse, StressPlan};
use crate::tasks::worker::reporter::bench::{aligned, number};
use crate::tasks::worker::reporter::stress::{COLUMNS, TREND_COLUMNS, remarks, rows, trend_rows};
use crate::tasks::worker::reporter::words;

/// The load that begins.
pub fn load(plan: &StressPlan) -> String {
    let kill = if plan.kill_one {
        ", one of them killed in the middle"
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
pub fn pulse(pulse: &Pulse) -> String {
    let memory = pulse.memory_bytes.iter().map(|bytes| match bytes {
        Some(bytes) => format!("{:.1}", *bytes as f64 / 1e6),
        None => String::from("-"),
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

/// The tables; nothing where there were not several workers.
pub fn lines(report: &RunReport) -> Vec<String> {
    let rows = rows(report);
    if rows.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        String::from("\n📈 Workers under load"),
        String::from("=================================="),
    ];
    let trimmed = |line: String| line.trim_end().to_owned();
    lines.extend(aligned(COLUMNS, &rows).into_iter().map(trimmed));
    let trends = trend_rows(report);
    if !trends.is_empty() {
        lines.push(String::new());
        lines.extend(aligned(TREND_COLUMNS, &trends).into_iter().map(trimmed));
    }
    lines.extend(remarks(report).iter().map(|remark| format!("   {remark}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_one_line() {
        let told = pulse(&Pulse {
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
