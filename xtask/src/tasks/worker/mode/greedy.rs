//! What a worker goes on with, greedily, along a text: the evidence for comparing backends.
//!
//! The worker under test isn't asked: a second one like it is, after everything else, so that no
//! check and no measure feels it. What becomes of the answers is `record/matrix/agreement.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tasks::worker::config::Teacher;
use crate::tasks::worker::record::event::EventKind;
use crate::tasks::worker::record::facts::{Greedy, GreedyText, cut};
use crate::tasks::worker::record::matrix::summary;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{FinishReason, InferenceRequest};
use crate::tasks::worker::target::worker::WorkerHandle;

/// What is continued. Short, so that the text soon is the model's own.
const PROMPTS: [&str; 3] = [
    "The capital of France is",
    "Once upon a time",
    "Hello, how are you?",
];

/// How many tokens of each continuation are the teacher's text.
const TOKENS: u32 = 32;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long all of it may take: a slow worker is compared at fewer positions.
const TIME_LIMIT: Duration = Duration::from_secs(90);

/// How much is kept of a token's text.
const TEXT_BYTES: usize = 256;

/// Asks a worker like the one under test, and records its answers. What can't be asked is noted and
/// changes no verdict.
///
/// Fails only when the run is interrupted.
pub fn run(subject: &Subject<'_>, teacher: &Teacher) -> Result<()> {
    let (journal, stop) = (subject.context.journal, subject.context.stop);
    if subject.not_ready.is_some() {
        return Ok(());
    }
    match ask(subject, teacher) {
        Ok(greedy) => journal.emit(EventKind::GreedyAnswered(greedy)),
        Err(error) => {
            stop.check()?;
            let message = format!("greedy text can't be compared: {error:#}");
            journal.emit(EventKind::Noted { message });
        }
    }
    Ok(())
}

fn ask(subject: &Subject<'_>, teacher: &Teacher) -> Result<Greedy> {
    let mut auxiliary = subject.auxiliaries.start("greedy", |_| {})?;
    auxiliary.wait_until_ready()?;
    let worker = &auxiliary.worker;
    let mut texts = match teacher {
        Teacher::Own => own_texts(worker)?,
        Teacher::Report(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let mut columns = summary::read(&text)?.into_iter();
            let greedy = columns.find_map(|column| column.greedy);
            greedy.context("the teacher's report has no texts")?.texts
        }
    };
    for text in &mut texts {
        text.next.clear();
    }
    answer(worker, &mut texts)?;
    Ok(Greedy { texts })
}

/// The worker's own greedy continuations.
fn own_texts(worker: &WorkerHandle) -> Result<Vec<GreedyText>> {
    let text = |prompt: &str| {
        let request = InferenceRequest::greedy(prompt, TOKENS);
        let streamed = worker.infer_streamed_within(&request, ANSWER_LIMIT)?;
        let tokens = streamed.pieces.into_iter().map(|piece| piece.text);
        Ok(GreedyText {
            prompt: prompt.to_owned(),
            // A token without text is a part of a character: the prefix is the same without it.
            tokens: tokens
                .filter(|text| !text.is_empty())
                .take(TOKENS as usize)
                .collect(),
            next: Vec::new(),
        })
    };
    PROMPTS.into_iter().map(text).collect()
}

/// The next token at each position, the end included; all texts in turn, until the time is up.
fn answer(worker: &WorkerHandle, texts: &mut [GreedyText]) -> Result<()> {
    let began = Instant::now();
    for position in 0..=TOKENS as usize {
        for text in texts.iter_mut() {
            if position > text.tokens.len() || began.elapsed() >= TIME_LIMIT {
                continue;
            }
            let request = InferenceRequest::greedy(&text.prefix(position), 1);
            let answer = worker.infer_within(&request, ANSWER_LIMIT)?;
            let told = answer.text.unwrap_or_default();
            let ended = told.is_empty() && answer.finish_reason == FinishReason::Stop;
            text.next.push((!ended).then(|| cut(&told, TEXT_BYTES)));
        }
    }
    Ok(())
}
