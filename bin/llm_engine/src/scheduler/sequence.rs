//! One request while it is served: from its prompt to its last event.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::sampler::{Choice, Sampler, Scratch};
use super::super::text::{TextEvent, TextStream};
use super::super::tokenizer::Tokenizer;
use super::super::{Completion, Constraint, FinishReason, GenerationEvent, Timings};
use super::Job;
use super::pages::Table;

/// A request under way.
pub struct Sequence {
    /// Its number, which no other has.
    pub number: u64,
    /// Its part of the cache.
    pub table: Table,
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    /// How many of the tokens are in the cache.
    pub computed: usize,
    /// How many of these others had computed.
    pub cached: usize,
    prompt_tokens: usize,
    events: mpsc::Sender<GenerationEvent>,
    sampler: Sampler,
    constraint: Option<Box<dyn Constraint>>,
    text: TextStream,
    /// Of tokens whose text is held back.
    held: VecDeque<Choice>,
    max_tokens: u32,
    ignore_end: bool,
    outcome: Option<Outcome>,
    submitted: Instant,
    taken_up: Instant,
    first_token: Option<Instant>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was served to its end.
    Finished,
    /// It can't go on.
    Failed,
}

impl Sequence {
    /// Takes a request up; `cached` tokens of its prompt are in the table's pages already.
    pub fn new(number: u64, job: Job, table: Table, cached: usize) -> Self {
        Self {
            number,
            table,
            prompt_tokens: job.prompt.len(),
            tokens: job.prompt,
            computed: cached,
            cached,
            events: job.events,
            sampler: job.sampler,
            constraint: job.constraint,
            text: job.text,
            held: VecDeque::new(),
            max_tokens: job.max_tokens,
            ignore_end: job.ignore_end,
            outcome: None,
            submitted: job.submitted,
            taken_up: Instant::now(),
            first_token: None,
        }
    }

    /// Whether nobody waits for its events any more.
    pub fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Its prompt.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_tokens]
    }

    /// Whether a part of its prompt is unread.
    pub fn is_reading(&self) -> bool {
        self.computed < self.prompt_tokens
    }

    /// How many tokens it has generated.
    pub fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// How long ago it had its first token; nothing if it has none.
    pub fn generating_for(&self) -> Duration {
        let first_token = self.first_token.map(|at| at.elapsed());
        first_token.unwrap_or_default()
    }

    /// Samples the next token and says what follows from it.
    pub fn take_logits(
        &mut self,
        logits: &mut [f32],
        scratch: &mut Scratch,
        tokenizer: &Tokenizer,
    ) {
        let constraint = self.constraint.as_deref_mut();
        let choice = match self.sampler.sample(logits, constraint, scratch) {
            Ok(choice) => choice,
            Err(error) => return self.fail(&error),
        };
        let token = choice.chosen.token;
        self.first_token.get_or_insert_with(Instant::now);
        if tokenizer.is_end(token) && !self.ignore_end {
            return self.finish(FinishReason::Stop);
        }
        let accepted = match &mut self.constraint {
            Some(constraint) => constraint.accept(token),
            None => Ok(false),
        };
        let is_whole = match accepted {
            Ok(is_whole) => is_whole,
            Err(error) => return self.fail(&error),
        };
        self.tokens.push(token);
        self.held.push_back(choice);
        let step = self.text.push(tokenizer.piece(token));
        self.send(step.released);
        if step.stopped || is_whole {
            self.finish(FinishReason::Stop);
        } else if self.generated() == self.max_tokens as usize {
            self.finish(FinishReason::Length);
        }
    }

    /// Says that it can't go on.
    pub fn fail(&mut self, error: &anyhow::Error) {
        self.outcome = Some(Outcome::Failed);
        let failed = GenerationEvent::Failed(format!("{error:#}"));
        let _ = self.events.try_send(failed);
    }

    fn finish(&mut self, finish_reason: FinishReason) {
        let held = self.text.finish();
        self.send(held);
        self.outcome = Some(Outcome::Finished);
        let first_token = self.first_token.unwrap_or_else(Instant::now);
        let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1000.0;
        let completion = Completion {
            prompt_tokens: self.prompt_tokens as u32,
            cached_tokens: self.cached as u32,
            completion_tokens: self.generated() as u32,
            finish_reason,
            timings: Timings {
                queue_ms: milliseconds(self.submitted, self.taken_up),
                prefill_ms: milliseconds(self.taken_up, first_token),
                decode_ms: milliseconds(first_token, Instant::now()),
            },
        };
        let _ = self.events.try_send(GenerationEvent::Finished(completion));
    }

    /// The channel has room for all; it only refuses when nobody listens any more, which
    /// [`Sequence::is_cancelled`] tells.
    fn send(&mut self, released: Vec<TextEvent>) {
        for TextEvent { index, text } in released {
            let Some(Choice { chosen, top }) = self.held.pop_front() else {
                return;
            };
            let _ = self.events.try_send(GenerationEvent::Token {
                index,
                text,
                chosen,
                top,
            });
        }
    }
}
