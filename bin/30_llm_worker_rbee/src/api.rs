//! The body of an inference request: bytes in, a validated request or a refusal out. Pure.
//!
//! Read by hand and not by a derived deserialiser, because a derived one takes the last of two
//! equal fields, rounds large numbers, and names types in Rust's words and not in JSON's.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::engine::GenerationRequest;
use crate::error::{ApiError, ErrorCode, shorten};

mod number;
use number::{Integer, parse_integer};

/// What is generated when the client names no number.
pub const DEFAULT_MAX_TOKENS: u32 = 128;
/// The temperature when the client names none.
pub const DEFAULT_TEMPERATURE: f32 = 0.7;
/// As many stop strings as a request may carry.
pub const MAX_STOP_STRINGS: usize = 16;

/// Every field that a request may carry; any other is refused.
const FIELDS: [&str; 8] = [
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream",
];

/// A request that keeps every rule of the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceRequest {
    /// What the engine needs to know.
    pub generation: GenerationRequest,
    /// Whether tokens go out as they are made.
    pub stream: bool,
}

/// Reads and checks a body.
pub fn parse_inference_request(body: &[u8]) -> Result<InferenceRequest, ApiError> {
    let fields = read_fields(body)?;
    let mut request = InferenceRequest {
        generation: GenerationRequest {
            max_tokens: DEFAULT_MAX_TOKENS,
            temperature: DEFAULT_TEMPERATURE,
            ..GenerationRequest::default()
        },
        stream: false,
    };
    let generation = &mut request.generation;
    let mut has_prompt = false;
    for (name, value) in &fields {
        let field = Field { name, value };
        match name.as_str() {
            "prompt" => {
                generation.prompt = field.not_empty_string()?.into();
                has_prompt = true;
            }
            // Beyond any context is beyond this one: the engine refuses it with both lengths.
            "max_tokens" => generation.max_tokens = field.count()?.min(i32::MAX as u32),
            "temperature" => {
                generation.temperature =
                    field.number("from 0 to 2", |t| (0.0..=2.0).contains(&t))?;
            }
            "top_p" => {
                let top_p = field.number("above 0, up to 1", |p| p > 0.0 && p <= 1.0)?;
                // A double can be above 0 where the nearest float is not.
                generation.top_p = Some(top_p.max(f32::MIN_POSITIVE));
            }
            "top_k" => generation.top_k = Some(field.count()?),
            "seed" => generation.seed = Some(field.seed()?),
            "stop" => generation.stop = field.stop_strings()?,
            "stream" => request.stream = field.boolean()?,
            _ => return Err(unknown_field(name)),
        }
    }
    if !has_prompt {
        return Err(invalid(
            "prompt",
            "prompt is missing: a string, not empty, is required",
        ));
    }
    Ok(request)
}

/// The fields in the order in which they came, with their values as they were written.
fn read_fields(body: &[u8]) -> Result<Vec<(String, &RawValue)>, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| malformed(format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
    // Syntax first and for the whole body; this pass neither recurses nor allocates.
    let whole: &RawValue =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if !whole.get().starts_with('{') {
        let got = describe(whole.get());
        return Err(invalid(
            "prompt",
            format!("got {got}, an object with a prompt is required"),
        ));
    }
    let Fields(fields) =
        serde_json::from_str(whole.get()).map_err(|error| malformed(error.to_string()))?;
    for (index, (name, _)) in fields.iter().enumerate() {
        if !FIELDS.contains(&name.as_str()) {
            return Err(unknown_field(name));
        }
        if fields[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(invalid(
                name,
                format!("{name} is given twice, once is allowed"),
            ));
        }
    }
    Ok(fields)
}

fn unknown_field(name: &str) -> ApiError {
    let allowed = FIELDS.join(", ");
    let message = format!("unknown field \"{}\", allowed are {allowed}", shorten(name));
    // The whole name could be as long as the body.
    invalid(&shorten(name), message)
}

fn malformed(cause: String) -> ApiError {
    let message = format!("the body is not JSON: {cause}");
    ApiError::new(ErrorCode::MalformedJson, message)
}

