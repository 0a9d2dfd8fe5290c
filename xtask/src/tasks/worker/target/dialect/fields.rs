//! Strict reading of a JSON object, with a message that says where and what.

use serde_json::{Map, Value};

use crate::tasks::worker::net::http::{Response, is_media_type};
use crate::tasks::worker::record::event::Mismatch;

/// Longer values are cut in messages.
const SHOWN_CHARS: usize = 200;

/// A JSON object whose fields are promised.
#[derive(Debug, Clone)]
pub struct Fields {
    place: String,
    object: Map<String, Value>,
}

impl Fields {
    /// The object in an answer's body.
    pub fn of(response: &Response) -> Result<Self, Mismatch> {
        let place = format!("{}, status {}", response.request, response.status);
        let content_type = response.header("content-type").unwrap_or("no content type");
        if !is_media_type(content_type, "application/json") {
            return Err(Mismatch::new(
                place,
                "content type application/json",
                content_type,
            ));
        }
        Self::parse(place, &response.body)
    }

    /// The `error` of an answer, and its message, which says something.
    pub fn of_error(response: &Response) -> Result<(Self, String), Mismatch> {
        let error = Self::of(response)?.object("error")?;
        let message = error.text("message")?;
        if message.trim().is_empty() {
            return Err(error.wrong("message", "a sentence", "an empty one"));
        }
        Ok((error, message))
    }

    /// The object in these bytes.
    pub fn parse(place: impl Into<String>, bytes: &[u8]) -> Result<Self, Mismatch> {
        let place = place.into();
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(Self { place, object }),
            _ => {
                let got = shorten(&String::from_utf8_lossy(bytes));
                Err(Mismatch::new(place, "a JSON object", got))
            }
        }
    }

    /// The object in this value.
    pub fn from_value(place: impl Into<String>, value: &Value) -> Result<Self, Mismatch> {
        match value {
            Value::Object(object) => Ok(Self {
                place: place.into(),
                object: object.clone(),
            }),
            other => Err(Mismatch::new(
                place,
                "a JSON object",
                shorten(&other.to_string()),
            )),
        }
    }

    /// A string.
    pub fn text(&self, name: &str) -> Result<String, Mismatch> {
        let value = self.get(name, "a string", Value::as_str)?;
        Ok(value.to_owned())
    }

    /// A string, where there is one; null is none.
    pub fn optional_text(&self, name: &str) -> Result<Option<String>, Mismatch> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    /// A boolean.
    pub fn boolean(&self, name: &str) -> Result<bool, Mismatch> {
        self.get(name, "true or false", Value::as_bool)
    }

    /// A whole number from 0. As in JSON Schema, `5.0` is one, too.
    pub fn count(&self, name: &str) -> Result<u64, Mismatch> {
        self.get(name, "a whole number from 0", |value| {
            let whole = |number: &f64| *number >= 0.0 && number.fract() == 0.0 && *number < 2e15;
            value
                .as_u64()
                .or_else(|| value.as_f64().filter(whole).map(|number| number as u64))
        })
    }

    /// A duration in milliseconds: a finite number from 0.
    pub fn duration_ms(&self, name: &str) -> Result<f64, Mismatch> {
        self.get(name, "a number from 0", |value| {
            value.as_f64().filter(|ms| ms.is_finite() && *ms >= 0.0)
        })
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Fields, Mismatch> {
        let object = self.get(name, "an object", Value::as_object)?;
        Ok(Fields {
            place: format!("{}, `{name}`", self.place),
            object: object.clone(),
        })
    }

    /// An object, where there is one; null is none.
    pub fn optional_object(&self, name: &str) -> Result<Option<Fields>, Mismatch> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.object(name).map(Some),
        }
    }

    /// An array of objects.
    pub fn objects(&self, name: &str) -> Result<Vec<Fields>, Mismatch> {
        let items = self.get(name, "an array of objects", Value::as_array)?;
        let place = |at: usize| format!("{}, `{name}[{at}]`", self.place);
        let items = items.iter().enumerate();
        items
            .map(|(at, item)| Fields::from_value(place(at), item))
            .collect()
    }

    /// The mismatch for a field with the right type and the wrong value.
    pub fn wrong(&self, name: &str, expected: &str, got: &str) -> Mismatch {
        let place = format!("{}, `{name}`", self.place);
        Mismatch::new(place, expected, shorten(got))
    }

    fn get<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, Mismatch> {
        match self.object.get(name) {
            None => Err(self.wrong(name, expected, "no such field")),
            Some(value) => {
                read(value).ok_or_else(|| self.wrong(name, expected, &value.to_string()))
            }
        }
    }
}

/// The beginning of a long text.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_fraction_is_whole_however_it_is_written() {
        let fields = Fields::parse(
            "GET /x",
            br#"{"a":5,"b":5.0,"c":5e0,"d":5.5,"e":-1.0,"f":"5"}"#,
        );
        let fields = fields.unwrap();
        for whole in ["a", "b", "c"] {
            assert_eq!(fields.count(whole).unwrap(), 5, "{whole}");
        }
        for other in ["d", "e", "f"] {
            assert!(fields.count(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_mismatch_says_where_and_what() {
        let fields = Fields::parse("GET /x", br#"{"a":"1","b":-1,"c":{"d":1e999}}"#);
        assert!(
            fields.is_err(),
            "a number beyond every float is not JSON to us"
        );
        let fields = Fields::parse("GET /x", br#"{"a":"1","b":-1,"c":{"d":-0.5}}"#).unwrap();
        let messages = [
            fields.count("a").unwrap_err().to_string(),
            fields.count("b").unwrap_err().to_string(),
            fields.count("z").unwrap_err().to_string(),
            fields
                .object("c")
                .unwrap()
                .duration_ms("d")
                .unwrap_err()
                .to_string(),
        ];
        assert_eq!(
            messages,
            [
                "GET /x, `a`: expected a whole number from 0, got \"1\"",
                "GET /x, `b`: expected a whole number from 0, got -1",
                "GET /x, `z`: expected a whole number from 0, got no such field",
                "GET /x, `c`, `d`: expected a number from 0, got -0.5",
            ]
        );
    }
}
