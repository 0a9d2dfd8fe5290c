//! Files of prompts, as people have them: JSON lines, conversations of ShareGPT, traces of aiperf and
//! mooncake.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A block of a mooncake trace stands for so many tokens.
pub const BLOCK_TOKENS: u64 = 512;

/// One request of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilePrompt {
    /// What it says; `None` where the file has its length only.
    pub text: Option<String>,
    /// How long it is; only where it says nothing.
    pub prompt_tokens: u64,
    /// The blocks that it is made of: prompts share what has the same number.
    pub blocks: Vec<u64>,
    /// How long an answer it asks for; `None` where the file doesn't say.
    pub max_tokens: Option<u32>,
    /// When it is due after the beginning of a trace.
    pub due: Option<Duration>,
}

/// Reads a file of prompts.
pub fn read(path: &Path) -> Result<Vec<FilePrompt>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the prompts {}", path.display()))?;
    // Some editors begin each file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    parse(text).with_context(|| format!("{} has no usable prompts", path.display()))
}

fn parse(text: &str) -> Result<Vec<FilePrompt>> {
    let mut prompts = Vec::new();
    // A whole file of JSON is an array; lines of it never begin with a bracket.
    if text.trim_start().starts_with('[') {
        let entries: Vec<Value> = serde_json::from_str(text).context("it is not JSON")?;
        for (number, entry) in (1..).zip(&entries) {
            prompts.push(prompt(entry).with_context(|| format!("entry {number} {EXPECTED}"))?);
        }
    } else {
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            let value: Value =
                serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
            prompts.push(prompt(&value).with_context(|| format!("line {number} {EXPECTED}"))?);
        }
    }
    ensure!(!prompts.is_empty(), "it is empty");
    let timed = prompts.iter().filter(|prompt| prompt.due.is_some()).count();
    if timed != 0 && timed != prompts.len() {
        bail!(
            "only {timed} of its {} requests have a `timestamp`",
            prompts.len()
        );
    }
    // Traces are excerpts: their first request is the beginning.
    prompts.sort_by_key(|prompt| prompt.due);
    let first = prompts[0].due.unwrap_or_default();
    for due in prompts.iter_mut().filter_map(|prompt| prompt.due.as_mut()) {
        *due -= first;
    }
    Ok(prompts)
}

const EXPECTED: &str = "is neither a string nor an object with a `prompt`, a `text`, an `input_length` \
                        or `conversations`";

fn prompt(value: &Value) -> Option<FilePrompt> {
    let field = |names: &[&str]| names.iter().find_map(|name| value[*name].as_str());
    let text = value
        .as_str()
        .or_else(|| field(&["prompt", "text", "text_input"]));
    let text = text.or_else(|| first_of_conversation(value));
    let text = text.filter(|text| !text.is_empty()).map(str::to_owned);
    let prompt_tokens = value["input_length"].as_u64().unwrap_or_default();
    let max_tokens = value["output_length"]
        .as_u64()
        .map(|tokens| tokens.clamp(1, u64::from(u32::MAX)));
    let blocks = value["hash_ids"].as_array().into_iter().flatten();
    let due_ms = value["timestamp"]
        .as_f64()
        .filter(|ms| (0.0..1e12).contains(ms));
    (text.is_some() || prompt_tokens > 0).then(|| FilePrompt {
        text,
        prompt_tokens,
        blocks: blocks.filter_map(Value::as_u64).collect(),
        max_tokens: max_tokens.map(|tokens| tokens as u32),
        due: due_ms.map(|ms| Duration::from_secs_f64(ms / 1e3)),
    })
}

/// What the user says first: `conversations` of ShareGPT, or `messages` of chats.
fn first_of_conversation(value: &Value) -> Option<&str> {
    let turns = value["conversations"]
        .as_array()
        .or_else(|| value["messages"].as_array())?;
    let is_user = |turn: &&Value| {
        let who = turn["from"].as_str().or_else(|| turn["role"].as_str());
        who.is_some_and(|who| ["human", "user"].contains(&who))
    };
    let turn = turns.iter().find(is_user)?;
    turn["value"].as_str().or_else(|| turn["content"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let prompts = parse(text).unwrap().into_iter();
        prompts.filter_map(|prompt| prompt.text).collect()
    }

    #[test]
    fn a_file_has_a_prompt_a_line() {
        let lines = "\"a\"\n\n{\"prompt\": \"b\", \"more\": 1}\n{\"text\": \"c\"}\n";
        assert_eq!(texts(lines), ["a", "b", "c"]);
        for (text, part) in [
            ("", "empty"),
            ("\"a\"\nb", "line 2 is not JSON"),
            ("{\"words\": 1}", "line 1 is neither"),
            ("\"\"", "line 1 is neither"),
            ("[]", "empty"),
            ("[1]", "entry 1 is neither"),
            (
                "{\"prompt\":\"a\",\"timestamp\":1}\n\"b\"",
                "only 1 of its 2",
            ),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_prompt() {
        let path = std::env::temp_dir().join(format!("prompts-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "\u{feff}\"a\"\r\n\"b\"\r\n").unwrap();
        let prompts = read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(prompts.unwrap().len(), 2);
    }

    #[test]
    fn a_conversation_gives_what_its_user_says_first() {
        let share_gpt = r#"[{"id":"x","conversations":[{"from":"system","value":"s"},
            {"from":"human","value":"hello"},{"from":"gpt","value":"hi"}]},
            {"messages":[{"role":"user","content":"there"}]}]"#;
        assert_eq!(texts(share_gpt), ["hello", "there"]);
    }

    #[test]
    fn a_trace_has_lengths_blocks_and_times() {
        let trace = r#"{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}
            {"timestamp": 27432, "input_length": 9, "output_length": 0, "hash_ids": [46]}"#;
        let prompts = parse(trace).unwrap();
        let earlier = FilePrompt {
            text: None,
            prompt_tokens: 9,
            blocks: vec![46],
            max_tokens: Some(1),
            due: Some(Duration::ZERO),
        };
        assert_eq!(prompts[0], earlier);
        assert_eq!(prompts[1].due, Some(Duration::from_millis(50)));
        assert_eq!(
            (prompts[1].prompt_tokens, prompts[1].max_tokens),
            (6955, Some(52))
        );
    }
}
