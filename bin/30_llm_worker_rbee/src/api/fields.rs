//! A JSON object's fields, read one by one as they were written: with repetitions, exact numbers,
//! and JSON's own names for types. Pure.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_STOP_STRINGS;
use super::number::{Integer, parse_integer};
use crate::error::{ApiError, ErrorCode, shorten};

/// A body's fields in the order in which they came, with their values as they were written. All are
/// among `allowed`, and none comes twice. A body without any could at least have had `required`.
pub fn read_body<'a>(
    body: &'a [u8],
    required: &str,
    allowed: &[&str],
) -> Result<Vec<(String, &'a RawValue)>, ApiError> {
    let text = std::str::from_utf8(body)
        .map_err(|error| malformed(format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
    // Syntax first and for the whole body; this pass neither recurses nor allocates.
    let whole: &RawValue =
        serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
    if !whole.get().starts_with('{') {
        let got = describe(whole.get());
        return Err(invalid(
            required,
            format!("got {got}, an object with a {required} is required"),
        ));
    }
    read_object(whole, allowed)
}

/// The fields of a value that is an object.
pub fn read_object<'a>(
    object: &'a RawValue,
    allowed: &[&str],
) -> Result<Vec<(String, &'a RawValue)>, ApiError> {
    let fields = members(object.get())?;
    for (index, (name, _)) in fields.iter().enumerate() {
        if !allowed.contains(&name.as_str()) {
            return Err(unknown_field(name, allowed));
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

fn members(object: &str) -> Result<Vec<(String, &RawValue)>, ApiError> {
    let Fields(fields) =
        serde_json::from_str(object).map_err(|error| malformed(error.to_string()))?;
    Ok(fields)
}

fn unknown_field(name: &str, allowed: &[&str]) -> ApiError {
    let allowed = allowed.join(", ");
    let message = format!("unknown field \"{}\", allowed are {allowed}", shorten(name));
    // The whole name could be as long as the body.
    invalid(&shorten(name), message)
}

fn malformed(cause: String) -> ApiError {
    let message = format!("the body is not JSON: {cause}");
    ApiError::new(ErrorCode::MalformedJson, message)
}

/// A refusal that blames the field.
pub fn invalid(field: &str, message: impl Into<String>) -> ApiError {
    ApiError::on_field(ErrorCode::InvalidField, field, message)
}

/// One field, and the readings that the contract's types need.
pub struct Field<'a> {
    /// What a refusal calls it.
    pub name: &'a str,
    /// As it was written.
    pub value: &'a RawValue,
}

impl Field<'_> {
    /// The items of an array; nothing else is `allowed`.
    pub fn items(&self, allowed: &str) -> Result<Vec<&RawValue>, ApiError> {
        let raw = self.value.get();
        match raw.starts_with('[') {
            true => serde_json::from_str(raw).map_err(|error| malformed(error.to_string())),
            false => Err(self.refuse(&describe(raw), allowed)),
        }
    }

    /// The members of an object, in order and with repetitions; nothing else is `allowed`.
    pub fn members(&self, allowed: &str) -> Result<Vec<(String, &RawValue)>, ApiError> {
        let raw = self.value.get();
        match raw.starts_with('{') {
            true => members(raw),
            false => Err(self.refuse(&describe(raw), allowed)),
        }
    }

    /// A string, maybe empty.
    pub fn string(&self) -> Result<String, ApiError> {
        self.string_from(self.value.get(), "a string")
    }

    /// A string with something in it.
    pub fn not_empty_string(&self) -> Result<String, ApiError> {
        let text = self.string()?;
        match text.is_empty() {
            true => Err(self.refuse("an empty string", "at least one character")),
            false => Ok(text),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool, ApiError> {
        match self.value.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(self.refuse(&describe(other), "true or false")),
        }
    }

    /// A number whose range is judged before it is rounded to a float.
    pub fn number(&self, allowed: &str, in_range: fn(f64) -> bool) -> Result<f32, ApiError> {
        let raw = self.value.get();
        // Rust's grammar for floats contains JSON's; the first byte keeps the rest of it out.
        let number = is_number(raw).then(|| raw.parse::<f64>().ok()).flatten();
        match number {
            Some(number) if in_range(number) => Ok(number as f32),
            _ => Err(self.refuse(&describe(raw), &format!("a number {allowed}"))),
        }
    }

    /// An integer from 1. One that no `u32` holds becomes the largest.
    pub fn count(&self) -> Result<u32, ApiError> {
        const ALLOWED: &str = "an integer from 1";
        match self.integer(ALLOWED)? {
            Integer::Small(count) if count > 0 => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            Integer::TooLarge => Ok(u32::MAX),
            _ => Err(self.refuse(&describe(self.value.get()), ALLOWED)),
        }
    }

    /// An integer from 0 to so many.
    pub fn up_to(&self, most: u32) -> Result<u32, ApiError> {
        let allowed = format!("an integer from 0 to {most}");
        match self.integer(&allowed)? {
            Integer::Small(number) if number <= u64::from(most) => Ok(number as u32),
            _ => Err(self.refuse(&describe(self.value.get()), &allowed)),
        }
    }

    /// The number of a token; whether there is such a token is for the model to know.
    pub fn token(&self) -> Result<u32, ApiError> {
        const ALLOWED: &str = "numbers of tokens";
        let refused = || self.refuse(&describe(self.value.get()), ALLOWED);
        match self.integer(ALLOWED)? {
            Integer::Small(token) => u32::try_from(token).map_err(|_| refused()),
            _ => Err(refused()),
        }
    }

    /// From greedy to hot.
    pub fn temperature(&self) -> Result<f32, ApiError> {
        self.number("from 0 to 2", |t| (0.0..=2.0).contains(&t))
    }

    /// A share of probability that isn't nothing.
    pub fn top_p(&self) -> Result<f32, ApiError> {
        let top_p = self.number("above 0, up to 1", |p| p > 0.0 && p <= 1.0)?;
        // A double can be above 0 where the nearest float is not.
        Ok(top_p.max(f32::MIN_POSITIVE))
    }

    /// An integer that a seed can be.
    pub fn seed(&self) -> Result<u64, ApiError> {
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

    /// One string or several, none empty.
    pub fn stop_strings(&self) -> Result<Vec<String>, ApiError> {
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

    /// The string that `raw`, a part of this field, is.
    pub fn string_from(&self, raw: &str, allowed: &str) -> Result<String, ApiError> {
        if !raw.starts_with('"') {
            return Err(self.refuse(&describe(raw), allowed));
        }
        // Only here do escapes turn into text, so only here do lone surrogates come to light.
        serde_json::from_str(raw).map_err(|error| malformed(format!("{}: {error}", self.name)))
    }

    /// The refusal of this field: what it holds, and what it may.
    pub fn refuse(&self, got: &str, allowed: &str) -> ApiError {
        let name = self.name;
        invalid(name, format!("{name}: got {got}, allowed is {allowed}"))
    }
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// The value in words: its JSON type, and the value itself where that helps.
pub fn describe(raw: &str) -> String {
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
