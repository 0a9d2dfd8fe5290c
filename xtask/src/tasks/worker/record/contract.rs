//! `CONTRACT.md`, promise by promise: each has a number in front of it, by which checks and faults
//! name it. Pure.

use std::sync::LazyLock;

const TEXT: &str = include_str!("../../../../../CONTRACT.md");

/// What begins a remark about one worker, which is no promise.
const OURS: [&str; 2] = ["*Ours:*", "*ours:*"];

/// A promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promised {
    /// A letter for the section, and a number.
    pub number: &'static str,
    /// The heading above it.
    pub section: &'static str,
    /// Its words, on one line.
    pub text: String,
}

/// Every promise, in the contract's order.
pub fn promises() -> &'static [Promised] {
    static PROMISES: LazyLock<Vec<Promised>> = LazyLock::new(|| parse(TEXT));
    &PROMISES
}

/// The promise of that number.
pub fn find(number: &str) -> Option<&'static Promised> {
    promises().iter().find(|promise| promise.number == number)
}

/// A promise runs from its number to the next one, to a remark about one worker, or to the end of its
/// paragraph, item or row. A colon joins it with the code below it.
fn parse(text: &'static str) -> Vec<Promised> {
    let mut promises: Vec<Promised> = Vec::new();
    let (mut section, mut is_open, mut is_code) = ("", false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            is_code = !is_code;
            is_open &= is_code;
            continue;
        }
        let continues = promises.last().is_some_and(|last| last.text.ends_with(':'));
        is_open &= is_code || !(begins_item(line) || (line.is_empty() && !continues));
        if let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) {
            section = heading.trim_start_matches('#').trim();
        }
        for (number, words) in split(line) {
            if let Some(number) = number {
                let text = String::new();
                promises.push(Promised {
                    number,
                    section,
                    text,
                });
                is_open = true;
            }
            let Some(last) = promises.last_mut().filter(|_| is_open) else {
                continue;
            };
            let ours = OURS.iter().filter_map(|ours| words.find(ours)).min();
            let kept = words[..ours.unwrap_or(words.len())].trim();
            is_open = ours.is_none();
            if !kept.is_empty() {
                let gap = if last.text.is_empty() { "" } else { " " };
                last.text += &format!("{gap}{}", kept.trim_matches('|').trim().replace(" |", ":"));
            }
        }
    }
    promises
}

/// Whether a list's item, a table's row or a heading begins here.
fn begins_item(line: &str) -> bool {
    let numbered = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_numbered = numbered.len() < line.len() && numbered.starts_with(". ");
    is_numbered || line.starts_with("- ") || line.starts_with(['|', '#'])
}

/// A line's parts, each with the number in front of it.
fn split(line: &'static str) -> Vec<(Option<&'static str>, &'static str)> {
    let mut parts = Vec::new();
    let (mut number, mut rest) = (None, line);
    while let Some((before, found, after)) = next_number(rest) {
        parts.push((number, before));
        (number, rest) = (Some(found), after);
    }
    parts.push((number, rest));
    parts
}

/// What stands before a number, the number, and what follows.
fn next_number(line: &str) -> Option<(&str, &str, &str)> {
    line.match_indices('[').find_map(|(at, _)| {
        let (number, after) = line[at + 1..].split_once(']')?;
        let (letter, digits) = number.split_at_checked(1)?;
        let is_number = letter.bytes().all(|b| b.is_ascii_uppercase())
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then_some((&line[..at], number, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_unique_and_belong_to_one_section_each() {
        let numbers: HashSet<_> = promises().iter().map(|promise| promise.number).collect();
        assert_eq!(numbers.len(), promises().len());
        assert!(numbers.len() > 100);
        for promise in promises() {
            assert!(!promise.text.is_empty(), "{promise:?}");
        }
    }

    #[test]
    fn a_promise_ends_where_the_next_begins_and_says_nothing_of_ours() {
        let text = "# A\n\n- [A1] One,\n  [A2] two. *Ours:* three\n  four. [A3] Five:\n\n```\nsix\n```\n\n| [A4] `a` | b | *ours:* c |\n";
        let all = parse(text).into_iter();
        let all: Vec<String> = all.map(|promise| promise.text).collect();
        assert_eq!(all, ["One,", "two.", "Five: six", "`a`: b"]);
    }

    /// What promises nothing: the introduction, and what is about one worker.
    const NO_PROMISES: [&str; 3] = [
        "The worker contract, version 1",
        "Names for requests",
        "Beside the contract",
    ];

    /// Says where promises are, and is none.
    const POINTER: &str = "the rest of this section";

    #[test]
    fn nothing_is_promised_without_a_number() {
        let mut bare = Vec::new();
        let (mut section, mut is_code) = ("", false);
        let mut item = String::new();
        for line in TEXT.lines().chain([""]).map(str::trim) {
            if line.starts_with("```") {
                is_code = !is_code;
                continue;
            }
            if line.starts_with("|--") {
                // What stands above it heads a table.
                item.clear();
                continue;
            }
            if line.is_empty() || begins_item(line) {
                bare.extend(Some(std::mem::take(&mut item)).filter(|item| is_bare(item)));
            }
            if is_code || NO_PROMISES.contains(&section) && !line.starts_with('#') {
                continue;
            }
            match line.strip_prefix('#') {
                Some(heading) => section = heading.trim_start_matches('#').trim(),
                None => item += &format!(" {line}"),
            }
        }
        assert!(bare.is_empty(), "{}", bare.join("\n"));
    }

    fn is_bare(item: &str) -> bool {
        let is_ours = item.contains("*ours") || item.contains("*Ours");
        let is_told = is_ours || item.contains(POINTER) || next_number(item).is_some();
        !item.trim().is_empty() && !is_told
    }
}
