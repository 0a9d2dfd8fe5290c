//! The engine's own thread: a bounded queue before it, several sequences side by side on it.
//!
//! Each round gives one waiting prompt a portion of its prefill and every running sequence one
//! token, so that a short request isn't stuck behind a long one. A request whose [`Generation`]
//! was dropped is gone within a round, queued or not. A panic or an error while computing fails
//! the requests that it happened to, and the thread goes on.
//!
//! Nothing here waits for a reader: a request's channel has room for all of its events.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rayon::ThreadPool;
use tokio::sync::{mpsc, watch};

use super::tokenizer::Tokenizer;
use super::{Engine, Generation, GenerationEvent, GenerationRequest, SubmitError};

mod sequence;

use sequence::Sequence;

/// As many requests as are served side by side.
pub const SLOTS: usize = 8;
/// A prompt is read in portions of this many tokens, and between two of them cancellation is
/// noticed and others get their tokens. Always the same, so that the text is.
pub const PREFILL_TOKENS: usize = 16;

/// What the runner needs of a model.
pub trait Model: Send + 'static {
    /// The memory of one sequence.
    type Cache: Send + 'static;

    /// An empty memory.
    fn new_cache(&self) -> Self::Cache;

    /// Reads on in one sequence. With `wants_logits`, gives those after the last token.
    fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut Self::Cache,
        wants_logits: bool,
    ) -> Result<Option<Vec<f32>>>;

    /// Reads one token on in each sequence, and gives the logits after it. When it fails, the
    /// memories are as before.
    fn decode(&self, tokens: &[u32], caches: &mut [&mut Self::Cache]) -> Result<Vec<Vec<f32>>>;
}

/// An engine over a model. Dropping it ends its thread within a round.
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    tokenizer: Arc<Tokenizer>,
    context_length: u32,
    thread: Option<JoinHandle<()>>,
    failure: watch::Receiver<Option<String>>,
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
    stopped: bool,
}

/// A request that was taken.
#[derive(Debug)]
struct Job {
    request: GenerationRequest,
    prompt: Vec<u32>,
    events: mpsc::Sender<GenerationEvent>,
    submitted: Instant,
}

impl Runner {
    /// Starts the thread, which computes with those of `pool`. At most `max_queue` requests wait
    /// beside those that are served.
    pub fn start<M: Model>(
        model: M,
        tokenizer: Arc<Tokenizer>,
        context_length: u32,
        max_queue: usize,
        pool: ThreadPool,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            max_queue,
        });
        let (failed, failure) = watch::channel(None);
        let engine = Serving {
            model,
            tokenizer: Arc::clone(&tokenizer),
            shared: Arc::clone(&shared),
            sequences: Vec::new(),
            next_prefill: 0,
            failed,
        };
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || pool.install(move || engine.run()))
            .context("the engine's thread can't be started")?;
        Ok(Self {
            shared,
            tokenizer,
            context_length,
            thread: Some(thread),
            failure,
        })
    }
}

impl Engine for Runner {
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        let submitted = Instant::now();
        let prompt = self.tokenizer.encode(&request.prompt);
        let max_tokens = request.max_tokens;
        if prompt.len() as u64 + u64::from(max_tokens) > u64::from(self.context_length) {
            return Err(SubmitError::ContextLengthExceeded {
                prompt_tokens: u32::try_from(prompt.len()).unwrap_or(u32::MAX),
                max_tokens,
                context_length: self.context_length,
            });
        }
        // Room for every token and the end, so that the engine never waits for a reader.
        let (events, receiver) = mpsc::channel(max_tokens as usize + 2);
        self.shared.enqueue(Job {
            request,
            prompt,
            events,
            submitted,
        })?;
        Ok(Generation { events: receiver })
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // It catches its own panics, and there is nobody left to tell.
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
        if state.serving + state.waiting.len() >= SLOTS + self.max_queue {
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

    /// Jobs for the free slots; waits for one if nothing is served. `None` to end.
    fn take_jobs(&self, serving: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            state.serving = serving;
            let mut jobs = Vec::new();
            while serving + jobs.len() < SLOTS
                && let Some(job) = state.waiting.pop_front()
            {
                if !job.events.is_closed() {
                    jobs.push(job);
                }
            }
            state.serving += jobs.len();
            if state.serving > 0 {
                return Some(jobs);
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread's side.
struct Serving<M: Model> {
    model: M,
    tokenizer: Arc<Tokenizer>,
    shared: Arc<Shared>,
    sequences: Vec<Sequence<M::Cache>>,
    /// Whose turn it is to read on in its prompt.
    next_prefill: usize,
    failed: watch::Sender<Option<String>>,
}

impl<M: Model> Drop for Serving<M> {
    /// However the thread ends, nobody waits for it.
    fn drop(&mut self) {
        let reason = "the engine's thread has ended".to_owned();
        self.failed.send_replace(Some(reason));
        self.shared.stop();
    }
}

impl<M: Model> Serving<M> {
    fn run(mut self) {
        while let Some(jobs) = self.shared.take_jobs(self.sequences.len()) {
            for job in jobs {
                let cache = self.model.new_cache();
                self.sequences.push(Sequence::new(job, cache));
            }
            self.sequences.retain(|sequence| !sequence.is_cancelled());
            self.prefill_one();
            self.decode_all();
            self.sequences.retain(|sequence| !sequence.is_over());
        }
    }

    /// One portion of one prompt; the prompts take turns.
    fn prefill_one(&mut self) {
        let count = self.sequences.len();
        let turn = (0..count)
            .map(|step| (self.next_prefill + step) % count)
            .find(|&at| self.sequences[at].is_prefilling());
        let Some(at) = turn else { return };
        self.next_prefill = at + 1;
        let sequence = &mut self.sequences[at];
        let outcome = caught(|| sequence.prefill(&self.model));
        match outcome {
            Ok(Some(logits)) => sequence.take_logits(&logits, &self.tokenizer),
            Ok(None) => {}
            Err(error) => sequence.fail(&error),
        }
    }

    /// One token for every running sequence.
    fn decode_all(&mut self) {
        let mut running: Vec<_> = self
            .sequences
            .iter_mut()
            .filter(|sequence| sequence.is_decoding())
            .collect();
        if running.is_empty() {
            return;
        }
        match caught(|| decode(&self.model, &mut running)) {
            Ok(logits) => {
                for (sequence, logits) in running.iter_mut().zip(logits) {
                    sequence.take_logits(&logits, &self.tokenizer);
                }
            }
            // One of them broke it; alone, the others go on.
            Err(_) if running.len() > 1 => {
                for sequence in running {
                    match caught(|| decode(&self.model, &mut [&mut *sequence])) {
                        Ok(logits) => sequence.take_logits(&logits[0], &self.tokenizer),
                        Err(error) => sequence.fail(&error),
                    }
                }
            }
            Err(error) => running[0].fail(&error),
        }
    }
}

fn decode<M: Model>(model: &M, sequences: &mut [&mut Sequence<M::Cache>]) -> Result<Vec<Vec<f32>>> {
    let tokens: Vec<_> = sequences
        .iter()
        .map(|sequence| sequence.last_token())
        .collect();
    let mut caches: Vec<_> = sequences
        .iter_mut()
        .map(|sequence| sequence.cache())
        .collect();
    let logits = model.decode(&tokens, &mut caches)?;
    anyhow::ensure!(
        logits.len() == tokens.len(),
        "the model answered for another batch"
    );
    Ok(logits)
}

/// A panic as an error: it belongs to the request, not to the process.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        Err(anyhow!("the engine panicked: {message}"))
    })
}

#[cfg(test)]
mod tests;
