//! `--worker-cmd`: a server's own command line, with places for what a run decides. Pure.

use std::ffi::OsString;

/// A command line, split into words as a shell does it. Nothing in it is expanded, and no shell runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTemplate {
    text: String,
    /// Never empty.
    words: Vec<Vec<WordPart>>,
}

/// What a run fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// The model's file.
    Model,
    /// Where to listen.
    Port,
    /// The address to listen on.
    Host,
    /// What computes.
    Backend,
    /// Which device of that backend.
    Device,
    /// The worker's name.
    WorkerId,
    /// What heartbeats call the model.
    ModelRef,
    /// Where heartbeats go.
    HiveUrl,
    /// Seconds between heartbeats.
    HeartbeatInterval,
}

/// Each by its name in a template.
const PLACEHOLDERS: [(&str, Placeholder); 9] = [
    ("model", Placeholder::Model),
    ("port", Placeholder::Port),
    ("host", Placeholder::Host),
    ("backend", Placeholder::Backend),
    ("device", Placeholder::Device),
    ("worker_id", Placeholder::WorkerId),
    ("model_ref", Placeholder::ModelRef),
    ("hive_url", Placeholder::HiveUrl),
    ("heartbeat_interval", Placeholder::HeartbeatInterval),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum WordPart {
    Text(String),
    Value(Placeholder),
}

impl CommandTemplate {
    /// The program and its arguments.
    pub fn fill(&self, value: impl Fn(Placeholder) -> OsString) -> Vec<OsString> {
        let word = |parts: &Vec<WordPart>| {
            let mut word = OsString::new();
            for part in parts {
                match part {
                    WordPart::Text(text) => word.push(text),
                    WordPart::Value(placeholder) => word.push(value(*placeholder)),
                }
            }
            word
        };
        self.words.iter().map(word).collect()
    }

    /// Whether it has a place for this.
    pub fn has(&self, placeholder: Placeholder) -> bool {
        let mut parts = self.words.iter().flatten();
        parts.any(|part| *part == WordPart::Value(placeholder))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::str::FromStr for CommandTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = Splitter::new(text).words()?;
        match words.is_empty() {
            true => Err(String::from("it names no program")),
            false => Ok(Self {
                text: text.to_owned(),
                words,
            }),
        }
    }
}

/// Splits by POSIX's rules for quotes and backslashes; `{name}` is a placeholder also within quotes,
/// and `{{` and `}}` are braces.
struct Splitter<'t> {
    characters: std::iter::Peekable<std::str::Chars<'t>>,
    words: Vec<Vec<WordPart>>,
    /// The word that is being read; a pair of quotes begins one, too.
    word: Option<Vec<WordPart>>,
}

impl<'t> Splitter<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            characters: text.chars().peekable(),
            words: Vec::new(),
            word: None,
        }
    }

    fn words(mut self) -> Result<Vec<Vec<WordPart>>, String> {
        while let Some(character) = self.characters.next() {
            match character {
                c if c.is_whitespace() => self.words.extend(self.word.take()),
                '\'' | '"' => self.quoted(character)?,
                '\\' => match self.characters.next() {
                    Some(escaped) => self.push(escaped),
                    None => return Err(String::from("it ends with a backslash")),
                },
                c => self.plain(c)?,
            }
        }
        self.words.extend(self.word.take());
        Ok(self.words)
    }

    fn quoted(&mut self, quote: char) -> Result<(), String> {
        self.word.get_or_insert_default();
        while let Some(character) = self.characters.next() {
            let next = self.characters.peek().copied();
            match character {
                c if c == quote => return Ok(()),
                '\\' if quote == '"' && next.is_some_and(|next| "\"\\$`".contains(next)) => {
                    self.characters.next();
                    self.push(next.unwrap_or_default());
                }
                c => self.plain(c)?,
            }
        }
        Err(format!("a quote {quote} is never closed"))
    }

    /// A character that may begin a placeholder.
    fn plain(&mut self, character: char) -> Result<(), String> {
        let is_doubled = "{}".contains(character) && self.characters.peek() == Some(&character);
        if is_doubled {
            self.characters.next();
        }
        if character != '{' || is_doubled {
            self.push(character);
            return Ok(());
        }
        let mut name = String::new();
        loop {
            match self.characters.next() {
                Some('}') => break,
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
                _ => {
                    return Err(format!(
                        "`{{{name}` is not a placeholder: write `{{{{` for a brace"
                    ));
                }
            }
        }
        let known = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
        let Some((_, placeholder)) = known else {
            let names = PLACEHOLDERS.map(|(name, _)| format!("{{{name}}}"));
            return Err(format!(
                "there is no placeholder {{{name}}}: {}",
                names.join(" ")
            ));
        };
        let word = self.word.get_or_insert_default();
        word.push(WordPart::Value(*placeholder));
        Ok(())
    }

    fn push(&mut self, character: char) {
        let word = self.word.get_or_insert_default();
        match word.last_mut() {
            Some(WordPart::Text(text)) => text.push(character),
            _ => word.push(WordPart::Text(character.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Vec<OsString> {
        let template: CommandTemplate = text.parse().unwrap();
        template.fill(|placeholder| match placeholder {
            Placeholder::Model => "a model.gguf".into(),
            other => format!("<{other:?}>").into(),
        })
    }

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        assert_eq!(
            filled(r#" s  'a b'  "c \"d\" \n"  e\ f g''h  '' "#),
            ["s", "a b", r#"c "d" \n"#, "e f", "gh", ""]
        );
        assert_eq!(
            filled("s $HOME * ~ | ;"),
            ["s", "$HOME", "*", "~", "|", ";"]
        );
    }

    #[test]
    fn placeholders_are_filled_in_and_a_value_stays_one_word() {
        assert_eq!(
            filled("s -m {model} --at {host}:{port} \"x={worker_id}\" '{model}'"),
            [
                "s",
                "-m",
                "a model.gguf",
                "--at",
                "<Host>:<Port>",
                "x=<WorkerId>",
                "a model.gguf"
            ]
        );
        assert_eq!(filled(r#"s '{{"a": 1}}' }"#), ["s", r#"{"a": 1}"#, "}"]);
    }

    #[test]
    fn every_placeholder_has_a_name() {
        let all = PLACEHOLDERS
            .map(|(name, _)| format!("{{{name}}}"))
            .join(" ");
        let template: CommandTemplate = all.parse().unwrap();
        let expected = PLACEHOLDERS.map(|(_, placeholder)| vec![WordPart::Value(placeholder)]);
        assert_eq!(template.words, expected);
    }

    #[test]
    fn what_cannot_be_a_command_line_is_refused_with_its_reason() {
        for (text, part) in [
            ("", "no program"),
            ("  ", "no program"),
            ("s 'a", "quote ' is never closed"),
            ("s \"a", "quote \" is never closed"),
            ("s a\\", "backslash"),
            ("s {modle}", "no placeholder {modle}: {model}"),
            ("s {model", "`{model` is not a placeholder"),
            (r#"s '{"a":1}'"#, "write `{{` for a brace"),
        ] {
            let error = text.parse::<CommandTemplate>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
