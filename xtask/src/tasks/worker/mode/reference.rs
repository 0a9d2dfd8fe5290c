//! `--save-reference`: writes down what a trusted worker says and how it counts.
//!
//! Nothing tells how far ahead a token is, so that it is drawn as well: where every draw gives the greedy
//! one, it is far ahead of all others.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tasks::worker::model::reference::{ModelReference, NextToken};
use crate::tasks::worker::record::event::EventKind;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Completion, InferenceRequest};
use crate::tasks::worker::target::worker::WorkerHandle;

/// How often a token is drawn at temperature 1. One that is drawn each time has more than half of the
/// probability, nearly always.
const DRAWS: u64 = 4;

/// Prefixes of a passage that are tried,
const PREFIXES: usize = 24;

/// of which the shortest has so many bytes.
const LEAST_BYTES: usize = 20;

/// Fewer clear tokens than these are no reference.
const LEAST_CLEAR: usize = 20;

/// Asks a worker like the one under test, and writes what it says.
///
/// Fails where it doesn't answer, where too little is clear, and where the file can't be written.
pub fn save(subject: &Subject<'_>, model: &str, path: &Path) -> Result<()> {
    let ask = || -> Result<ModelReference> {
        let mut auxiliary = subject.auxiliaries.start("reference", |_| {})?;
        auxiliary.wait_until_ready()?;
        reference_of(&auxiliary.worker, model)
    };
    let reference = ask().context("there is no reference to save")?;
    reference.save(path)?;
    let message = format!(
        "saved what the worker says after {} prefixes in {}: --reference {} holds others to it",
        reference.prefixes().len(),
        path.display(),
        path.display()
    );
    subject.context.journal.emit(EventKind::Noted { message });
    Ok(())
}

fn reference_of(worker: &WorkerHandle, model: &str) -> Result<ModelReference> {
    let (passages, strings) = ModelReference::texts()?;
    let mut nexts = Vec::new();
    for (passage, text) in passages.iter().enumerate() {
        let ends = ends_of_words(text);
        let prefixes: Vec<&str> = ends.iter().map(|&end| &text[..end]).collect();
        for (prefix, next) in prefixes.iter().zip(clear_tokens(worker, &prefixes)?) {
            if let Some((tokens, text)) = next {
                nexts.push(NextToken {
                    passage,
                    bytes: prefix.len(),
                    tokens,
                    text,
                });
            }
        }
    }
    ensure!(
        nexts.len() >= LEAST_CLEAR,
        "the worker is sure of only {} next tokens, and {LEAST_CLEAR} are needed",
        nexts.len()
    );
    let (passages, strings) = (counted(worker, passages)?, counted(worker, strings)?);
    let made_with = "the worker that --save-reference asked";
    Ok(ModelReference::of_answers(
        model, made_with, passages, nexts, strings,
    ))
}

/// Where prefixes end: before a space, so that most tokenizers begin a token there.
fn ends_of_words(text: &str) -> Vec<usize> {
    let spaces = text.match_indices(' ').map(|(at, _)| at);
    let ends: Vec<_> = spaces.filter(|at| *at >= LEAST_BYTES).collect();
    let step = ends.len().div_ceil(PREFIXES).max(1);
    ends.into_iter().step_by(step).collect()
}

/// The greedy token after each prefix, with the prefix's number of tokens, where all draws agree.
fn clear_tokens(worker: &WorkerHandle, prefixes: &[&str]) -> Result<Vec<Option<(usize, String)>>> {
    let greedy: Vec<_> = prefixes
        .iter()
        .map(|prefix| InferenceRequest::greedy(prefix, 1))
        .collect();
    let drawn = |seed| {
        let requests = greedy.iter().map(|request| InferenceRequest {
            temperature: Some(1.0),
            seed: Some(seed),
            ..request.clone()
        });
        worker.infer_all(&requests.collect::<Vec<_>>())
    };
    let answers = worker.infer_all(&greedy)?;
    let draws = (0..DRAWS).map(drawn).collect::<Result<Vec<_>>>()?;
    let clear = |(number, answer): (usize, &Completion)| {
        let text = answer.text.clone().unwrap_or_default();
        let agrees = draws.iter().all(|draw| draw[number].text == answer.text);
        let tokens = answer.prompt_tokens()? as usize;
        Ok((agrees && !text.is_empty()).then_some((tokens, text)))
    };
    answers.iter().enumerate().map(clear).collect()
}

fn counted(worker: &WorkerHandle, texts: Vec<String>) -> Result<Vec<(String, u64)>> {
    let requests: Vec<_> = texts
        .iter()
        .map(|text| InferenceRequest::greedy(text, 1))
        .collect();
    let answers = worker.infer_all(&requests)?;
    let counts = answers.iter().map(|answer| answer.prompt_tokens());
    Ok(texts
        .into_iter()
        .zip(counts.collect::<Result<Vec<_>>>()?)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_before_spaces_and_are_not_too_many() {
        assert!(ends_of_words("no space far enough").is_empty());
        let text = "The capital of France is Paris and that is that";
        for end in ends_of_words(text) {
            assert!(end >= LEAST_BYTES && text[end..].starts_with(' '));
        }
        assert_eq!(ends_of_words(text).len(), 6);
        assert!(ends_of_words(&"word ".repeat(500)).len() <= PREFIXES);
    }
}
