//! The trace against its format, event by event, as its document has it.

use std::collections::BTreeMap;

use super::*;
use crate::tasks::worker::record::replay;

const RECORDINGS: [&str; 2] = [
    include_str!("../../../../../tests/fixtures/failed-run/events.jsonl"),
    include_str!("../../../../../tests/fixtures/benchmark/events.jsonl"),
];

/// What is wrong with a trace, if anything is.
fn ensure_valid(trace: &Value) -> Result<(), String> {
    let events = trace["traceEvents"].as_array().ok_or("no traceEvents")?;
    if !["ms", "ns"]
        .map(Some)
        .contains(&trace["displayTimeUnit"].as_str())
    {
        return Err(String::from("displayTimeUnit"));
    }
    // What is open of each asynchronous span, innermost last.
    let mut open: BTreeMap<(String, String), Vec<(String, f64)>> = BTreeMap::new();
    for event in events {
        let broken = |what: &str| Err(format!("{what}: {event}"));
        let text = |name: &str| event[name].as_str().map(str::to_owned);
        let Some(name) = text("name") else {
            return broken("no name");
        };
        let Some(ts) = event["ts"].as_f64().filter(|ts| *ts >= 0.0) else {
            return broken("no time");
        };
        if !event["pid"].is_u64() || !event["tid"].is_u64() || !event["args"].is_object() {
            return broken("no pid, tid or args");
        }
        match event["ph"].as_str() {
            Some("M") => {
                let known = ["process_name", "thread_name", "thread_sort_index"];
                if !known.contains(&name.as_str()) {
                    return broken("unknown metadata");
                }
            }
            Some("X") if event["dur"].as_f64().is_some_and(|dur| dur >= 0.0) => {}
            Some("i") if ["g", "p", "t"].map(Some).contains(&event["s"].as_str()) => {}
            Some("C") => {
                let args = event["args"].as_object().unwrap();
                if args.is_empty() || !args.values().all(Value::is_number) {
                    return broken("a counter without numbers");
                }
            }
            Some(ph @ ("b" | "e")) => {
                let (Some(cat), Some(id)) = (text("cat"), text("id")) else {
                    return broken("no cat or id");
                };
                let spans = open.entry((cat, id)).or_default();
                match (ph, spans.last().cloned()) {
                    ("b", None) => spans.push((name, ts)),
                    ("b", Some((_, since))) if ts >= since => spans.push((name, ts)),
                    ("e", Some((begun, since))) if begun == name && ts >= since => {
                        spans.pop();
                    }
                    _ => return broken("not nested"),
                }
            }
            _ => return broken("unknown or incomplete phase"),
        }
    }
    match open.iter().find(|(_, spans)| !spans.is_empty()) {
        Some((id, _)) => Err(format!("never ends: {id:?}")),
        None => Ok(()),
    }
}

fn trace(recording: &str) -> Value {
    let report = replay::fold(recording.lines()).unwrap();
    serde_json::from_str(&render(&report)).unwrap()
}

#[test]
fn traces_of_recorded_runs_keep_the_format() {
    for recording in RECORDINGS {
        let trace = trace(recording);
        ensure_valid(&trace).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let has = |ph: &str, name: &str| {
            let mut events = events.iter();
            events.any(|event| event["ph"] == ph && event["name"] == name)
        };
        for (ph, name) in [
            ("X", "loading"),
            ("X", "ready"),
            ("C", "CPU"),
            ("C", "memory"),
            ("i", "Ready"),
        ] {
            assert!(has(ph, name), "no {ph} {name}");
        }
    }
    let events = trace(RECORDINGS[0]);
    let events = events["traceEvents"].as_array().unwrap();
    let of_check = |event: &&Value| event["ph"] == "X" && event["name"] == "streaming.answers";
    assert_eq!(
        events.iter().find(of_check).unwrap()["args"]["outcome"],
        "failed"
    );
    let prefill = events.iter().find(|event| event["name"] == "prefill");
    assert!(prefill.is_some_and(|event| event["ph"] == "b"));
}

#[test]
fn a_trace_that_breaks_the_format_is_found() {
    let whole = trace(RECORDINGS[0]);
    let at = |ph: &str| {
        let events = whole["traceEvents"].as_array().unwrap();
        events.iter().position(|event| event["ph"] == ph).unwrap()
    };
    for (ph, field, value) in [
        ("X", "dur", json!(-1)),
        ("X", "ts", json!("now")),
        ("X", "ph", json!("Z")),
        ("b", "id", json!("0xffff")),
        ("e", "name", json!("another")),
        ("C", "args", json!({"CPU": "much"})),
        ("i", "s", json!("x")),
        ("M", "name", json!("no_such_name")),
        ("i", "pid", Value::Null),
    ] {
        let mut broken = whole.clone();
        broken["traceEvents"][at(ph)][field] = value;
        assert!(ensure_valid(&broken).is_err(), "{ph} {field}");
    }
}

#[test]
fn phases_stay_inside_of_their_request() {
    let told = Phases {
        queue_ms: 5.0,
        prefill_ms: -1.0,
        decode_ms: 500.0,
    };
    let spans: Vec<_> = phases(Some(told), 10.0, 100.0).collect();
    assert_eq!(spans, [("queue", 10.0, 15.0), ("decode", 15.0, 100.0)]);
    assert_eq!(phases(None, 0.0, 1.0).count(), 0);
}
