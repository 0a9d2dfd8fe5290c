//! Answers that are held to something, alone and beside others.

use anyhow::{bail, ensure};

use super::super::*;
use super::stage::*;
use crate::FinishReason;

/// Wants the letters of a text, one after the other.
#[derive(Debug)]
struct Spelled {
    /// What is left of it.
    letters: Vec<u32>,
    /// Whether the end comes of itself, and not as an end token.
    ends: bool,
}

impl Constraint for Spelled {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let Some(&next) = self.letters.first() else {
            bail!("there is nothing left to spell");
        };
        for (token, logit) in logits.iter_mut().enumerate() {
            if token != next as usize {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<bool> {
        ensure!(self.letters.first() == Some(&token), "{token} came");
        self.letters.remove(0);
        Ok(self.ends && self.letters.is_empty())
    }
}

fn spelled(stage: &Stage, text: &str, ends: bool) -> Grammar {
    let letters = stage.scheduler.tokenizer.encode(text);
    Grammar::new(move || {
        Box::new(Spelled {
            letters: letters.clone(),
            ends,
        })
    })
}

fn held(stage: &Stage, text: &str, ends: bool, max_tokens: u32) -> Generation {
    let request = GenerationRequest {
        grammar: Some(spelled(stage, text, ends)),
        temperature: 1.0,
        seed: Some(3),
        ignore_end: true,
        ..request("a", max_tokens)
    };
    stage.scheduler.submit(request).unwrap()
}

#[test]
fn an_answer_is_what_the_grammar_says_and_ends_with_it() {
    let stage = Stage::new(1, false);
    for (max_tokens, expected, reason) in [
        (9, "zebra", FinishReason::Stop),
        (5, "zebra", FinishReason::Stop),
        (4, "zebr", FinishReason::Length),
    ] {
        let (said, end) = outcome(held(&stage, "zebra", true, max_tokens));
        assert_eq!(
            (said.as_str(), end.unwrap().finish_reason),
            (expected, reason)
        );
    }
}

#[test]
fn a_grammar_that_fails_or_allows_nothing_fails_its_own_request() {
    let stage = Stage::new(1, true);
    let beside = stage.submit("a", 20).unwrap();
    let failing = held(&stage, "zeb", false, 9);
    let nothing = GenerationRequest {
        grammar: Some(Grammar::new(|| {
            Box::new(Spelled {
                letters: vec![u32::MAX],
                ends: true,
            })
        })),
        ..request("a", 9)
    };
    let nothing = stage.scheduler.submit(nothing).unwrap();
    stage.permit(1000);
    let (said, end) = outcome(failing);
    assert_eq!(
        (said.as_str(), end.unwrap_err().as_str()),
        ("zeb", "there is nothing left to spell")
    );
    let (said, end) = outcome(nothing);
    assert_eq!(
        (said.as_str(), end.unwrap_err().as_str()),
        ("", "no token is possible that is allowed")
    );
    assert_eq!(text(beside), "bcdefghijklmnopqrstu");
}

#[test]
fn who_is_beside_a_held_answer_says_what_it_says_alone() {
    let sampled = |stage: &Stage| {
        let request = GenerationRequest {
            temperature: 2.0,
            seed: Some(7),
            top_logprobs: 3,
            ignore_end: true,
            ..request("ab", 40)
        };
        stage.scheduler.submit(request).unwrap()
    };
    let events = |mut generation: Generation| {
        let next = || generation.events.blocking_recv();
        let tokens = std::iter::from_fn(next)
            .take_while(|event| matches!(event, GenerationEvent::Token { .. }));
        tokens.collect::<Vec<_>>()
    };
    let stage = Stage::new(1, false);
    let alone = events(sampled(&stage));
    let stage = Stage::new(1, true);
    let before = held(&stage, "thequickbrownfox", true, 90);
    let beside = sampled(&stage);
    let after = held(&stage, "jumps", true, 90);
    stage.permit(1000);
    assert_eq!(events(beside), alone);
    assert_eq!(
        (text(before).as_str(), text(after).as_str()),
        ("thequickbrownfox", "jumps")
    );
}
