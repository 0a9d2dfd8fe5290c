//! The thread's side: which sequences there are, what of them is in the next step, and what becomes
//! of it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tokio::sync::watch;

use super::super::Stats;
use super::super::sampler::Scratch;
use super::super::tokenizer::Tokenizer;
use super::pages::Pages;
use super::sequence::{Outcome, Sequence};
use super::{Model, Room, SLOTS, Shared, Span};

/// At first, prompts are read in portions of this many tokens.
pub(super) const FIRST_PORTION: usize = 64;
/// Beyond this, larger portions make nothing quicker.
pub(super) const LARGEST_PORTION: usize = 512;
/// A step should take less: between two steps others get their tokens, and those who left are
/// noticed.
const STEP_LIMIT: Duration = Duration::from_millis(100);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What the thread knows.
pub struct Serving<M: Model> {
    model: M,
    tokenizer: Arc<Tokenizer>,
    shared: Arc<Shared>,
    failed: watch::Sender<Option<String>>,
    room: Room,
    pages: Pages,
    sequences: Vec<Sequence>,
    next_number: u64,
    /// Of the last step; kept, because fresh memory costs time.
    logits: Vec<f32>,
    /// Prompts share so many tokens of a step.
    portion: usize,
    /// Whose turn it is to read on first.
    turn: usize,
    stats: Stats,
}

/// What a sequence adds to a step.
struct Part {
    sequence: usize,
    tokens: Range<usize>,
}

impl<M: Model> Drop for Serving<M> {
    /// However the thread ends, nobody waits for it.
    fn drop(&mut self) {
        let reason = match std::thread::panicking() {
            true => "the engine's thread panicked",
            false => "the engine's thread has ended",
        };
        self.failed.send_replace(Some(reason.to_owned()));
        self.shared.stop();
    }
}

impl<M: Model> Serving<M> {
    pub fn new(
        model: M,
        tokenizer: Arc<Tokenizer>,
        shared: Arc<Shared>,
        failed: watch::Sender<Option<String>>,
    ) -> Self {
        let room = model.room();
        Self {
            model,
            tokenizer,
            shared,
            failed,
            room,
            pages: Pages::new(room.pages, room.page_tokens, room.shares),
            sequences: Vec::new(),
            next_number: 0,
            logits: Vec::new(),
            portion: FIRST_PORTION.next_multiple_of(room.page_tokens),
            turn: 0,
            stats: Stats {
                pages: room.pages,
                page_tokens: room.page_tokens,
                ..Stats::default()
            },
        }
    }

    /// Serves until the handle is dropped.
    pub fn run(mut self) {
        while self.take_jobs() {
            self.dismiss(|sequence| sequence.is_cancelled());
            if self.sequences.is_empty() {
                continue;
            }
            let begun = Instant::now();
            let parts = self.compose();
            let reading = self.compute(&parts);
            let spent = begun.elapsed();
            self.count_step(reading, spent);
            self.adapt_portion(reading, spent);
            self.dismiss(|sequence| sequence.outcome().is_some());
        }
    }

