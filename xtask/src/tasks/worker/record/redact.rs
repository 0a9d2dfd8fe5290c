//! Secrets and how they are taken out of everything that is written down. Pure.

pub mod base64;
mod scan;

use std::borrow::Cow;

use serde_json::Value;

use self::scan::{HEADERS, Scanner, Span};

pub use self::scan::ends_word;

/// What stands for a secret.
pub const MASK: &str = "[redacted]";

/// Environment variables whose values are secrets.
const SECRET_VARIABLES: &[&str] = &["AWS_SESSION_TOKEN", "GITHUB_ENV", "HUGGING_FACE_HUB_TOKEN"];

/// How names end whose values are secrets, and how long those are at least: a short one is as likely
/// to be a setting.
const SECRET_ENDINGS: &[&str] = &[
    "_TOKEN",
    "_SECRET",
    "_PASSWORD",
    "_PASSPHRASE",
    "_API_KEY",
    "_ACCESS_KEY",
    "_SECRET_KEY",
    "_PRIVATE_KEY",
    "_CREDENTIALS",
];

/// A shorter value is no secret, and taking it out would garble the rest.
const SHORTEST_SECRET_BYTES: usize = 6;

/// How much of a text without an end is held back, beside the longest secret: as much as stands
/// between a header's name and its value.
const ANNOUNCEMENT_BYTES: usize = 64;

/// Whether what a variable of this name holds is a secret.
pub fn names_secret(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    SECRET_VARIABLES.contains(&name.as_str())
        || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Takes secrets out of text.
#[derive(Debug, Clone)]
pub struct Redactor {
    scanner: Scanner,
    /// Whether a secret looks different inside JSON.
    is_escaped: bool,
}

/// As much of a text as can be told while more of it is to come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CleanPart {
    /// The begin of the text, without secrets.
    pub cleaned: Vec<u8>,
    /// How much of the text that was.
    pub taken: usize,
    /// Whether it ends within a secret, whose rest is to come.
    pub within_secret: bool,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new([])
    }
}

impl Redactor {
    /// Takes out these values, wherever they stand, also in base64, and credentials by their look.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET_BYTES)
            .collect();
        let escaped = |c: char| matches!(c, '"' | '\\' | '\0'..' ');
        let patterns = secrets.iter().flat_map(|secret| {
            let plain = [secret.clone().into_bytes()];
            plain.into_iter().chain(base64::forms(secret.as_bytes()))
        });
        Self {
            scanner: Scanner::new(&patterns.collect::<Vec<_>>()),
            is_escaped: secrets.iter().any(|secret| secret.contains(escaped)),
        }
    }

    /// The text without secrets.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.clean_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // What is taken out begins and ends with whole characters.
            Cow::Owned(cleaned) => Cow::Owned(String::from_utf8_lossy(&cleaned).into_owned()),
        }
    }

    /// The same for what may be no text.
    pub fn clean_bytes<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut spans = self.scanner.spans(text);
        spans.retain(|span| span.start < span.end);
        match spans.is_empty() {
            true => Cow::Borrowed(text),
            false => Cow::Owned(masked(text, &spans)),
        }
    }

    /// The begin of a text whose rest is to come: what may be the begin of a secret is left for later.
    pub fn clean_part(&self, text: &[u8]) -> CleanPart {
        let mut spans = self.scanner.spans(text);
        let held_back = (self.scanner.longest() + ANNOUNCEMENT_BYTES).min(text.len() / 2);
        let mut taken = text.len() - held_back;
        let mut within_secret = false;
        for span in spans.iter().rev() {
            if span.announced < taken && span.end > taken {
                taken = span.announced;
            }
        }
        if taken == 0 {
            taken = text.len();
            within_secret = spans.last().is_some_and(|last| last.end == taken);
        }
        spans.retain(|span| span.start < span.end && span.end <= taken);
        CleanPart {
            cleaned: masked(&text[..taken], &spans),
            taken,
            within_secret,
        }
    }

    /// The same for every string in a JSON value, names included.
    pub fn clean_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(cleaned) = self.clean(text) {
                    *text = cleaned;
                }
            }
            Value::Array(items) => self.clean_items(items),
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    if is_header(name) {
                        *value = Value::String(MASK.to_owned());
                    } else {
                        self.clean_value(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A header is a pair of name and value, and an option is followed by its own: the name tells that
    /// the value is a secret.
    fn clean_items(&self, items: &mut [Value]) {
        let is_pair = items.len() == 2;
        let mut is_announced = false;
        for item in items {
            let announces = item.as_str().is_some_and(|name| {
                is_key_option(name) || (is_pair && !is_announced && is_header(name))
            });
            match is_announced {
                true => *item = Value::String(MASK.to_owned()),
                false => self.clean_value(item),
            }
            is_announced = announces;
        }
    }

    /// Whether JSON text may hold a secret: false is certain, and cheap to learn.
    pub fn suspects(&self, json: &str) -> bool {
        self.is_escaped || self.scanner.finds_any(json.as_bytes())
    }
}

/// Whether the word behind this one is a key: `--api-key`, `--admin-api-key`.
fn is_key_option(word: &str) -> bool {
    word.starts_with("--") && (word.ends_with("api-key") || word.ends_with("api_key"))
}

fn is_header(name: &str) -> bool {
    HEADERS
        .iter()
        .any(|header| name.eq_ignore_ascii_case(header))
}

/// The text with a mask for each span.
fn masked(text: &[u8], spans: &[Span]) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        cleaned.extend_from_slice(&text[at..span.start]);
        cleaned.extend_from_slice(MASK.as_bytes());
        at = span.end;
    }
    cleaned.extend_from_slice(&text[at..]);
    cleaned
}

#[cfg(test)]
mod tests;
