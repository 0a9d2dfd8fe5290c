//! Heartbeats: where they go and what they carry.

use chrono::{DateTime, FixedOffset};

use super::Fields;
use super::fields::is_media_type;
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};

/// What a worker says of itself in a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatState {
    /// The model isn't in memory yet.
    Loading,
    /// It would take a request, and has none.
    Ready,
    /// It works on one.
    Busy,
    /// It is stopping.
    Draining,
}

/// A heartbeat's payload.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatPayload {
    /// Whose heartbeat it is.
    pub worker_id: String,
    /// What it is doing.
    pub state: BeatState,
    /// The worker's wall clock.
    pub timestamp: DateTime<FixedOffset>,
    /// Rises by one for each beat that is due.
    pub sequence: u64,
    /// The interval that the worker keeps.
    pub interval_s: u64,
    /// The model.
    pub model_ref: String,
    /// cpu, cuda or metal.
    pub backend: String,
    /// Which device of that backend.
    pub device: u64,
    /// The worker's port.
    pub port: u64,
}

/// Whether a request to the hive was a heartbeat, sent as the contract says.
pub fn is_heartbeat_request(request: &Heartbeat) -> Result<(), Mismatch> {
    let got = format!("{} {}", request.method, request.path);
    if got != "POST /heartbeat/workers" {
        let place = format!("request #{} to the hive", request.number);
        return Err(Mismatch::new(place, "POST /heartbeat/workers", got));
    }
    let content_type = request.content_type.as_deref().unwrap_or("none");
    if !is_media_type(content_type, "application/json") {
        let place = format!("heartbeat #{}", request.number);
        return Err(Mismatch::new(
            place,
            "content type application/json",
            content_type,
        ));
    }
    Ok(())
}

/// Reads a heartbeat's payload.
pub fn read_heartbeat(request: &Heartbeat) -> Result<HeartbeatPayload, Mismatch> {
    let fields = Fields::from_value(format!("heartbeat #{}", request.number), &request.body)?;
    let state = fields.text("state")?;
    let timestamp = fields.text("timestamp")?;
    Ok(HeartbeatPayload {
        worker_id: fields.text("worker_id")?,
        state: match state.as_str() {
            "Loading" => BeatState::Loading,
            "Ready" => BeatState::Ready,
            "Busy" => BeatState::Busy,
            "Draining" => BeatState::Draining,
            other => return Err(fields.wrong("state", "Loading, Ready, Busy or Draining", other)),
        },
        timestamp: DateTime::parse_from_rfc3339(&timestamp)
            .map_err(|_| fields.wrong("timestamp", "a time as in RFC 3339", &timestamp))?,
        sequence: fields.count("sequence")?,
        interval_s: fields.count("interval_s")?,
        model_ref: fields.text("model_ref")?,
        backend: fields.text("backend")?,
        device: fields.count("device")?,
        port: fields.count("port")?,
    })
}
