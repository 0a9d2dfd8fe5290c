//! Whether it is the model that was named, and the whole prompt, that the text comes from: what keeps
//! every other promise may still be an impostor.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::judge::{Evidence, ensure_kept};
use super::row::{Check, Need};
use super::unchanged::SLOW;
use crate::tasks::worker::record::event::{Mismatch, Unmet};
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::InferenceRequest;
use crate::tasks::worker::target::reference::Reference;

/// The part of clear tokens that an engine may round to another one.
const ROUNDED: f64 = 0.03;

/// A slow worker is asked for one in so many.
const SLOW_STEP: usize = 3;

/// How much of a prompt's end is shown.
const SHOWN_CHARS: usize = 40;

/// What a prompt is about, in turn.
const TOPICS: [&str; 8] = [
    "Bread",
    "Thunder",
    "The queen",
    "Mathematics",
    "Nobody",
    "My uncle",
    "Seven",
    "Paris",
];

/// Tokens of a text that shows whether the topic was read.
const TELLING_TOKENS: u32 = 16;

/// Words of a short prompt, and of a long one where the worker isn't slow.
const SHORT_WORDS: usize = 8;
const LONG_WORDS: usize = 300;

/// How many pairs of prompts are compared, and how many where those don't differ clearly.
const PAIRS: usize = 3;
const MOST_PAIRS: usize = 10;

/// So many times as long as the slowest short one is clearly longer.
const CLEARLY: u32 = 2;

