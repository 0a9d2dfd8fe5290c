//! Where a benchmark's prompts come from: made to a length, or read from a file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::measured::REQUEST_LIMIT;
use super::prompt_file::{self, BLOCK_TOKENS, FilePrompt};
use super::words::Prompts;
use crate::tasks::worker::config::benchmark::{BenchmarkConfig, PREFILL_LENGTHS, SHORT_PROMPT};
use crate::tasks::worker::load::conversations::Sessions;
use crate::tasks::worker::load::windowed::Requests;
use crate::tasks::worker::net::http::Request;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::dialect::{Dialect, InferenceRequest, Reason};

/// The same prompts in every run, so that runs can be compared.
const SEED: u64 = 1;

/// How many different prompts a load has. A worker that remembers prompts gains nothing before the
/// first comes round again.
const DIFFERENT: usize = 256;

/// Every so many-th of them is for the warm-up alone.
const WARMING: usize = 4;

/// Where so many prompts in a row have answers of full length, all are taken to have them.
const ALL_LASTING: usize = 6;

/// An answer of fewer tokens says little about whether the model likes to end.
const MANY_TOKENS: u32 = 32;

/// Elsewhere so many are looked for,
const ENOUGH_LASTING: usize = 64;

/// not for longer than a load itself takes,
/// and so many of the longest have to do where fewer are found.
const FEWEST_LASTING: usize = 8;

/// The very first prompt, which needs no knowledge of the model.
const FIRST_PROMPT: &str = "Once upon a time";

/// A lower bound for what a context has room for; a model with less isn't worth a benchmark.
const SMALLEST_CONTEXT: u64 = 16;

/// Where prompts come from.
#[derive(Debug)]
pub enum PromptSource {
    /// Made to a length.
    Made {
        /// Makes them.
        prompts: Prompts,
        /// How many tokens the context has room for; `None` where it is enough for every load.
        context: Option<u64>,
        /// Those of the loads of many tokens; empty until the first of them.
        lasting: Vec<String>,
        /// How long may be looked for prompts with long answers.
        patience: Duration,
        /// Tokens with which each of those begins.
        depth: u64,
        /// Requests of a session.
        turns: usize,
    },
    /// Read from a file.
    Read(Vec<PromptRequest>),
}

/// A prompt, and what a file says of its request.
#[derive(Debug)]
pub struct PromptRequest {
    prompt: String,
    /// `None` where every request asks for the same.
    max_tokens: Option<u32>,
    /// When it is due after the beginning of a trace.
    due: Option<Duration>,
}

/// Lengths, cut to what the context has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptCut {
    /// Of the prompt; `None` where it is what the file has.
    pub prompt_tokens: Option<u64>,
    /// Of the answer.
    pub max_tokens: u32,
}

impl PromptSource {
    /// Reads the file, or learns from the worker how it counts.
    pub fn open(subject: &Subject<'_>, config: &BenchmarkConfig) -> Result<Self> {
        if let Some(path) = &config.prompts {
            return Ok(Self::Read(asked(subject, config, path)?));
        }
        let mut prompts = Prompts::calibrate(subject, SEED)?;
        let longest = PREFILL_LENGTHS[PREFILL_LENGTHS.len() - 1] + 1;
        let wanted = longest.max(scenario_tokens(config));
        let context = find_room(subject, &mut prompts, wanted)?;
        Ok(Self::Made {
            prompts,
            context,
            lasting: Vec::new(),
            patience: config.duration,
            depth: config.context_depth,
            turns: config.turns,
        })
    }

    /// The one request of the cold load, as nothing is known about the model yet.
    pub fn cold(dialect: &dyn Dialect, max_tokens: u32) -> Requests {
        let first = spelled(
            dialect,
            [PromptRequest::of(FIRST_PROMPT.to_owned())].iter(),
            max_tokens,
        );
        Requests {
            warm_up: Arc::clone(&first),
            counted: first,
            dues: Arc::default(),
            sessions: None,
        }
    }

    /// These lengths as far as the context has room for both.
    pub fn cut(&self, prompt_tokens: u64, max_tokens: u32) -> PromptCut {
        match self {
            Self::Made { context, .. } => fit(*context, prompt_tokens, max_tokens),
            Self::Read(_) => PromptCut {
                prompt_tokens: None,
                max_tokens,
            },
        }
    }

