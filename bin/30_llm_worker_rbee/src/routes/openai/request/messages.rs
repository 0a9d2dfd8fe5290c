//! A chat's messages: texts, each with a role. What isn't text is refused by name.

use serde_json::value::RawValue;

use crate::api::fields::{Field, describe, read_object};
use crate::chat_template::Message;
use crate::error::{ApiError, ErrorCode};

/// The messages of a chat.
pub fn messages(field: &Field) -> Result<Vec<Message>, ApiError> {
    const ALLOWED: &str = "an array of messages, not empty";
    let items = field.items(ALLOWED)?;
    if items.is_empty() {
        return Err(field.refuse("an empty array", ALLOWED));
    }
    let read = |(at, item): (usize, &&RawValue)| message(&format!("messages[{at}]"), item);
    items.iter().enumerate().map(read).collect()
}

fn message(place: &str, value: &RawValue) -> Result<Message, ApiError> {
    let whole = Field { name: place, value };
    if !value.get().starts_with('{') {
        return Err(whole.refuse(&describe(value.get()), "an object with role and content"));
    }
    let fields = read_object(
        value,
        &["role", "content", "refusal", "tool_calls", "audio"],
    )?;
    let mut message = Message {
        role: String::new(),
        content: String::new(),
    };
    let mut has_content = false;
    for (name, value) in fields.iter().filter(|(_, value)| value.get() != "null") {
        let place = format!("{place}.{name}");
        let field = Field {
            name: &place,
            value,
        };
        match name.as_str() {
            "role" => message.role = role(&field)?,
            "content" => {
                message.content = content(&field)?;
                has_content = true;
            }
            _ => {
                let said = format!("{place}: this worker doesn't support it");
                return Err(ApiError::on_field(ErrorCode::Unsupported, place, said));
            }
        }
    }
    match has_content && !message.role.is_empty() {
        true => Ok(message),
        false => Err(whole.refuse("a message without them", "an object with role and content")),
    }
}

fn role(field: &Field) -> Result<String, ApiError> {
    let role = field.string()?;
    match role.as_str() {
        // A new name for the same thing, which no template knows.
        "developer" => Ok("system".to_owned()),
        "system" | "user" | "assistant" => Ok(role),
        _ => Err(field.refuse(
            &describe(field.value.get()),
            "system, developer, user or assistant",
        )),
    }
}

/// A text, or parts that are texts.
fn content(field: &Field) -> Result<String, ApiError> {
    const ALLOWED: &str = "a string or an array of parts of type text";
    if !field.value.get().starts_with('[') {
        return field.string_from(field.value.get(), ALLOWED);
    }
    let mut whole = String::new();
    for part in field.items(ALLOWED)? {
        if !part.get().starts_with('{') {
            return Err(field.refuse(&describe(part.get()), ALLOWED));
        }
        let name = format!("{}[].type", field.name);
        let fields = read_object(part, &["type", "text", "image_url", "input_audio", "file"])?;
        let of = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| *value)
        };
        match (of("type"), of("text")) {
            (Some(kind), Some(text)) if kind.get() == "\"text\"" => {
                whole.push_str(&field.string_from(text.get(), ALLOWED)?);
            }
            (kind, _) => {
                let got = kind.map_or("none".to_owned(), |kind| describe(kind.get()));
                let said = format!("{name}: got {got}, this worker supports text");
                return Err(ApiError::on_field(ErrorCode::Unsupported, name, said));
            }
        }
    }
    Ok(whole)
}
