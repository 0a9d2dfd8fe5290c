//! The other side of the dialect, as far as a worker of known timing needs it.

use serde_json::{Value, json};

/// The prompt of a request; empty where there is none.
pub fn known_prompt(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["prompt"].as_str().unwrap_or_default().to_owned()
}

/// A token event.
pub fn known_token(index: u64) -> String {
    let data = json!({"index": index, "text": " word"});
    format!("event: token\ndata: {data}\n\n")
}

/// The last event.
pub fn known_end(tokens: u64) -> String {
    let data = json!({
        "tokens": tokens,
        "finish_reason": "length",
        "usage": {"prompt_tokens": 1, "completion_tokens": tokens},
        "timings": {"queue_ms": 0.0, "prefill_ms": 0.0, "decode_ms": 0.0},
    });
    format!("event: end\ndata: {data}\n\n")
}