fn invalid(field: &str, message: impl Into<String>) -> ApiError {
    ApiError::on_field(ErrorCode::InvalidField, field, message)
}

/// One field, and the readings that the contract's types need.
struct Field<'a> {
    name: &'a str,
    value: &'a RawValue,
}

impl Field<'_> {
    fn string(&self) -> Result<String, ApiError> {
        self.string_from(self.value.get(), "a string")
    }

    fn not_empty_string(&self) -> Result<String, ApiError> {
        let text = self.string()?;
        match text.is_empty() {
            true => Err(self.refuse("an empty string", "at least one character")),
            false => Ok(text),
        }
    }

    fn boolean(&self) -> Result<bool, ApiError> {
        match self.value.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(self.refuse(&describe(other), "true or false")),
        }
    }

    /// A number whose range is judged before it is rounded to a float.
    fn number(&self, allowed: &str, in_range: fn(f64) -> bool) -> Result<f32, ApiError> {
        let raw = self.value.get();
        // Rust's grammar for floats contains JSON's; the first byte keeps the rest of it out.
        let number = is_number(raw).then(|| raw.parse::<f64>().ok()).flatten();
        match number {
            Some(number) if in_range(number) => Ok(number as f32),
            _ => Err(self.refuse(&describe(raw), &format!("a number {allowed}"))),
        }
    }

    /// An integer from 1. One that no `u32` holds becomes the largest.
    fn count(&self) -> Result<u32, ApiError> {
        const ALLOWED: &str = "an integer from 1";
        match self.integer(ALLOWED)? {
            Integer::Small(count) if count > 0 => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            Integer::TooLarge => Ok(u32::MAX),
            _ => Err(self.refuse(&describe(self.value.get()), ALLOWED)),
        }
    }

    fn seed(&self) -> Result<u64, ApiError> {
        const ALLOWED: &str = "an integer from 0 to 18446744073709551615";
        match self.integer(ALLOWED)? {
            Integer::Small(seed) => Ok(seed),
            _ => Err(self.refuse(&describe(self.value.get()), ALLOWED)),
        }
    }

    fn integer(&self, allowed: &str) -> Result<Integer, ApiError> {
        let raw = self.value.get();
        match is_number(raw).then(|| parse_integer(raw)).flatten() {
            Some(integer) => Ok(integer),
            None => Err(self.refuse(&describe(raw), allowed)),
        }
    }

    fn stop_strings(&self) -> Result<Vec<String>, ApiError> {
        const ALLOWED: &str = "a string or up to 16 of them, none empty";
        let raw = self.value.get();
        let strings = match raw.starts_with('[') {
            false => vec![self.string_from(raw, ALLOWED)?],
            true => {
                let items: Vec<&RawValue> =
                    serde_json::from_str(raw).map_err(|error| malformed(error.to_string()))?;
                if items.len() > MAX_STOP_STRINGS {
                    return Err(self.refuse(&format!("{} strings", items.len()), ALLOWED));
                }
                let strings = items
                    .iter()
                    .map(|item| self.string_from(item.get(), ALLOWED));
                strings.collect::<Result<_, _>>()?
            }
        };
        match strings.iter().any(String::is_empty) {
            true => Err(self.refuse("an empty string", ALLOWED)),
            false => Ok(strings),
        }
    }

    fn string_from(&self, raw: &str, allowed: &str) -> Result<String, ApiError> {
        if !raw.starts_with('"') {
            return Err(self.refuse(&describe(raw), allowed));
        }
        // Only here do escapes turn into text, so only here do lone surrogates come to light.
        serde_json::from_str(raw).map_err(|error| malformed(format!("{}: {error}", self.name)))
    }

    fn refuse(&self, got: &str, allowed: &str) -> ApiError {
        let name = self.name;
        invalid(name, format!("{name}: got {got}, allowed is {allowed}"))
    }
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// The value in words: its JSON type, and the value itself where that helps.
fn describe(raw: &str) -> String {
    match raw.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(b'"') => format!("the string {}", shorten(raw)),
        _ => shorten(raw),
    }
}

/// An object's members, in order and with repetitions.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
