//! `docs/events.schema.json` describes every event that there is, and the recordings of each version keep it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{EventKind, SCHEMA_VERSION};
use crate::tasks::worker::record::replay;

const SCHEMA: &str = include_str!("../../../../../../docs/events.schema.json");

/// At least one for each version of the schema; the first line says which.
const RECORDINGS: [&str; 3] = [
    include_str!("../../../../../tests/fixtures/failed-run/events.jsonl"),
    include_str!("../../../../../tests/fixtures/benchmark/events.jsonl"),
    include_str!("../../../../../tests/fixtures/schema-2/events.jsonl"),
];

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// The events that the program knows: what it says about one that it doesn't.
fn known() -> BTreeSet<String> {
    let error = serde_json::from_str::<EventKind>(r#"{"event":"?"}"#).unwrap_err();
    let error = error.to_string();
    let (_, list) = error.split_once("expected one of ").unwrap();
    let names = list.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

/// What is wrong with an event, if anything is.
fn ensure_described(schema: &Value, event: &Value) -> Result<(), String> {
    let name = &event["event"];
    let all = schema["oneOf"].as_array().unwrap();
    let described = all
        .iter()
        .find(|d| d["properties"]["event"]["const"] == *name);
    let described = described.ok_or(format!("{name} is not described"))?;
    for required in described["required"].as_array().unwrap() {
        let required = required.as_str().unwrap();
        event
            .get(required)
            .ok_or(format!("{name} lacks {required}"))?;
    }
    for (field, value) in event.as_object().unwrap() {
        if field == "elapsed_ms" {
            continue;
        }
        let field_schema = described["properties"].get(field);
        let field_schema = field_schema.ok_or(format!("{name}: {field} is not described"))?;
        let types = match &field_schema["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        let has_type = |of: &&str| match *of {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => value.is_null(),
        };
        if !types.iter().any(has_type) {
            return Err(format!("{name}: {field} is {value}, not {types:?}"));
        }
    }
    Ok(())
}

#[test]
fn every_event_is_described_and_none_that_is_not_there() {
    let schema = schema();
    let listed = schema["properties"]["event"]["enum"].as_array().unwrap();
    let listed: BTreeSet<String> = listed
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, known());
    let titles = schema["oneOf"].as_array().unwrap().iter();
    let titles = titles.map(|one| one["title"].as_str().unwrap().to_owned());
    assert_eq!(titles.collect::<BTreeSet<_>>(), listed);
}

#[test]
fn recordings_of_every_version_keep_the_schema_and_render() {
    let schema = schema();
    let mut versions = BTreeSet::new();
    for recording in RECORDINGS {
        for line in recording.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            versions.extend(event["schema_version"].as_u64());
            ensure_described(&schema, &event).unwrap();
        }
        let report = replay::fold(recording.lines()).unwrap();
        assert!(
            !report.checks.is_empty() && report.notes.iter().all(|n| !n.contains("can't be read"))
        );
    }
    let all: BTreeSet<u64> = (1..=u64::from(SCHEMA_VERSION)).collect();
    assert_eq!(
        versions, all,
        "each version needs a recording that still renders"
    );
}

#[test]
fn an_event_that_breaks_the_schema_is_found() {
    let schema = schema();
    for broken in [
        r#"{"elapsed_ms":1,"event":"no_such_event"}"#,
        r#"{"elapsed_ms":1,"event":"worker_ready"}"#,
        r#"{"elapsed_ms":1,"event":"worker_ready","after_ms":"soon"}"#,
        r#"{"elapsed_ms":1,"event":"worker_ready","after_ms":1,"unheard_of":2}"#,
    ] {
        let broken: Value = serde_json::from_str(broken).unwrap();
        assert!(ensure_described(&schema, &broken).is_err(), "{broken}");
    }
}