    /// The requests of the warm-up, and others that count.
    pub fn requests(&mut self, subject: &Subject<'_>, cut: PromptCut) -> Result<Requests> {
        let dialect = subject.dialect();
        match self {
            Self::Read(asked) => Ok(in_parts(dialect, asked, cut.max_tokens)),
            Self::Made {
                prompts,
                lasting,
                patience,
                depth,
                turns,
                ..
            } => {
                if cut.max_tokens == 1 {
                    let fresh = find_lasting(subject, prompts, cut, 0, *patience)?.into_iter();
                    let pool: Vec<PromptRequest> = fresh.map(PromptRequest::of).collect();
                    return Ok(in_parts(dialect, &pool, 1));
                }
                if lasting.is_empty() {
                    *lasting = find_lasting(subject, prompts, cut, *depth, *patience)?;
                }
                let pool: Vec<PromptRequest> =
                    lasting.iter().cloned().map(PromptRequest::of).collect();
                let mut requests = in_parts(dialect, &pool, cut.max_tokens);
                if *turns > 1 {
                    let firsts = part(lasting, false);
                    let said = firsts.flat_map(|first| session(prompts, first, *turns));
                    requests.sessions = Some(Sessions {
                        turns: *turns,
                        said: said.collect(),
                        request: Arc::new(move |prompt| {
                            let request = InferenceRequest::greedy(prompt, cut.max_tokens);
                            dialect.inference_request(&request, true)
                        }),
                    });
                }
                Ok(requests)
            }
        }
    }

    /// When the requests of a trace are due, in their order. Fails where the file says nothing of it.
    pub fn trace(&self, dialect: &dyn Dialect, max_tokens: u32) -> Result<Requests> {
        let asked = match self {
            Self::Read(asked) => asked,
            Self::Made { .. } => bail!("a trace comes from a file of prompts"),
        };
        let dues = asked
            .iter()
            .map(|one| one.due.context("a request has no `timestamp`"));
        let all = spelled(dialect, asked.iter(), max_tokens);
        Ok(Requests {
            warm_up: Arc::clone(&all),
            counted: all,
            dues: dues.collect::<Result<_>>()?,
            sessions: None,
        })
    }
}

impl PromptRequest {
    fn of(prompt: String) -> Self {
        Self {
            prompt,
            max_tokens: None,
            due: None,
        }
    }
}

/// The requests of a file. Where it has lengths only, prompts of these lengths are made, as far as the
/// context has room.
fn asked(
    subject: &Subject<'_>,
    config: &BenchmarkConfig,
    path: &Path,
) -> Result<Vec<PromptRequest>> {
    let file = prompt_file::read(path)?;
    let answer = |one: &FilePrompt| one.max_tokens.unwrap_or(config.max_tokens);
    let lengths = file.iter().filter(|one| one.text.is_none());
    let longest = lengths
        .map(|one| one.prompt_tokens + u64::from(answer(one)))
        .max();
    let mut made = None;
    if let Some(longest) = longest {
        let mut prompts = Prompts::calibrate(subject, SEED)?;
        let context = find_room(subject, &mut prompts, longest.max(SMALLEST_CONTEXT))?;
        made = Some((prompts, context));
    }
    let asked = file.into_iter().map(|one| {
        let mut max_tokens = one.max_tokens;
        let prompt = match (one.text, &mut made) {
            (Some(text), _) => text,
            (None, Some((prompts, context))) => {
                let wanted = max_tokens.unwrap_or(config.max_tokens);
                let cut = fit(*context, one.prompt_tokens, wanted);
                max_tokens = Some(cut.max_tokens);
                let tokens = cut.prompt_tokens.unwrap_or(one.prompt_tokens);
                prompts.of_blocks(&one.blocks, BLOCK_TOKENS, tokens)
            }
            (None, None) => String::new(),
        };
        PromptRequest {
            prompt,
            max_tokens,
            due: one.due,
        }
    });
    Ok(asked.collect())
}

/// What is said in a session: its first prompt, and what each turn adds to the answer before it.
fn session(prompts: &mut Prompts, first: &str, turns: usize) -> Vec<String> {
    let more = (1..turns).map(|_| prompts.go_on("", SHORT_PROMPT));
    std::iter::once(first.to_owned()).chain(more).collect()
}

/// Requests that warm up, and those that count.
fn in_parts(dialect: &dyn Dialect, pool: &[PromptRequest], max_tokens: u32) -> Requests {
    Requests {
        warm_up: spelled(dialect, part(pool, true), max_tokens),
        counted: spelled(dialect, part(pool, false), max_tokens),
        dues: Arc::default(),
        sessions: None,
    }
}

/// Those of a pool that warm up, or those that count: neither is among the other, as far as there are
/// two.
fn part<T>(pool: &[T], is_warming: bool) -> impl Iterator<Item = &T> {
    // A single one has to do for both.
    let is_single = pool.len() < 2;
    let numbered = pool.iter().enumerate();
    let of_part = numbered.filter(move |(at, _)| is_single || (at % WARMING == 0) == is_warming);
    of_part.map(|(_, one)| one)
}

/// The most tokens that any load but those of prefill asks the context for.
fn scenario_tokens(config: &BenchmarkConfig) -> u64 {
    config.longest_prompt() + u64::from(config.max_tokens)
}

