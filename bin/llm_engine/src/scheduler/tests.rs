//! The scheduler over a scripted model: order, batches, pages, cancellation, failures.

mod constrained;
mod stage;

use self::stage::*;
use super::serving::{FIRST_PORTION, LARGEST_PORTION};
use super::*;
use crate::testing::gguf_writer::{GgufWriter, Q8_0, add_byte_vocabulary, llama};
use crate::testing::{model, tokenizer};
use crate::{FinishReason, Timings};

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
fn who_ignores_the_end_token_goes_on_after_it() {
    let stage = Stage::new(1, false);
    let request = GenerationRequest {
        ignore_end: true,
        ..request("Ea", 4)
    };
    let (text, end) = outcome(stage.scheduler.submit(request).unwrap());
    assert!(text.starts_with("bc"), "{text}");
    let end = end.unwrap();
    assert_eq!(
        (end.completion_tokens, end.finish_reason),
        (4, FinishReason::Length)
    );
}

#[test]
fn a_stop_string_ends_and_its_tokens_are_counted() {
    let stage = Stage::new(1, false);
    let stop = vec!["de".to_owned()];
    let generation = stage
        .scheduler
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
    wait_for(&stage, |stats| stats.finished == 1 && stats.pages_used == 0);
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
    assert_eq!(stage.next_call(), Call { read: 1, decode: 0 });
    for _ in 0..2 {
        assert_eq!(stage.next_call(), Call { read: 0, decode: 1 });
    }
    let first = leaving.events.blocking_recv();
    assert!(
        matches!(&first, Some(GenerationEvent::Token { index: 0, text, .. }) if text == "b"),
        "{first:?}"
    );
    drop(leaving);
    let staying = stage.submit("k", 2).unwrap();
    stage.permit(1000);
    assert_eq!(text(staying), "lm");
    let calls: Vec<_> = stage.calls.try_iter().collect();
    assert!(
        calls.iter().filter(|call| call.decode > 0).count() <= 2,
        "{calls:?}"
    );
    wait_for(&stage, |stats| {
        stats.cancelled == 1 && stats.pages_used == 0
    });
}

/// The thread notes what it did a moment after the last event.
fn wait_for(stage: &Stage, reached: impl Fn(&Stats) -> bool) {
    let begun = Instant::now();
    while !reached(&stage.scheduler.stats()) {
        assert!(begun.elapsed() < DEADLINE, "{:?}", stage.scheduler.stats());
        std::thread::yield_now();
    }
}

