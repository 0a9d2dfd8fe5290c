//! JSON that follows a schema, through llguidance: which of the model's tokens may come next.
//!
//! Schemas come from clients. One is compiled at a time, away from the threads that answer health,
//! and within limits that keep a hostile one from taking the machine; what it costs while its answer
//! is made is limited, too.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::engine::{Constraint, Engine, Grammar};

/// Longer tokens are left out of grammars: the tree of tokens has no room for them.
const LONGEST_PIECE: usize = 512;
/// What stands between two parts of JSON. Without an end to it, some models never come to another
/// part.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,40}";
/// So many patterns may stand for properties of a schema: the compiler compares each with every other,
/// again and again, and without a limit of its own.
const MOST_PATTERNS: usize = 8;
/// So long may a request wait for the schemas of others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Schemas and patterns may be nested, and what follows them recurses.
const STACK_BYTES: usize = 64 << 20;

/// A fraction of what llguidance allows itself: whole answers share the machine.
fn limits() -> ParserLimits {
    ParserLimits {
        max_grammar_size: 100_000,
        initial_lexer_fuel: 500_000,
        step_lexer_fuel: 50_000,
        step_max_items: 20_000,
        max_lexer_states: 20_000,
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// Why there is no grammar.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many schemas of others are waiting.
    Busy,
    /// No answer can be held to this schema, and why.
    Schema(String),
}

/// Makes grammars for one model.
#[derive(Debug)]
pub struct Grammars {
    vocabulary: OnceLock<Vocabulary>,
    turn: Arc<Semaphore>,
}

/// The model's tokens as a tree, made at the first need of it.
struct Vocabulary(ParserFactory);

impl Default for Grammars {
    fn default() -> Self {
        Self {
            vocabulary: OnceLock::new(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Grammars {
    /// The grammar of JSON that follows the schema, an object.
    pub async fn compile(
        self: Arc<Self>,
        engine: Arc<dyn Engine>,
        schema: Value,
    ) -> Result<Grammar, Refusal> {
        let turn = Arc::clone(&self.turn).acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Refusal::Busy);
        };
        let compiled = tokio::task::spawn_blocking(move || {
            // A client that has left is waited for all the same, or others would crowd in.
            let _turn = turn;
            let work = move || self.compile_now(&*engine, schema);
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let thread = thread.name("grammar".to_owned()).spawn(work);
            thread.map(std::thread::JoinHandle::join)
        });
        match compiled.await {
            Ok(Ok(Ok(Ok(grammar)))) => Ok(grammar),
            Ok(Ok(Ok(Err(error)))) => Err(Refusal::Schema(brief(&error))),
            Ok(Err(error)) => Err(Refusal::Schema(format!(
                "no thread can be started: {error}"
            ))),
            // The panic is in the log.
            _ => Err(Refusal::Schema("it broke the compiler".to_owned())),
        }
    }

    fn compile_now(&self, engine: &dyn Engine, mut schema: Value) -> Result<Grammar> {
        let vocabulary = match self.vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let made = Vocabulary::of(engine)?;
                self.vocabulary.get_or_init(|| made)
            }
        };
        // Replaces what the client may have put there: these options are no part of a schema.
        let options = JsonCompileOptions {
            whitespace_pattern: Some(WHITE_SPACE.to_owned()),
            ..JsonCompileOptions::default()
        };
        ensure!(schema.is_object(), "a schema is an object");
        let patterns = patterns(&schema);
        ensure!(
            patterns <= MOST_PATTERNS,
            "patternProperties: got {patterns} patterns, allowed are {MOST_PATTERNS}"
        );
        options.apply_to(&mut schema);
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let matcher = Matcher::new(vocabulary.0.create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            anyhow::bail!(error);
        }
        // The first step tells whether there is any.
        matcher
            .deep_clone()
            .compute_mask()
            .context("no answer begins as it says")?;
        let matcher = Mutex::new(matcher);
        Ok(Grammar::new(move || {
            let matcher = matcher.lock().unwrap_or_else(PoisonError::into_inner);
            Box::new(Follower(matcher.deep_clone()))
        }))
    }
}

/// How many patterns stand for properties, wherever in the schema.
fn patterns(schema: &Value) -> usize {
    match schema {
        Value::Object(members) => {
            let own = members.get("patternProperties").and_then(Value::as_object);
            let inner: usize = members.values().map(patterns).sum();
            own.map_or(0, serde_json::Map::len) + inner
        }
        Value::Array(items) => items.iter().map(patterns).sum(),
        _ => 0,
    }
}

/// On one line, and without the state that is for those who develop the compiler.
fn brief(error: &anyhow::Error) -> String {
    const LONGEST_CHARS: usize = 300;
    let text = format!("{error:#}");
    let lines = text.lines().take_while(|line| !line.starts_with('<'));
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").chars().take(LONGEST_CHARS).collect()
}

impl Vocabulary {
    fn of(engine: &dyn Engine) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut ends = Vec::new();
        for (number, token) in (0..).map_while(|number| Some((number, engine.token(number)?))) {
            // A first byte of 255, which no text has, means something else to the tree.
            let is_text = !token.is_end
                && token.piece.len() <= LONGEST_PIECE
                && token.piece.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER);
            pieces.push(match is_text {
                true => token.piece.to_vec(),
                false => Vec::new(),
            });
            if token.is_end {
                ends.push(number);
            }
        }
        let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(pieces.len() as u32, end), &pieces);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        // Not canonical: nothing is forced, and the model chooses how it cuts a text into tokens.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::json_slices();
        let capabilities = InferenceCapabilities::default();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)?;
        *factory.quiet().limits_mut() = limits();
        Ok(Self(factory))
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Vocabulary")
    }
}

/// Follows one answer.
struct Follower(Matcher);

impl Constraint for Follower {
    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let allowed = self.0.compute_mask().map_err(|error| broken(&error))?;
        let words = allowed.as_slice().iter().chain(std::iter::repeat(&0));
        for (word, logits) in words.zip(logits.chunks_mut(u32::BITS as usize)) {
            if *word == u32::MAX {
                continue;
            }
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word & (1 << bit) == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<bool> {
        let taken = self.0.consume_token(token);
        taken.map_err(|error| broken(&error))?;
        Ok(self.0.is_stopped())
    }
}

fn broken(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("the answer can't be held to its schema: {}", brief(error))
}

impl fmt::Debug for Follower {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Follower")
    }
}

#[cfg(test)]
mod tests;
