//! One request while it is served: from its prompt to its last event.

use std::time::Instant;

use anyhow::Result;
use tokio::sync::mpsc;

use super::super::sampler::Sampler;
use super::super::text::{TextEvent, TextStream};
use super::super::tokenizer::Tokenizer;
use super::super::{Completion, FinishReason, GenerationEvent, Timings};
use super::{Job, Model, PREFILL_TOKENS};

/// A request under way, and its sequence's memory.
pub struct Sequence<Cache> {
    events: mpsc::Sender<GenerationEvent>,
    cache: Cache,
    prompt: Vec<u32>,
    /// How much of the prompt was read.
    read: usize,
    sampler: Sampler,
    text: TextStream,
    max_tokens: u32,
    generated: u32,
    last_token: u32,
    over: bool,
    submitted: Instant,
    taken_up: Instant,
    first_token: Option<Instant>,
}

impl<Cache> Sequence<Cache> {
    /// Takes a request up.
    pub fn new(job: Job, cache: Cache) -> Self {
        let request = job.request;
        Self {
            events: job.events,
            cache,
            prompt: job.prompt,
            read: 0,
            sampler: Sampler::new(
                request.temperature,
                request.top_k,
                request.top_p,
                request.seed,
            ),
            text: TextStream::new(&request.stop),
            max_tokens: request.max_tokens,
            generated: 0,
            last_token: 0,
            over: false,
            submitted: job.submitted,
            taken_up: Instant::now(),
            first_token: None,
        }
    }

    /// Whether nobody waits for its events any more.
    pub fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether its last event was sent.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether a part of its prompt is unread.
    pub fn is_prefilling(&self) -> bool {
        !self.over && self.first_token.is_none()
    }

    /// Whether its next token can be computed.
    pub fn is_decoding(&self) -> bool {
        !self.over && self.first_token.is_some()
    }

    /// The token after which to go on.
    pub fn last_token(&self) -> u32 {
        self.last_token
    }

    /// Its memory.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// Reads the next portion of the prompt; logits after the last one.
    pub fn prefill<M: Model<Cache = Cache>>(&mut self, model: &M) -> Result<Option<Vec<f32>>> {
        let end = self.prompt.len().min(self.read + PREFILL_TOKENS);
        anyhow::ensure!(self.read < end, "the prompt has no tokens");
        let is_last = end == self.prompt.len();
        let logits = model.prefill(&self.prompt[self.read..end], &mut self.cache, is_last)?;
        self.read = end;
        Ok(logits)
    }

    /// Samples the next token and says what follows from it.
    pub fn take_logits(&mut self, logits: &[f32], tokenizer: &Tokenizer) {
        let token = match self.sampler.sample(logits) {
            Ok(token) => token,
            Err(error) => return self.fail(&error),
        };
        self.first_token.get_or_insert_with(Instant::now);
        if tokenizer.is_end(token) {
            return self.finish(FinishReason::Stop);
        }
        self.last_token = token;
        self.generated += 1;
        let step = self.text.push(tokenizer.piece(token));
        self.send(step.released);
        if step.stopped {
            self.finish(FinishReason::Stop);
        } else if self.generated == self.max_tokens {
            self.finish(FinishReason::Length);
        }
    }

    /// Says that it can't go on.
    pub fn fail(&mut self, error: &anyhow::Error) {
        self.over = true;
        let _ = self
            .events
            .try_send(GenerationEvent::Failed(format!("{error:#}")));
    }

    fn finish(&mut self, finish_reason: FinishReason) {
        let held = self.text.finish();
        self.send(held);
        self.over = true;
        let first_token = self.first_token.unwrap_or_else(Instant::now);
        let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1000.0;
        let completion = Completion {
            prompt_tokens: self.prompt.len() as u32,
            completion_tokens: self.generated,
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
            let _ = self.events.try_send(GenerationEvent::Token { index, text });
        }
    }
}