/// The answer gets half of the context at most, and the prompt what is left.
fn fit(context: Option<u64>, prompt_tokens: u64, max_tokens: u32) -> PromptCut {
    let context = context.unwrap_or(u64::MAX);
    let answer = u64::from(max_tokens).min(context / 2).max(1);
    PromptCut {
        prompt_tokens: Some(prompt_tokens.min(context.saturating_sub(answer)).max(1)),
        max_tokens: answer as u32,
    }
}

/// Prompts whose answers are as long as is asked for.
///
/// Most models go on and on after nonsense. For those that like to end, prompts are tried one by one
/// until enough are found, or the time is up and the longest have to do.
fn find_lasting(
    subject: &Subject<'_>,
    prompts: &mut Prompts,
    cut: PromptCut,
    depth: u64,
    patience: Duration,
) -> Result<Vec<String>> {
    let began = Instant::now();
    let wanted = u64::from(cut.max_tokens);
    let length = cut.prompt_tokens.unwrap_or_default();
    // What they have in common leaves room for what they haven't.
    let depth = depth.min(length.saturating_sub(prompts.shortest()));
    let common = (depth >= prompts.shortest()).then(|| prompts.make(depth));
    let make = |prompts: &mut Prompts| match &common {
        Some(common) => prompts.go_on(common, length - depth),
        None => prompts.make(length),
    };
    // Whether an answer ends early shows only where it is long.
    let asked = cut.max_tokens.max(MANY_TOKENS);
    let mut tried: Vec<(u64, String)> = Vec::new();
    let mut goes_on = true;
    loop {
        let prompt = make(prompts);
        let asked = if tried.len() < ALL_LASTING {
            asked
        } else {
            cut.max_tokens
        };
        let completion = subject
            .worker
            .infer(&InferenceRequest::greedy(&prompt, asked))?;
        tried.push((completion.tokens()?.min(wanted), prompt));
        goes_on &= completion.tokens()? == u64::from(asked);
        if tried.len() < ALL_LASTING {
            continue;
        }
        if goes_on {
            return Ok((0..DIFFERENT).map(|_| make(prompts)).collect());
        }
        let lasting = tried.iter().filter(|(tokens, _)| *tokens == wanted).count();
        if lasting >= ENOUGH_LASTING || began.elapsed() > patience {
            tried.sort_by_key(|(tokens, _)| std::cmp::Reverse(*tokens));
            tried.truncate(lasting.max(FEWEST_LASTING));
            tried.retain(|(tokens, _)| *tokens > 0);
            return Ok(tried.into_iter().map(|(_, prompt)| prompt).collect());
        }
    }
}

fn spelled<'a>(
    dialect: &dyn Dialect,
    asked: impl Iterator<Item = &'a PromptRequest>,
    max_tokens: u32,
) -> Arc<[Request]> {
    asked
        .map(|one| {
            let max_tokens = one.max_tokens.unwrap_or(max_tokens);
            let request = InferenceRequest::greedy(&one.prompt, max_tokens);
            dialect.inference_request(&request, true)
        })
        .collect()
}

/// How many tokens the context has room for; `None` where it is as many as wanted, or more.
fn find_room(subject: &Subject<'_>, prompts: &mut Prompts, wanted: u64) -> Result<Option<u64>> {
    let mut fits = |tokens: u64| -> Result<bool> {
        let prompt = prompts.make(tokens - 1);
        let request = InferenceRequest::greedy(&prompt, 1);
        let request = subject.dialect().inference_request(&request, false);
        let response = subject.worker.ask(&request, REQUEST_LIMIT)?;
        if subject
            .dialect()
            .read_refusal(&response, Reason::ContextExceeded)
            .is_ok()
        {
            return Ok(false);
        }
        subject.dialect().read_completion(&response)?;
        Ok(true)
    };
    if fits(wanted)? {
        return Ok(None);
    }
    let (mut low, mut high) = (SMALLEST_CONTEXT, wanted);
    ensure!(
        fits(low)?,
        "the context has no room for {low} tokens, which is too little to measure anything"
    );
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_cut_to_the_context() {
        let read = PromptSource::Read(vec![PromptRequest::of(String::from("a"))]);
        let cut = |prompt_tokens, max_tokens| PromptCut {
            prompt_tokens,
            max_tokens,
        };
        assert_eq!(read.cut(32, 128), cut(None, 128));
        assert_eq!(fit(None, 512, 1), cut(Some(512), 1));
        assert_eq!(fit(Some(100), 512, 1), cut(Some(99), 1));
        assert_eq!(fit(Some(100), 32, 128), cut(Some(32), 50));
        assert_eq!(fit(Some(40), 32, 128), cut(Some(20), 20));
    }
}