#[test]
fn whoever_leaves_during_a_long_prompt_stops_it_between_two_portions() {
    let stage = Stage::new(1, true);
    let leaving = stage.submit(&"a".repeat(9000), 5).unwrap();
    stage.permit(2);
    assert_eq!(stage.next_call().read, FIRST_PORTION);
    assert!(stage.next_call().read <= LARGEST_PORTION);
    drop(leaving);
    let staying = stage.submit("k", 2).unwrap();
    stage.permit(1000);
    assert_eq!(text(staying), "lm");
    let portions = stage.calls.try_iter().filter(|call| call.read > 1);
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
    let reading = stage.submit(&"a".repeat(9000), 5).unwrap();
    let short = stage.submit("k", 3).unwrap();
    // It shares every step with the others.
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
fn running_requests_share_a_batch_with_each_other_and_with_prompts() {
    let stage = Stage::new(1, true);
    let generations: Vec<_> = (0..3).map(|_| stage.submit("a", 10).unwrap()).collect();
    stage.permit(4);
    for _ in 0..4 {
        stage.next_call();
    }
    let reading = stage.submit(&"k".repeat(200), 1).unwrap();
    stage.permit(1000);
    for generation in generations {
        assert_eq!(text(generation), "bcdefghijk");
    }
    assert_eq!(text(reading), "l");
    let calls: Vec<_> = stage.calls.try_iter().collect();
    let mixed = calls.iter().any(|call| call.decode == 3 && call.read > 1);
    assert!(mixed, "{calls:?}");
}

#[test]
fn what_was_computed_is_counted() {
    let stage = Stage::new(1, true);
    let generations: Vec<_> = (0..3).map(|_| stage.submit("xa", 4).unwrap()).collect();
    stage.permit(1000);
    for generation in generations {
        assert_eq!(text(generation), "bcde");
    }
    wait_for(&stage, |stats| stats.finished == 3);
    let stats = stage.scheduler.stats();
    assert_eq!(
        (stats.read_tokens, stats.next_tokens, stats.longest),
        (6, 9, 6)
    );
    // The first to come may have been alone for some steps, but each was in four.
    assert_eq!(stats.steps_shared, 12, "{stats:?}");
    assert!((4..=12).contains(&stats.steps), "{stats:?}");
    assert!(!stats.read_time.is_zero() && !stats.generation_time.is_zero());
}

#[test]
fn a_common_beginning_is_computed_once() {
    let stage = Stage::new(1, false);
    let shared = "q".repeat(5 * PAGE_TOKENS);
    let (first, end) = outcome(stage.submit(&format!("{shared}a"), 20).unwrap());
    assert_eq!(first, "bcdefghijklmnopqrstu");
    assert_eq!(end.unwrap().cached_tokens, 0);
    let (second, end) = outcome(stage.submit(&format!("{shared}k"), 3).unwrap());
    let cached = end.unwrap().cached_tokens as usize;
    assert_eq!((second.as_str(), cached), ("lmn", 5 * PAGE_TOKENS));
    // What was generated is known, too: a conversation goes on where it was.
    let (third, end) = outcome(stage.submit(&format!("{shared}a{first}v"), 1).unwrap());
    let cached = end.unwrap().cached_tokens as usize;
    assert_eq!((third.as_str(), cached), ("w", 6 * PAGE_TOKENS));
    let read: usize = stage.calls.try_iter().map(|call| call.read).sum();
    assert!(read < 2 * shared.len(), "{read}");
}

#[test]
fn a_beginning_that_comes_twice_at_once_is_computed_once() {
    let stage = Stage::new(1, true);
    let shared = "q".repeat(40 * PAGE_TOKENS);
    let generations: Vec<_> = ["a", "k", "p"]
        .iter()
        .map(|last| stage.submit(&format!("{shared}{last}"), 2).unwrap())
        .collect();
    stage.permit(1000);
    let texts: Vec<_> = generations.into_iter().map(text).collect();
    assert_eq!(texts, ["bc", "lm", "qr"]);
    let read: usize = stage.calls.try_iter().map(|call| call.read).sum();
    assert!(read < shared.len() + 4 * PAGE_TOKENS, "{read}");
}

#[test]
fn who_finds_no_room_in_the_cache_waits_and_pages_come_back() {
    let stage = Stage::with_pages(4, 2, true);
    let first = stage.submit("a", 3 * PAGE_TOKENS as u32).unwrap();
    stage.permit(1);
    stage.next_call();
    let second = stage.submit("k", PAGE_TOKENS as u32).unwrap();
    let third = stage.submit("k", 1).unwrap();
    // The first of these calls may have been prepared before they came.
    stage.permit(2);
    stage.next_call();
    stage.next_call();
    wait_for(&stage, |stats| (stats.running, stats.waiting) == (1, 2));
    // Slots are free, but nobody who waits can have one.
    assert_eq!(
        stage.submit("a", 1).unwrap_err(),
        SubmitError::QueueFull { capacity: 2 }
    );
    stage.permit(1000);
    assert_eq!(text(first).len(), 3 * PAGE_TOKENS);
    assert_eq!(text(second).len(), PAGE_TOKENS);
    assert_eq!(text(third), "l");
    wait_for(&stage, |stats| stats.finished == 3 && stats.pages_used == 0);
}

#[test]
fn tokens_are_taken_as_they_are() {
    let stage = Stage::new(1, false);
    let submit = |tokens: Vec<u32>| {
        stage.scheduler.submit(GenerationRequest {
            prompt: Prompt::Tokens(tokens),
            ..request("", 2)
        })
    };
    let a = stage.scheduler.tokenizer.encode("a");
    let (answer, end) = outcome(submit(a).unwrap());
    assert_eq!((answer.as_str(), end.unwrap().prompt_tokens), ("bc", 1));
    let vocabulary_size = stage.scheduler.tokenizer.vocabulary_size() as u32;
    assert_eq!(
        submit(vec![0, vocabulary_size]).unwrap_err(),
        SubmitError::UnknownToken {
            token: vocabulary_size,
            vocabulary_size
        }
    );
    assert_eq!(submit(Vec::new()).unwrap_err(), SubmitError::EmptyPrompt);
}

#[test]
fn a_prompt_far_beyond_the_context_is_not_even_read() {
    let stage = Stage::new(1, false);
    let text = "the ".repeat(1 << 20);
    let refusal = stage.submit(&text, 1).unwrap_err();
    let SubmitError::ContextLengthExceeded { prompt_tokens, .. } = refusal else {
        panic!("{refusal:?}");
    };
    let least = stage.scheduler.tokenizer.least_tokens(text.len());
    assert_eq!(prompt_tokens as usize, least);
    assert!(least < stage.scheduler.tokenizer.encode(&text).len());
}

#[test]
fn events_tell_the_token_and_how_likely_it_was() {
    let stage = Stage::new(1, false);
    let mut generation = stage
        .scheduler
        .submit(GenerationRequest {
            top_logprobs: 2,
            ..request("a", 1)
        })
        .unwrap();
    let event = generation.events.blocking_recv();
    let Some(GenerationEvent::Token { chosen, top, .. }) = event else {
        panic!("{event:?}");
    };
    assert_eq!([chosen.token], stage.scheduler.tokenizer.encode("b")[..]);
    assert_eq!((top.len(), top[0]), (2, chosen));
    let others = (stage.scheduler.tokenizer.vocabulary_size() - 1) as f32;
    let expected = -(1.0 + others * (-9.0_f32).exp()).ln();
    assert!((chosen.logprob - expected).abs() < 1e-5, "{chosen:?}");
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
    drop(stage.scheduler);
    for generation in &mut all {
        while generation.events.blocking_recv().is_some() {}
    }
}

/// Breaks the thread itself.
struct Broken;

impl Model for Broken {
    fn room(&self) -> Room {
        Room {
            pages: 9,
            page_tokens: 1,
            shares: false,
        }
    }

    fn forward(&mut self, _: &[Span<'_>], _: &mut Vec<f32>) -> Result<()> {
        anyhow::bail!("nothing works");
    }

    fn forget(&mut self, _: u64) {
        panic!("no memory");
    }
}

#[test]
fn after_the_thread_broke_everybody_is_told() {
    let mut file = GgufWriter::default();
    add_byte_vocabulary(&mut file, "gpt-2");
    let scheduler = Scheduler::start(Broken, Arc::new(tokenizer(&file)), 9, 9).unwrap();
    let mut failure = scheduler.failure();
    assert_eq!(*failure.borrow(), None);
    let mut generation = scheduler.submit(request("a", 1)).unwrap();
    while generation.events.blocking_recv().is_some() {}
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let reason = runtime.block_on(failure.wait_for(Option::is_some)).unwrap();
    assert_eq!(reason.as_deref(), Some("the engine's thread panicked"));
    let refusal = loop {
        match scheduler.submit(request("a", 1)) {
            // The thread unwinds from the reason to the queue: what slips in between is told, too.
            Ok(mut generation) => assert_eq!(generation.events.blocking_recv(), None),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, SubmitError::Stopped);
}

/// Different lengths, temperatures and beginnings, some of which are alike.
fn varied_requests(count: u64) -> Vec<GenerationRequest> {
    let request = |number: u64| GenerationRequest {
        temperature: if number.is_multiple_of(2) { 0.0 } else { 0.9 },
        seed: Some(number),
        top_p: Some(0.95),
        repetition_penalty: number.is_multiple_of(3).then_some(1.1),
        ..request(
            &"the end ".repeat((number % 13) as usize * 2 + 1),
            8 + (number % 7) as u32,
        )
    };
    (0..count).map(request).collect()
}

#[test]
fn a_real_model_writes_the_same_alone_and_in_any_company() {
    let file = llama(Q8_0);
    let start = || {
        let tokenizer = Arc::new(tokenizer(&file));
        Scheduler::start(model(&file, 2, 600), tokenizer, 500, SLOTS).unwrap()
    };
    let scheduler = start();
    let requests = varied_requests(SLOTS as u64);
    let submit = |request: &GenerationRequest| scheduler.submit(request.clone()).unwrap();
    let alone: Vec<_> = requests.iter().map(|one| text(submit(one))).collect();
    for company in [2, 3, 8, 17, 64] {
        // Once with what earlier ones left in the cache, once without.
        for scheduler in [&scheduler, &start()] {
            let submit = |request: &GenerationRequest| scheduler.submit(request.clone()).unwrap();
            let generations: Vec<_> = requests[..company].iter().map(submit).collect();
            let beside: Vec<_> = generations.into_iter().map(text).collect();
            assert_eq!(alone[..company], beside, "in a company of {company}");
        }
    }
}
