//! A model that answers by a script, a scheduler over it, and what its tests ask.

use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use super::super::*;
use crate::Completion;
use crate::testing::gguf_writer::{GgufWriter, add_byte_vocabulary};
use crate::testing::tokenizer;

pub(super) const DEADLINE: Duration = Duration::from_secs(60);
pub(super) const CONTEXT: u32 = 10_000;
pub(super) const PAGE_TOKENS: usize = 16;
/// As many pages as everybody needs at once.
pub(super) const PLENTY: usize = SLOTS * CONTEXT as usize / PAGE_TOKENS;

/// Answers with the letters that follow the prompt's last one. Some first letters of the prompt
/// make it misbehave. What it knows of a sequence it reads from the pages that it is given.
pub(super) struct Alphabet {
    tokenizer: Arc<Tokenizer>,
    memory: Vec<u32>,
    pages: usize,
    /// If there is one, every call to the model waits for a permit.
    permits: Option<Mutex<std_mpsc::Receiver<()>>>,
    calls: std_mpsc::Sender<Call>,
}

/// What was asked of the model in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// Tokens of prompts.
    pub(super) read: usize,
    /// Sequences that generate.
    pub(super) decode: usize,
}

impl Alphabet {
    fn letter(&self, token: u32) -> u8 {
        self.tokenizer.piece(token).first().copied().unwrap_or(b'?')
    }

    fn token(&self, letter: u8) -> u32 {
        self.tokenizer
            .encode(char::from(letter).encode_utf8(&mut [0; 4]))[0]
    }

    fn place(span: &Span<'_>, position: usize) -> usize {
        span.pages[position / PAGE_TOKENS] as usize * PAGE_TOKENS + position % PAGE_TOKENS
    }

    fn next(&self, first: u32, last: u32, length: usize) -> Vec<f32> {
        let mut logits = vec![0.0; self.tokenizer.vocabulary_size()];
        let last = self.letter(last);
        let next = if last == b'z' { b'a' } else { last + 1 };
        logits[self.token(next) as usize] = 9.0;
        match self.letter(first) {
            b'N' if length > 3 => logits[0] = f32::NAN,
            b'E' if length > 3 => *logits.last_mut().unwrap() = 99.0,
            _ => {}
        }
        logits
    }
}

impl Model for Alphabet {
    fn room(&self) -> Room {
        Room {
            pages: self.pages,
            page_tokens: PAGE_TOKENS,
            shares: true,
        }
    }

    fn forward(&mut self, spans: &[Span<'_>], logits: &mut Vec<f32>) -> Result<()> {
        if let Some(permits) = &self.permits {
            // Without a sender left, everything is permitted.
            let _ = permits.lock().unwrap().recv();
        }
        let decodes = |span: &&Span<'_>| span.start > 0 && span.tokens.len() == 1;
        let decode = spans.iter().filter(decodes).count();
        let read = spans.iter().map(|span| span.tokens.len()).sum::<usize>() - decode;
        let _ = self.calls.send(Call { read, decode });
        logits.clear();
        for span in spans {
            for (position, &token) in (span.start..).zip(span.tokens) {
                self.memory[Self::place(span, position)] = token;
            }
            let end = span.start + span.tokens.len();
            let first = self.memory[Self::place(span, 0)];
            let last = self.memory[Self::place(span, end - 1)];
            assert!(self.letter(first) != b'P', "a prompt that panics");
            assert!(
                self.letter(first) != b'D' || span.start == 0,
                "a text that panics"
            );
            if span.wants_logits {
                logits.extend(self.next(first, last, end));
            }
        }
        Ok(())
    }
}

pub(super) struct Stage {
    /// Dropped first, so that the engine's thread isn't left waiting for one.
    pub(super) permits: Option<std_mpsc::Sender<()>>,
    pub(super) scheduler: Scheduler,
    pub(super) calls: std_mpsc::Receiver<Call>,
}

impl Stage {
    pub(super) fn new(max_queue: usize, gated: bool) -> Self {
        Self::with_pages(PLENTY, max_queue, gated)
    }

    pub(super) fn with_pages(pages: usize, max_queue: usize, gated: bool) -> Self {
        let mut file = GgufWriter::default();
        add_byte_vocabulary(&mut file, "gpt-2");
        let tokenizer = Arc::new(tokenizer(&file));
        let (permits, permitted) = std_mpsc::channel();
        let (called, calls) = std_mpsc::channel();
        let model = Alphabet {
            tokenizer: Arc::clone(&tokenizer),
            memory: vec![0; pages * PAGE_TOKENS],
            pages,
            permits: gated.then(|| Mutex::new(permitted)),
            calls: called,
        };
        let scheduler = Scheduler::start(model, tokenizer, CONTEXT, max_queue).unwrap();
        Self {
            scheduler,
            permits: gated.then_some(permits),
            calls,
        }
    }

    pub(super) fn submit(&self, prompt: &str, max_tokens: u32) -> Result<Generation, SubmitError> {
        self.scheduler.submit(request(prompt, max_tokens))
    }

    pub(super) fn permit(&self, calls: usize) {
        for _ in 0..calls {
            self.permits.as_ref().unwrap().send(()).unwrap();
        }
    }

    pub(super) fn next_call(&self) -> Call {
        self.calls
            .recv_timeout(DEADLINE)
            .expect("the model is called in time")
    }
}

pub(super) fn request(prompt: &str, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.into(),
        max_tokens,
        ..GenerationRequest::default()
    }
}

/// The text, and how it ended.
pub(super) fn outcome(mut generation: Generation) -> (String, Result<Completion, String>) {
    let mut text = String::new();
    let mut tokens = 0;
    loop {
        match generation
            .events
            .blocking_recv()
            .expect("an end comes before the channel closes")
        {
            GenerationEvent::Token {
                index, text: piece, ..
            } => {
                assert_eq!(index, tokens);
                tokens += 1;
                text.push_str(&piece);
            }
            GenerationEvent::Finished(completion) => {
                assert_eq!(completion.completion_tokens, tokens);
                assert_eq!(
                    generation.events.blocking_recv(),
                    None,
                    "nothing follows the end"
                );
                return (text, Ok(completion));
            }
            GenerationEvent::Failed(message) => return (text, Err(message)),
        }
    }
}

pub(super) fn text(generation: Generation) -> String {
    let (text, end) = outcome(generation);
    end.expect("it is served to its end");
    text
}
