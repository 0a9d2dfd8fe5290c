//! Heartbeats: where they go and what they carry.

use chrono::DateTime;

use crate::tasks::worker::net::http::is_media_type;
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::target::dialect::fields::Fields;
use crate::tasks::worker::target::dialect::protocol::{BeatState, HeartbeatPayload};

/// Whether a request to the hive was a heartbeat, sent as the contract says.
fn is_heartbeat(request: &Heartbeat) -> Result<(), Mismatch> {
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

/// Reads a heartbeat, whose request has to be one.
pub fn read(request: &Heartbeat) -> Result<HeartbeatPayload, Mismatch> {
    is_heartbeat(request)?;
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
            "Failed" => BeatState::Failed,
            other => {
                let allowed = "Loading, Ready, Busy, Draining or Failed";
                return Err(fields.wrong("state", allowed, other));
            }
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