/// What the worker says, and whose words those are.
pub const CHECKS: &[Check] = &[
    Check::contract("model.itself", itself)
        .promise("continues texts as the named model does")
        .holds(&["R24", "R22"])
        .explanation("Asks for one greedy token after each of about a hundred prefixes whose next token was clear, by a nat, in another engine; fails if more than 3 % differ.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("The capital of France is", 1)))
        .needs(&[Need::Ready, Need::Sound, Need::KnownModel]),
    Check::contract("model.counts", counts)
        .promise("tokenizes prompts as the named model does")
        .holds(&["A6"])
        .explanation("Sends about sixty texts, some of them awkward; fails if `prompt_tokens` of one differs from another engine's count.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("   leading and trailing   ", 1)))
        .needs(&[Need::Ready, Need::KnownModel]),
    Check::contract("model.whole_prompt", whole_prompt)
        .promise("reads the whole prompt")
        .holds(&["R25"])
        .explanation("Asks eight greedy questions that differ in their first words, and eight that differ in the middle; fails if all of one kind get the same text.")
        .by_hand(|by| by.infer("-s", &InferenceRequest::greedy("Bread was what they spoke of that evening, and then", 16)))
        .needs(&[Need::Ready]),
];

/// How long it takes to read a prompt: timed, and so with nothing else beside it.
pub const TIMES: &[Check] = &[
    Check::contract("model.reading_time", reading_time)
        .promise("takes longer for a long prompt than for a short one")
        .holds(&["R25"])
        .explanation("Times one token after short prompts and after long ones, none of which begins like another; fails unless the quickest long one takes clearly longer than all short ones, or of ten longer than most.")
        .by_hand(|by| by.infer("-s -o /dev/null -w '%{time_total}'", &InferenceRequest::greedy("Once upon a time", 1)))
        .needs(&[Need::Ready]),
];

fn itself(subject: &Subject) -> Result<Evidence> {
    let reference = subject.context.known_model()?;
    let step = match subject.references()?.short.took > SLOW {
        true => SLOW_STEP,
        false => 1,
    };
    let prefixes: Vec<_> = reference.prefixes().into_iter().step_by(step).collect();
    let prompts = prefixes.iter().map(|prefix| prefix.prompt);
    let requests: Vec<_> = prompts
        .map(|prompt| InferenceRequest::greedy(prompt, 1))
        .collect();
    let long = prefixes.iter().position(|prefix| prefix.is_long);
    let (short, long) = requests.split_at(long.unwrap_or(requests.len()));
    let mut answers = subject.worker.infer_all(short)?;
    for request in long {
        answers.push(subject.worker.infer(request)?);
    }
    let texts = answers
        .iter()
        .map(|answer| answer.text.as_deref().unwrap_or_default());
    let wrong: Vec<_> = prefixes
        .iter()
        .zip(texts)
        .filter(|(prefix, text)| !is_same(prefix.next, text))
        .collect();
    let (all, allowed) = (prefixes.len(), prefixes.len() as f64 * ROUNDED);
    if wrong.len() as f64 > allowed {
        let (prefix, text) = wrong[0];
        return Err(Mismatch::new(
            format!("the token after `{}`", end_of(prefix.prompt)),
            format!("`{}`, as {} has it", prefix.next, reference.made_with),
            format!("`{text}`; {} of {all} such tokens differ", wrong.len()),
        )
        .into());
    }
    Ok(format!("{} of {all} tokens", all - wrong.len()))
}

/// Whether this is the token. A space before the first word of an answer is shown by some, and not by
/// others.
fn is_same(expected: &str, text: &str) -> bool {
    let trimmed = expected.trim_start();
    expected == text || (!trimmed.is_empty() && trimmed == text.trim_start())
}

fn end_of(prompt: &str) -> String {
    let skipped = prompt.chars().count().saturating_sub(SHOWN_CHARS);
    let start = if skipped > 0 { "..." } else { "" };
    start.to_owned() + &prompt.chars().skip(skipped).collect::<String>()
}

fn counts(subject: &Subject) -> Result<Evidence> {
    let reference = subject.context.known_model()?;
    let texts = reference.counts();
    let requests: Vec<_> = texts
        .iter()
        .map(|text| InferenceRequest::greedy(text.prompt, 1))
        .collect();
    let answers = subject.worker.infer_all(&requests)?;
    for (text, answer) in texts.iter().zip(&answers) {
        let got = answer.prompt_tokens()?;
        ensure_kept(
            got == text.tokens,
            &format!(
                "`prompt_tokens` of `{}`",
                end_of(text.prompt).escape_debug()
            ),
            format!("{}, as {} counts", text.tokens, reference.made_with),
            got.to_string(),
        )?;
    }
    Ok(format!("{} texts", texts.len()))
}

fn whole_prompt(subject: &Subject) -> Result<Evidence> {
    let first = |topic| format!("{topic} was what they spoke of that evening, and then");
    let middle = |topic| {
        format!(
            "On a long evening of that winter they all spoke of this: {topic}. It was late, and \
             nobody in the house had thought of going to bed yet. And then"
        )
    };
    let mut told = Vec::new();
    for (place, prompts) in [
        ("first words", TOPICS.map(first)),
        ("words in the middle", TOPICS.map(middle)),
    ] {
        let requests = prompts.map(|prompt| InferenceRequest::greedy(&prompt, TELLING_TOKENS));
        let answers = subject.worker.infer_all(&requests)?;
        let texts: BTreeSet<_> = answers
            .iter()
            .map(|answer| answer.text.as_deref().unwrap_or_default())
            .collect();
        ensure!(
            !texts.iter().all(|text| text.is_empty()),
            "the model stops at once after every prompt"
        );
        let got = format!(
            "`{}` for all {}",
            texts.first().unwrap_or(&""),
            TOPICS.len()
        );
        let where_they_differ = format!("prompts that differ in their {place}");
        ensure_kept(
            texts.len() > 1,
            &where_they_differ,
            "texts that differ",
            got,
        )?;
        told.push(format!("{} texts of {} {place}", texts.len(), TOPICS.len()));
    }
    Ok(told.join(", "))
}

fn reading_time(subject: &Subject) -> Result<Evidence> {
    let long_words = match subject.references()?.short.took > SLOW {
        true => LONG_WORDS / SLOW_STEP,
        false => LONG_WORDS,
    };
    let nonce = chrono::Utc::now().timestamp_micros();
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for pair in 1..=MOST_PAIRS {
        let begin = nonce + pair as i64;
        short.push(one_token_after(subject, begin, SHORT_WORDS)?);
        long.push(one_token_after(subject, -begin, long_words)?);
        short.sort();
        long.sort();
        let is_clear = long[0] > short[pair - 1] * CLEARLY;
        // Of as many from one heap, all would not be above the middle of the others.
        let is_telling = pair == MOST_PAIRS && long[0] > short[pair / 2];
        if (pair >= PAIRS && is_clear) || is_telling {
            let more_ms = (long[0] - short[0]).as_secs_f64() * 1e3;
            return Ok(format!(
                "{long_words} words take {more_ms:.1} ms more than {SHORT_WORDS}"
            ));
        }
    }
    let middle = MOST_PAIRS / 2;
    Err(Mismatch::new(
        "one token, by the length of the prompt",
        format!("{long_words} words to take longer than {SHORT_WORDS}"),
        format!(
            "{:.1?} and {:.1?} in the middle of {MOST_PAIRS}",
            long[middle], short[middle]
        ),
    )
    .into())
}

/// How long one token takes after a prompt of so many words, which no cache knows by its begin.
fn one_token_after(subject: &Subject, begin: i64, words: usize) -> Result<Duration> {
    let prompt = format!("{begin}{}", " river".repeat(words - 1));
    let request = InferenceRequest::greedy(&prompt, 1);
    let answer = Reference::where_it_fits(&subject.worker, &request)?;
    let no_room = || format!("the worker's context has no room for {words} words");
    let answer = answer.ok_or_else(|| Unmet::because_of(no_room()))?;
    Ok(answer.took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_before_an_answer_is_no_other_token() {
        assert!(is_same(" France", " France") && is_same(" France", "France"));
        assert!(!is_same(" France", " Fra") && !is_same("\n", "") && !is_same(" ", "\n"));
    }

    #[test]
    fn a_prompt_is_shown_by_its_end() {
        assert_eq!(end_of("short"), "short");
        let long = "ü".repeat(SHOWN_CHARS + 1);
        assert_eq!(end_of(&long), "...".to_owned() + &"ü".repeat(SHOWN_CHARS));
    }
}
