//! The runner over a scripted model: order, slots, cancellation, failures.

use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use super::*;
use crate::engine::testing::gguf_writer::{GgufWriter, Q8_0, add_byte_vocabulary, llama};
use crate::engine::testing::{open, tokenizer};
use crate::engine::{Completion, FinishReason, Timings};

const DEADLINE: Duration = Duration::from_secs(60);
const CONTEXT: u32 = 1000;

/// Answers with the letters that follow the prompt's last one. Some first letters of the prompt
/// make it misbehave.
struct Alphabet {
    tokenizer: Arc<Tokenizer>,
    /// If there is one, every call to the model waits for a permit.
    permits: Option<Mutex<std_mpsc::Receiver<()>>>,
    calls: std_mpsc::Sender<Call>,
}

/// What was asked of the model: how many tokens of one sequence, or of how many sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Prefill(usize),
    Decode(usize),
}

impl Alphabet {
    fn begin(&self, call: Call) {
        if let Some(permits) = &self.permits {
            // Without a sender left, everything is permitted.
            let _ = permits.lock().unwrap().recv();
        }
        let _ = self.calls.send(call);
    }

    fn letter(&self, token: u32) -> u8 {
        self.tokenizer.piece(token).first().copied().unwrap_or(b'?')
    }

    fn token(&self, letter: u8) -> u32 {
        self.tokenizer
            .encode(char::from(letter).encode_utf8(&mut [0; 4]))[0]
    }

    fn next(&self, cache: &[u32]) -> Vec<f32> {
        let mut logits = vec![0.0; self.tokenizer.vocabulary_size()];
        let last = self.letter(*cache.last().unwrap());
        let next = if last == b'z' { b'a' } else { last + 1 };
        logits[self.token(next) as usize] = 9.0;
        match self.letter(cache[0]) {
            b'N' if cache.len() > 3 => logits[0] = f32::NAN,
            b'E' if cache.len() > 3 => *logits.last_mut().unwrap() = 99.0,
            _ => {}
        }
        logits
    }
}

impl Model for Alphabet {
    type Cache = Vec<u32>;

    fn new_cache(&self) -> Vec<u32> {
        Vec::new()
    }

    fn prefill(
        &self,
        tokens: &[u32],
        cache: &mut Vec<u32>,
        wants_logits: bool,
    ) -> Result<Option<Vec<f32>>> {
        self.begin(Call::Prefill(tokens.len()));
        assert!(self.letter(tokens[0]) != b'P', "a prompt that panics");
        cache.extend(tokens);
        Ok(wants_logits.then(|| self.next(cache)))
    }

    fn decode(&self, tokens: &[u32], caches: &mut [&mut Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        self.begin(Call::Decode(tokens.len()));
        assert!(
            !caches.iter().any(|cache| self.letter(cache[0]) == b'D'),
            "a text that panics"
        );
        for (cache, &token) in caches.iter_mut().zip(tokens) {
            cache.push(token);
        }
        Ok(caches.iter().map(|cache| self.next(cache)).collect())
    }
}

struct Stage {
    /// Dropped first, so that the runner's thread isn't left waiting for one.
    permits: Option<std_mpsc::Sender<()>>,
    runner: Runner,
    calls: std_mpsc::Receiver<Call>,
}

impl Stage {
    fn new(max_queue: usize, gated: bool) -> Self {
        let mut file = GgufWriter::default();
        add_byte_vocabulary(&mut file, "gpt-2");
        let tokenizer = Arc::new(tokenizer(&file));
        let (permits, permitted) = std_mpsc::channel();
        let (called, calls) = std_mpsc::channel();
        let model = Alphabet {
            tokenizer: Arc::clone(&tokenizer),
            permits: gated.then(|| Mutex::new(permitted)),
            calls: called,
        };
        let runner = Runner::start(model, tokenizer, CONTEXT, max_queue, one_thread()).unwrap();
        Self {
            runner,
            permits: gated.then_some(permits),
            calls,
        }
    }

    fn submit(&self, prompt: &str, max_tokens: u32) -> Result<Generation, SubmitError> {
        self.runner.submit(request(prompt, max_tokens))
    }

    fn permit(&self, calls: usize) {
        for _ in 0..calls {
            self.permits.as_ref().unwrap().send(()).unwrap();
        }
    }

    fn next_call(&self) -> Call {
        self.calls
            .recv_timeout(DEADLINE)
            .expect("the model is called in time")
    }
}

fn one_thread() -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap()
}

fn request(prompt: &str, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.to_owned(),
        max_tokens,
        temperature: 0.0,
        top_p: None,
        top_k: None,
        seed: None,
        stop: Vec::new(),
    }
}

