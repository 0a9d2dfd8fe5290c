//! The engine's own thread: a bounded queue before it, many sequences in one batch on it.
//!
//! Requests join and leave at every step. A step is one forward pass over a ragged batch: one token
//! of everybody who is generating, and of prompts as much as a step has time for. What a request
//! needs of the cache is set aside before it starts, so that nobody ever has to be thrown out; who
//! finds no room waits. A panic in the model is caught and fails the request that caused it; if the
//! thread ends all the same, everybody who waits is told.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};

use super::sampler::Sampler;
use super::text::TextStream;
use super::tokenizer::Tokenizer;
use super::{
    Constraint, Engine, Generation, GenerationEvent, GenerationRequest, Grammar, Prompt, Stats,
    SubmitError,
};

mod pages;
mod sequence;
mod serving;

use serving::Serving;

/// As many requests are served side by side.
pub const SLOTS: usize = 64;

/// What the scheduler needs of a model.
pub trait Model: Send + 'static {
    /// The memory that there is for sequences.
    fn room(&self) -> Room;

    /// Computes all spans in one pass, each after what its sequence computed before, and replaces
    /// what is in `logits` by those after the spans that want them, one row after another. A pass
    /// that failed can be tried again, in whole or in parts.
    fn forward(&mut self, spans: &[Span<'_>], logits: &mut Vec<f32>) -> Result<()>;

    /// The sequence with this number is over.
    fn forget(&mut self, _sequence: u64) {}

    /// Calls `task` with each number below `tasks`, on whatever threads there are.
    fn share(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// A model's memory for sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How many pages there are.
    pub pages: usize,
    /// How many tokens a page holds.
    pub page_tokens: usize,
    /// Whether a page can belong to several sequences.
    pub shares: bool,
}

/// Tokens of one sequence that are computed in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<'a> {
    /// The sequence's number, as long as it lives.
    pub sequence: u64,
    /// The tokens.
    pub tokens: &'a [u32],
    /// The position of the first; a whole number of pages unless the prompt is behind it.
    pub start: usize,
    /// The sequence's pages.
    pub pages: &'a [u32],
    /// Whether the logits after the last token are needed.
    pub wants_logits: bool,
}

/// An engine over a model. Dropping it ends its thread within a step.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    tokenizer: Arc<Tokenizer>,
    context_length: u32,
    failure: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    max_queue: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    /// How many requests the thread is serving.
    serving: usize,
    /// Whether the first who waits finds no room in the cache.
    no_room: bool,
    stopped: bool,
    stats: Stats,
}

/// A request that was taken.
#[derive(Debug)]
struct Job {
    prompt: Vec<u32>,
    max_tokens: u32,
    ignore_end: bool,
    sampler: Sampler,
    constraint: Option<Box<dyn Constraint>>,
    text: TextStream,
    events: mpsc::Sender<GenerationEvent>,
    submitted: Instant,
}

impl Scheduler {
    /// Starts the thread. At most `max_queue` requests wait beside those that are served.
    pub fn start<M: Model>(
        model: M,
        tokenizer: Arc<Tokenizer>,
        context_length: u32,
        max_queue: usize,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            max_queue,
        });
        let (failed, failure) = watch::channel(None);
        let serving = Serving::new(model, Arc::clone(&tokenizer), Arc::clone(&shared), failed);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || serving.run())
            .context("the engine's thread can't be started")?;
        Ok(Self {
            shared,
            tokenizer,
            context_length,
            failure,
            thread: Some(thread),
        })
    }

    /// The prompt's tokens, if they fit.
    fn tokens(&self, prompt: Prompt, max_tokens: u32) -> Result<Vec<u32>, SubmitError> {
        let room = u64::from(self.context_length).saturating_sub(u64::from(max_tokens));
        let too_long = |tokens: usize| SubmitError::ContextLengthExceeded {
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            max_tokens,
            context_length: self.context_length,
        };
        let tokens = match prompt {
            Prompt::Text(text) => {
                // A prompt that is far too long isn't worth the time that reading it would take.
                let least = self.tokenizer.least_tokens(text.len());
                if least as u64 > u64::from(self.context_length) {
                    return Err(too_long(least));
                }
                self.tokenizer.encode(&text)
            }
            Prompt::Tokens(tokens) => {
                let vocabulary_size = self.tokenizer.vocabulary_size() as u32;
                let unknown = tokens.iter().find(|&&token| token >= vocabulary_size);
                if let Some(&token) = unknown {
                    return Err(SubmitError::UnknownToken {
                        token,
                        vocabulary_size,
                    });
                }
                tokens
            }
        };
        if tokens.len() as u64 > room {
            return Err(too_long(tokens.len()));
        }
        match tokens.is_empty() {
            true => Err(SubmitError::EmptyPrompt),
            false => Ok(tokens),
        }
    }
}

impl Engine for Scheduler {
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        let submitted = Instant::now();
        let max_tokens = request.max_tokens;
        let prompt = self.tokens(request.prompt.clone(), max_tokens)?;
        // Room for every token and the end, so that the engine never waits for a reader.
        let (events, receiver) = mpsc::channel(max_tokens as usize + 2);
        self.shared.enqueue(Job {
            sampler: Sampler::new(&request, &prompt),
            constraint: request.grammar.as_ref().map(Grammar::begin),
            text: TextStream::new(&request.stop),
            prompt: prompt.clone(),
            max_tokens,
            ignore_end: request.ignore_end,
            events,
            submitted,
        })?;
        Ok(Generation {
            prompt,
            events: receiver,
        })
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    fn stats(&self) -> Stats {
        let state = self.shared.lock();
        Stats {
            waiting: state.waiting.len(),
            ..state.stats
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // However it ended, there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant spans the places that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, job: Job) -> Result<(), SubmitError> {
        let mut state = self.lock();
        if state.stopped {
            return Err(SubmitError::Stopped);
        }
        state.waiting.retain(|job| !job.events.is_closed());
        // Counted together: a request that a free slot is about to take doesn't wait.
        let served_together = match state.no_room {
            true => state.serving,
            false => SLOTS,
        };
        if state.serving + state.waiting.len() >= served_together + self.max_queue {
            return Err(SubmitError::QueueFull {
                capacity: self.max_queue,
            });
        }
        state.waiting.push_back(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Ends the thread, and drops what waits, which closes its channels.
    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.waiting.clear();
        drop(state);
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests;