    /// Takes up who finds room; waits for somebody if nobody is served. False to end.
    fn take_jobs(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if state.stopped {
                return false;
            }
            state.no_room = false;
            while self.sequences.len() < SLOTS
                && let Some(job) = state.waiting.pop_front()
            {
                if job.events.is_closed() {
                    self.stats.cancelled += 1;
                    continue;
                }
                let tokens = job.prompt.len() + job.max_tokens as usize;
                let Some(table) = self.pages.admit(&job.prompt, tokens) else {
                    state.waiting.push_front(job);
                    state.no_room = true;
                    break;
                };
                let cached = self.pages.known_tokens(&table);
                let sequence = Sequence::new(self.next_number, job, table, cached);
                self.next_number += 1;
                self.sequences.push(sequence);
            }
            state.serving = self.sequences.len();
            self.stats.running = state.serving;
            self.stats.pages_used = self.pages.count() - self.pages.available();
            self.stats.pages_kept = self.pages.kept();
            state.stats = self.stats;
            if state.serving > 0 {
                return true;
            }
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the sequences that are over, and takes their pages back.
    fn dismiss(&mut self, is_over: impl Fn(&Sequence) -> bool) {
        let mut at = 0;
        while at < self.sequences.len() {
            if !is_over(&self.sequences[at]) {
                at += 1;
                continue;
            }
            let sequence = self.sequences.remove(at);
            let stats = &mut self.stats;
            match sequence.outcome() {
                Some(Outcome::Finished) => stats.finished += 1,
                Some(Outcome::Failed) => stats.failed += 1,
                None => stats.cancelled += 1,
            }
            stats.prompt_tokens += sequence.prompt().len().min(sequence.computed) as u64;
            stats.cached_tokens += sequence.cached as u64;
            stats.generated_tokens += sequence.generated() as u64;
            stats.next_tokens += sequence.generated().saturating_sub(1) as u64;
            stats.generation_time += sequence.generating_for();
            stats.longest = stats.longest.max(sequence.tokens.len());
            self.model.forget(sequence.number);
            self.pages.release(sequence.table);
        }
    }

    /// One token of everybody who generates, and a portion of the prompts, shared evenly.
    fn compose(&mut self) -> Vec<Part> {
        let mut parts = Vec::with_capacity(self.sequences.len());
        for (at, sequence) in self.sequences.iter().enumerate() {
            if !sequence.is_reading() {
                parts.push(Part {
                    sequence: at,
                    tokens: sequence.computed..sequence.tokens.len(),
                });
            }
        }
        let readers = self.readers();
        let page = self.room.page_tokens;
        let mut left = self.portion;
        for (number, &at) in readers.iter().enumerate() {
            if left == 0 {
                break;
            }
            let share = left / (readers.len() - number);
            let share = share.max(1).next_multiple_of(page);
            let sequence = &self.sequences[at];
            let start = sequence.computed;
            let end = sequence.prompt().len().min(start + share);
            left = left.saturating_sub(end - start);
            parts.push(Part {
                sequence: at,
                tokens: start..end,
            });
        }
        parts
    }

    /// Who reads on in its prompt, those first whose turn it is. Of several who would compute the
    /// same page, one does; the others find it done at the next step.
    fn readers(&mut self) -> Vec<usize> {
        let count = self.sequences.len();
        let mut computing: HashSet<(u64, &[u32])> = HashSet::new();
        let mut readers = Vec::new();
        let page_tokens = self.room.page_tokens;
        for sequence in self.sequences.iter_mut().filter(|one| one.is_reading()) {
            let prompt = sequence.tokens.get(..sequence.prompt().len());
            let prompt = prompt.unwrap_or_default();
            while self.pages.adopt(&mut sequence.table, prompt) {
                sequence.computed += page_tokens;
                sequence.cached += page_tokens;
            }
        }
        for step in 0..count {
            let at = (self.turn + step) % count;
            let sequence = &self.sequences[at];
            if !sequence.is_reading() {
                continue;
            }
            let key = self.pages.next_key(&sequence.table, sequence.prompt());
            if key.is_none_or(|key| computing.insert(key)) {
                readers.push(at);
            }
        }
        self.turn = readers.first().map_or(0, |first| first + 1);
        readers
    }

    /// One step. Gives how many tokens of prompts it read.
    fn compute(&mut self, parts: &[Part]) -> usize {
        let mut logits = std::mem::take(&mut self.logits);
        let mut reading = 0;
        match self.forward(parts, &mut logits) {
            Ok(()) => reading = self.accept(parts, &mut logits),
            // One of them broke it; alone, the others go on.
            Err(error) if parts.len() == 1 => self.sequences[parts[0].sequence].fail(&error),
            Err(_) => {
                for part in parts {
                    let part = std::slice::from_ref(part);
                    match self.forward(part, &mut logits) {
                        Ok(()) => reading += self.accept(part, &mut logits),
                        Err(error) => self.sequences[part[0].sequence].fail(&error),
                    }
                }
            }
        }
        self.logits = logits;
        reading
    }

    fn forward(&mut self, parts: &[Part], logits: &mut Vec<f32>) -> Result<()> {
        let sequences = &self.sequences;
        let span = |part: &Part| {
            let sequence = &sequences[part.sequence];
            Span {
                sequence: sequence.number,
                tokens: &sequence.tokens[part.tokens.clone()],
                start: part.tokens.start,
                pages: &sequence.table.pages,
                wants_logits: part.tokens.end == sequence.tokens.len(),
            }
        };
        let spans: Vec<_> = parts.iter().map(span).collect();
        let model = &mut self.model;
        caught(|| model.forward(&spans, logits))?;
        let wanted = spans.iter().filter(|span| span.wants_logits).count();
        ensure!(
            logits.len() == wanted * self.tokenizer.vocabulary_size(),
            "the model answered for another batch"
        );
        Ok(())
    }

    /// Notes what was computed, and lets everybody who waits for it choose the next token.
    fn accept(&mut self, parts: &[Part], logits: &mut [f32]) -> usize {
        let mut reading = 0;
        let mut ready = vec![false; self.sequences.len()];
        for part in parts {
            let sequence = &mut self.sequences[part.sequence];
            if sequence.is_reading() {
                reading += part.tokens.len();
            }
            sequence.computed = part.tokens.end;
            let computed = &sequence.tokens[..sequence.computed];
            self.pages.remember(&mut sequence.table, computed);
            ready[part.sequence] = sequence.computed == sequence.tokens.len();
        }
        let vocabulary_size = self.tokenizer.vocabulary_size();
        let mut rows: Vec<Option<&mut [f32]>> =
            logits.chunks_mut(vocabulary_size).map(Some).collect();
        let mut row_of = vec![usize::MAX; self.sequences.len()];
        let wanting = parts.iter().filter(|part| ready[part.sequence]);
        for (row, part) in wanting.enumerate() {
            row_of[part.sequence] = row;
        }
        let choosing: Vec<_> = self
            .sequences
            .iter_mut()
            .zip(row_of)
            .filter_map(|(sequence, row)| Some(Mutex::new((sequence, rows.get_mut(row)?.take()?))))
            .collect();
        let tokenizer = &self.tokenizer;
        self.model.share(choosing.len(), &|number| {
            let mut one = choosing[number]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (sequence, logits) = &mut *one;
            let chosen = caught(|| {
                SCRATCH.with_borrow_mut(|scratch| sequence.take_logits(logits, scratch, tokenizer));
                Ok(())
            });
            if let Err(error) = chosen {
                sequence.fail(&error);
            }
        });
        reading
    }

    fn count_step(&mut self, reading: usize, spent: Duration) {
        self.stats.steps += 1;
        self.stats.steps_shared += self.sequences.len() as u64;
        if reading > 0 {
            self.stats.read_tokens += reading as u64;
            self.stats.read_time += spent;
        }
    }

    /// Portions double while there is time, and halve where a step takes too long.
    fn adapt_portion(&mut self, reading: usize, spent: Duration) {
        if reading == 0 {
            return;
        }
        if spent > STEP_LIMIT {
            self.portion = (self.portion / 2).max(self.room.page_tokens);
        } else if spent < STEP_LIMIT / 3 && reading >= self.portion {
            self.portion = (self.portion * 2).min(LARGEST_PORTION.max(self.room.page_tokens));
        }
    }
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
