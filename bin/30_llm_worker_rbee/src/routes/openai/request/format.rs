//! The form that an answer has to have: any text, any JSON object, or JSON that follows a schema.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::fields::{Field, describe, read_object};
use crate::error::{ApiError, ErrorCode};

/// A schema may be so long, in bytes of its JSON.
const LARGEST_SCHEMA: usize = 64 * 1024;

/// The schema that the answer has to follow, if there is one.
pub fn schema(field: &Field) -> Result<Option<Value>, ApiError> {
    let members = object(field, &["type", "json_schema"])?;
    let kind = required("response_format.type", of(&members, "type"))?;
    match kind.string()?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(json!({"type": "object"}))),
        "json_schema" => {
            let named = of(&members, "json_schema");
            named_schema(&required("response_format.json_schema", named)?).map(Some)
        }
        _ => {
            let message = format!(
                "{}: got {}, this worker supports text, json_object and json_schema",
                kind.name,
                describe(kind.value.get())
            );
            let code = ErrorCode::Unsupported;
            Err(ApiError::on_field(code, kind.name, message))
        }
    }
}

fn named_schema(field: &Field) -> Result<Value, ApiError> {
    let members = object(field, &["name", "description", "schema", "strict"])?;
    for (place, name) in [
        ("response_format.json_schema.name", "name"),
        ("response_format.json_schema.description", "description"),
    ] {
        if let Some(value) = of(&members, name) {
            Field { name: place, value }.string()?;
        }
    }
    // What can't be obeyed to the letter is refused, so that every schema is strict.
    if let Some(value) = of(&members, "strict") {
        let name = "response_format.json_schema.strict";
        Field { name, value }.boolean()?;
    }
    let place = "response_format.json_schema.schema";
    let schema = required(place, of(&members, "schema"))?;
    let raw = schema.value.get();
    if !raw.starts_with('{') {
        return Err(schema.refuse(&describe(raw), "an object"));
    }
    if raw.len() > LARGEST_SCHEMA {
        let allowed = format!("up to {LARGEST_SCHEMA}");
        return Err(schema.refuse(&format!("{} bytes", raw.len()), &allowed));
    }
    serde_json::from_str(raw).map_err(|error| schema.refuse(&error.to_string(), "JSON"))
}

fn object<'a>(
    field: &Field<'a>,
    allowed: &[&str],
) -> Result<Vec<(String, &'a RawValue)>, ApiError> {
    match field.value.get().starts_with('{') {
        true => read_object(field.value, allowed),
        false => Err(field.refuse(&describe(field.value.get()), "an object")),
    }
}

/// As everywhere in OpenAI's bodies, null is left out.
fn of<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    let found = members.iter().find(|(member, _)| member == name);
    found
        .map(|(_, value)| *value)
        .filter(|value| value.get() != "null")
}

fn required<'a>(name: &'a str, value: Option<&'a RawValue>) -> Result<Field<'a>, ApiError> {
    let missing =
        || ApiError::on_field(ErrorCode::InvalidField, name, format!("{name} is missing"));
    value.map(|value| Field { name, value }).ok_or_else(missing)
}
