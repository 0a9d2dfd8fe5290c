//! How late heartbeats were, as reports show it; what is too late is the checks' to say. Pure.

use super::event::Heartbeat;

/// Each heartbeat, and by how much it was later than one interval after the beat before; `None` for the
/// first, and for those that a change of state brought before they were due.
pub fn lateness(
    heartbeats: &[Heartbeat],
    interval_s: Option<u64>,
) -> Vec<(&Heartbeat, Option<f64>)> {
    let interval_ms = interval_s.map(|interval_s| interval_s as f64 * 1e3);
    let mut before: Option<&Heartbeat> = None;
    let mut late = Vec::with_capacity(heartbeats.len());
    for beat in heartbeats {
        let same_state = before.is_some_and(|b| b.body.get("state") == beat.body.get("state"));
        let gap_ms = before.map(|b| beat.arrived_ms - b.arrived_ms);
        let late_ms = gap_ms
            .zip(interval_ms)
            .map(|(gap_ms, interval_ms)| gap_ms - interval_ms)
            .filter(|late_ms| same_state || *late_ms > 0.0)
            .map(|late_ms| late_ms.max(0.0));
        late.push((beat, late_ms));
        before = Some(beat);
    }
    late
}
