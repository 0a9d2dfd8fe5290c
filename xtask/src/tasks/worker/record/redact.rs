//! Secrets and how they are taken out of everything that is written down. Pure.

use std::borrow::Cow;

use serde_json::Value;

/// What stands for a secret.
const MASK: &str = "[redacted]";

/// Environment variables whose values are secrets.
pub const SECRET_VARIABLES: &[&str] = &[
    "WORKER_API_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "GITHUB_TOKEN",
];

/// Words after which a secret follows: a scheme of HTTP authentication.
const SCHEMES: &[&str] = &["bearer ", "basic ", "token "];

/// The name of the header that carries credentials.
const HEADER: &str = "authorization";

/// A shorter value is no secret, and taking it out would garble the rest.
const SHORTEST_SECRET_BYTES: usize = 6;

/// Takes secrets out of text.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Takes out these values, wherever they stand, and credentials by their look.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<_> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST_SECRET_BYTES)
            .collect();
        // A secret that contains another goes first, else its rest would stay.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The text without secrets.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut cleaned = Cow::Borrowed(text);
        for secret in &self.secrets {
            if cleaned.contains(secret.as_str()) {
                cleaned = Cow::Owned(cleaned.replace(secret.as_str(), MASK));
            }
        }
        if mentions_credentials(&cleaned) {
            cleaned = Cow::Owned(mask_credentials(&cleaned));
        }
        cleaned
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
                    if name.eq_ignore_ascii_case(HEADER) {
                        *value = Value::String(MASK.to_owned());
                    } else {
                        self.clean_value(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A header is a pair of name and value: the name tells that the value is a secret.
    fn clean_items(&self, items: &mut [Value]) {
        if let [Value::String(name), value] = items
            && name.eq_ignore_ascii_case(HEADER)
        {
            *value = Value::String(MASK.to_owned());
            return;
        }
        items.iter_mut().for_each(|item| self.clean_value(item));
    }

    /// Whether JSON text may hold a secret: false is certain, and cheap to learn.
    pub fn suspects(&self, json: &str) -> bool {
        // A secret with a quote or a backslash looks different inside JSON.
        let plain = |secret: &String| secret.chars().all(|c| !matches!(c, '"' | '\\' | '\0'..' '));
        self.secrets
            .iter()
            .any(|secret| !plain(secret) || json.contains(secret.as_str()))
            || mentions_credentials(json)
    }
}

/// Masks the word after a scheme, and what follows the header's name on its line.
fn mask_credentials(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = next_credential(rest) {
        cleaned.push_str(&rest[..start]);
        cleaned.push_str(MASK);
        rest = &rest[end..];
    }
    cleaned + rest
}

/// Where the next credential begins and ends.
fn next_credential(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let after_header = lower.find(HEADER).and_then(|at| {
        let after = at + HEADER.len();
        let gap = lower[after..].find(|c: char| !matches!(c, ' ' | ':' | '=' | '"' | '\''))?;
        let mut start = after + gap;
        if gap == 0 {
            return None;
        }
        for scheme in SCHEMES {
            if lower[start..].starts_with(scheme) {
                start += scheme.len();
            }
        }
        Some(start)
    });
    let after_scheme = lower.find("bearer ").map(|at| at + "bearer ".len());
    let start = [after_header, after_scheme].into_iter().flatten().min()?;
    let word = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '\\');
    let length = text[start..].find(word).unwrap_or(text.len() - start);
    Some((start, start + length))
}

/// Whether it is worth looking closer. Searches for whole strings, as the standard library does fast:
/// this sees every byte that a worker logs.
fn mentions_credentials(text: &str) -> bool {
    const TRACES: [&str; 4] = ["uthorization", "UTHORIZATION", "earer ", "EARER "];
    TRACES.iter().any(|trace| text.contains(trace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_secrets_and_credentials_are_taken_out() {
        let redactor = Redactor::new([String::from("hf_abcdef"), String::from("x")]);
        for (text, expected) in [
            ("token hf_abcdef!", "token [redacted]!"),
            ("x stays", "x stays"),
            (
                "-H 'Authorization: Bearer s3cret' -d x",
                "-H 'Authorization: Bearer [redacted]' -d x",
            ),
            (
                "authorization=Basic dXNlcjpw\nnext",
                "authorization=Basic [redacted]\nnext",
            ),
            (
                "BEARER abc.def, bearer ghi",
                "BEARER [redacted], bearer [redacted]",
            ),
            ("the bearer of news", "the bearer [redacted] news"),
            ("no authorization", "no authorization"),
        ] {
            assert_eq!(redactor.clean(text), expected, "{text}");
        }
    }

    #[test]
    fn headers_and_fields_are_known_by_their_names() {
        let mut value = json!({
            "headers": [["authorization", "Custom abc"], ["accept", "x"]],
            "Authorization": "zzz",
            "log": ["Bearer abc"],
        });
        Redactor::default().clean_value(&mut value);
        let expected = json!({
            "headers": [["authorization", "[redacted]"], ["accept", "x"]],
            "Authorization": "[redacted]",
            "log": ["Bearer [redacted]"],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_secret_that_json_escapes_is_suspected() {
        let redactor = Redactor::new([String::from("pass\"word")]);
        assert!(redactor.suspects(r#""pass\"word""#));
        let redactor = Redactor::new([String::from("password")]);
        assert!(redactor.suspects(r#""password""#));
        assert!(!redactor.suspects(r#""harmless""#));
    }
}