/// The text, and how it ended.
fn outcome(mut generation: Generation) -> (String, Result<Completion, String>) {
    let mut text = String::new();
    let mut tokens = 0;
    loop {
        match generation
            .events
            .blocking_recv()
            .expect("an end comes before the channel closes")
        {
            GenerationEvent::Token { index, text: piece } => {
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

fn text(generation: Generation) -> String {
    let (text, end) = outcome(generation);
    end.expect("it is served to its end");
    text
}

#[test]
fn tokens_are_counted_and_timed() {
    let stage = Stage::new(1, false);
    let (text, end) = outcome(stage.submit("xa", 4).unwrap());
    assert_eq!(text, "bcde");
    let end = end.unwrap();
    assert_eq!(
        (end.prompt_tokens, end.finish_reason),
        (2, FinishReason::Length)
    );
    let Timings {
        queue_ms,
        prefill_ms,
        decode_ms,
    } = end.timings;
    assert!(
        queue_ms >= 0.0 && prefill_ms > 0.0 && decode_ms > 0.0,
        "{:?}",
        end.timings
    );
}

#[test]
fn an_end_token_ends_and_is_not_counted() {
    let stage = Stage::new(1, false);
    let (text, end) = outcome(stage.submit("Ea", 50).unwrap());
    assert_eq!(text, "bc");
    let end = end.unwrap();
    assert_eq!(
        (end.completion_tokens, end.finish_reason),
        (2, FinishReason::Stop)
    );
}

#[test]
fn a_stop_string_ends_and_its_tokens_are_counted() {
    let stage = Stage::new(1, false);
    let stop = vec!["de".to_owned()];
    let generation = stage
        .runner
        .submit(GenerationRequest {
            stop,
            ..request("a", 50)
        })
        .unwrap();
    let (text, end) = outcome(generation);
    assert_eq!(text, "bc");
    let end = end.unwrap();
    assert_eq!(
        (end.completion_tokens, end.finish_reason),
        (4, FinishReason::Stop)
    );
}

#[test]
fn what_does_not_fit_the_context_is_refused_with_the_numbers() {
    let stage = Stage::new(1, false);
    let refused = |max_tokens| SubmitError::ContextLengthExceeded {
        prompt_tokens: 2,
        max_tokens,
        context_length: CONTEXT,
    };
    assert_eq!(
        stage.submit("ab", CONTEXT - 1).unwrap_err(),
        refused(CONTEXT - 1)
    );
    assert_eq!(stage.submit("ab", u32::MAX).unwrap_err(), refused(u32::MAX));
    assert!(stage.submit("ab", CONTEXT - 2).is_ok());
}

#[test]
fn as_many_wait_as_may_and_one_that_left_makes_room() {
    let stage = Stage::new(2, true);
    let served: Vec<_> = (0..SLOTS).map(|_| stage.submit("a", 3).unwrap()).collect();
    let first = stage.submit("a", 3).unwrap();
    let second = stage.submit("a", 3).unwrap();
    assert_eq!(
        stage.submit("a", 3).unwrap_err(),
        SubmitError::QueueFull { capacity: 2 }
    );
    drop(first);
    let third = stage.submit("c", 3).unwrap();
    assert_eq!(
        stage.submit("a", 3).unwrap_err(),
        SubmitError::QueueFull { capacity: 2 }
    );
    stage.permit(1000);
    for generation in served.into_iter().chain([second]) {
        assert_eq!(text(generation), "bcd");
    }
    assert_eq!(text(third), "def");
}

#[test]
fn whoever_leaves_stops_its_own_generation_at_the_next_token() {
    let stage = Stage::new(1, true);
    let mut leaving = stage.submit("a", 900).unwrap();
    stage.permit(3);
    assert_eq!(stage.next_call(), Call::Prefill(1));
    assert_eq!(
        (stage.next_call(), stage.next_call()),
        (Call::Decode(1), Call::Decode(1))
    );
    let first = leaving.events.blocking_recv();
    assert_eq!(
        first,
        Some(GenerationEvent::Token {
            index: 0,
            text: "b".to_owned()
        })
    );
    drop(leaving);
    let staying = stage.submit("k", 2).unwrap();
    stage.permit(1000);
    assert_eq!(text(staying), "lm");
    let calls: Vec<_> = stage.calls.try_iter().collect();
    assert!(
        calls
            .iter()
            .filter(|call| matches!(call, Call::Decode(_)))
            .count()
            <= 2,
        "{calls:?}"
    );
}

#[test]
fn whoever_leaves_during_a_long_prompt_stops_it_between_two_portions() {
    let stage = Stage::new(1, true);
    let leaving = stage.submit(&"a".repeat(PREFILL_TOKENS * 20), 5).unwrap();
    stage.permit(2);
    assert_eq!(stage.next_call(), Call::Prefill(PREFILL_TOKENS));
    assert_eq!(stage.next_call(), Call::Prefill(PREFILL_TOKENS));
    drop(leaving);
    let staying = stage.submit("k", 2).unwrap();
    stage.permit(1000);
    assert_eq!(text(staying), "lm");
    let portions = stage
        .calls
        .try_iter()
        .filter(|&call| call == Call::Prefill(PREFILL_TOKENS));
    assert!(portions.count() <= 1);
}

#[test]
fn a_short_request_is_not_stuck_behind_long_ones() {
    let stage = Stage::new(1, true);
    let mut writing = stage.submit("a", 900).unwrap();
    stage.permit(5);
    for _ in 0..5 {
        stage.next_call();
    }
    let reading = stage.submit(&"a".repeat(PREFILL_TOKENS * 50), 5).unwrap();
    let short = stage.submit("k", 3).unwrap();
    // Each of its tokens costs at most one portion of the long prompt and one token of the others.
    stage.permit(12);
    assert_eq!(text(short), "lmn");
    let mut written = 0;
    while let Ok(event) = writing.events.try_recv() {
        assert!(matches!(event, GenerationEvent::Token { .. }));
        written += 1;
    }
    assert!((5..20).contains(&written), "{written}");
    drop((writing, reading));
}

#[test]
fn running_requests_share_a_batch() {
    let stage = Stage::new(1, true);
    let generations: Vec<_> = (0..3).map(|_| stage.submit("a", 10).unwrap()).collect();
    stage.permit(1000);
    for generation in generations {
        assert_eq!(text(generation), "bcdefghijk");
    }
    assert!(stage.calls.try_iter().any(|call| call == Call::Decode(3)));
}

#[test]
fn a_panic_fails_its_own_request_and_no_other() {
    let stage = Stage::new(1, true);
    let beside = stage.submit("a", 20).unwrap();
    let in_prompt = stage.submit("Pa", 20).unwrap();
    let in_text = stage.submit("Da", 20).unwrap();
    stage.permit(1000);
    let (_, failure) = outcome(in_prompt);
    assert_eq!(
        failure.unwrap_err(),
        "the engine panicked: a prompt that panics"
    );
    let (_, failure) = outcome(in_text);
    assert_eq!(
        failure.unwrap_err(),
        "the engine panicked: a text that panics"
    );
    assert_eq!(text(beside), "bcdefghijklmnopqrstu");
    assert_eq!(text(stage.submit("k", 2).unwrap()), "lm");
}

#[test]
fn logits_that_are_not_numbers_fail_the_request() {
    let stage = Stage::new(1, false);
    let (written, failure) = outcome(stage.submit("Na", 20).unwrap());
    assert_eq!(written, "bc");
    assert!(failure.unwrap_err().contains("not numbers"));
    assert_eq!(text(stage.submit("k", 2).unwrap()), "lm");
}

#[test]
fn nobody_waits_for_a_reader_that_does_not_read() {
    let stage = Stage::new(SLOTS, false);
    let unread: Vec<_> = (0..SLOTS - 1)
        .map(|_| stage.submit("a", 900).unwrap())
        .collect();
    assert_eq!(text(stage.submit("k", 900).unwrap()).len(), 900);
    for generation in unread {
        assert_eq!(text(generation).len(), 900);
    }
}

#[test]
fn dropping_the_runner_ends_what_runs_and_what_waits() {
    let stage = Stage::new(2, false);
    let mut all: Vec<_> = (0..SLOTS + 2)
        .map(|_| stage.submit("a", 900).unwrap())
        .collect();
    drop(stage.runner);
    for generation in &mut all {
        while generation.events.blocking_recv().is_some() {}
    }
}

/// Breaks the thread itself.
struct Broken;

impl Model for Broken {
    type Cache = ();

    fn new_cache(&self) {
        panic!("no memory");
    }

    fn prefill(&self, _: &[u32], (): &mut (), _: bool) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    fn decode(&self, _: &[u32], _: &mut [&mut ()]) -> Result<Vec<Vec<f32>>> {
        Ok(Vec::new())
    }
}

#[test]
fn after_the_thread_broke_everybody_is_told() {
    let mut file = GgufWriter::default();
    add_byte_vocabulary(&mut file, "gpt-2");
    let runner = Runner::start(Broken, Arc::new(tokenizer(&file)), 9, 9, one_thread()).unwrap();
    let mut generation = runner.submit(request("a", 1)).unwrap();
    assert_eq!(generation.events.blocking_recv(), None);
    // The thread unwinds from the request to the queue: what slips in between is told as well.
    let refusal = loop {
        match runner.submit(request("a", 1)) {
            Ok(mut generation) => assert_eq!(generation.events.blocking_recv(), None),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, SubmitError::Stopped);
}

#[test]
fn a_real_model_writes_the_same_alone_and_beside_seven_others() {
    let file = llama(Q8_0);
    let model = super::super::llama::Llama::load(&mut open(&file), &candle_core::Device::Cpu, 1);
    let tokenizer = Arc::new(tokenizer(&file));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let runner = Runner::start(model.unwrap(), tokenizer, 500, 8, pool).unwrap();
    let requests: Vec<_> = (0..8_u64)
        .map(|number| GenerationRequest {
            temperature: if number % 2 == 0 { 0.0 } else { 0.9 },
            seed: Some(number),
            top_p: Some(0.95),
            ..request(&"the end ".repeat(number as usize + 1), 12 + number as u32)
        })
        .collect();
    let submit = |request: &GenerationRequest| runner.submit(request.clone()).unwrap();
    let alone: Vec<_> = requests
        .iter()
        .map(|request| text(submit(request)))
        .collect();
    let generations: Vec<_> = requests.iter().map(submit).collect();
    let beside: Vec<_> = generations.into_iter().map(text).collect();
    assert_eq!(alone, beside);
}
