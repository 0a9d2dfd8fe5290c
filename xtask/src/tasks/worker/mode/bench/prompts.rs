//! Where a benchmark's prompts come from: made to a length, or read from a file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::measured::REQUEST_LIMIT;
use super::words::Prompts;
use crate::tasks::worker::config::benchmark::{BenchmarkConfig, PREFILL_LENGTHS, SHORT_PROMPT};
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
    },
    /// Read from a file.
    Read(Vec<String>),
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
            return Ok(Self::Read(read(path)?));
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
        })
    }

    /// The one request of the cold load, as nothing is known about the model yet.
    pub fn cold(dialect: &dyn Dialect, max_tokens: u32) -> Requests {
        let first = spelled(dialect, [FIRST_PROMPT.to_owned()].iter(), max_tokens);
        Requests {
            warm_up: Arc::clone(&first),
            counted: first,
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
        let fresh;
        let pool = match self {
            Self::Read(prompts) => prompts,
            Self::Made {
                prompts,
                lasting,
                patience,
                ..
            } => {
                let is_prefill = cut.max_tokens == 1;
                if is_prefill {
                    fresh = find_lasting(subject, prompts, cut, *patience)?;
                    &fresh
                } else {
                    if lasting.is_empty() {
                        *lasting = find_lasting(subject, prompts, cut, *patience)?;
                    }
                    lasting
                }
            }
        };
        let dialect = subject.dialect();
        let part = |is_warming: bool| {
            let numbered = pool.iter().enumerate();
            let of_part = numbered.filter(|(at, _)| (at % WARMING == 0) == is_warming);
            let part = spelled(dialect, of_part.map(|(_, prompt)| prompt), cut.max_tokens);
            // A single prompt has to do for both.
            match part.is_empty() {
                true => spelled(dialect, pool.iter(), cut.max_tokens),
                false => part,
            }
        };
        Ok(Requests {
            warm_up: part(true),
            counted: part(false),
        })
    }
}

/// The most tokens that any load but those of prefill asks the context for.
fn scenario_tokens(config: &BenchmarkConfig) -> u64 {
    SHORT_PROMPT + u64::from(config.max_tokens)
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
    patience: Duration,
) -> Result<Vec<String>> {
    let began = Instant::now();
    let wanted = u64::from(cut.max_tokens);
    let length = cut.prompt_tokens.unwrap_or_default();
    // Whether an answer ends early shows only where it is long.
    let asked = cut.max_tokens.max(MANY_TOKENS);
    let mut tried: Vec<(u64, String)> = Vec::new();
    let mut goes_on = true;
    loop {
        let prompt = prompts.make(length);
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
            return Ok((0..DIFFERENT).map(|_| prompts.make(length)).collect());
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
    prompts: impl Iterator<Item = &'a String>,
    max_tokens: u32,
) -> Arc<[Request]> {
    prompts
        .map(|prompt| {
            let request = InferenceRequest::greedy(prompt, max_tokens);
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

/// Reads prompts, one JSON value a line: a string, or an object with `prompt`.
fn read(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the prompts {}", path.display()))?;
    // Some editors begin each file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    parse(text).with_context(|| format!("{} has no usable prompts", path.display()))
}

fn parse(text: &str) -> Result<Vec<String>> {
    let mut prompts = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
        let prompt = value.as_str().or_else(|| value["prompt"].as_str());
        match prompt {
            Some(prompt) if !prompt.is_empty() => prompts.push(prompt.to_owned()),
            _ => bail!("line {number} is neither a string nor an object with a `prompt`"),
        }
    }
    ensure!(!prompts.is_empty(), "it is empty");
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_prompt_a_line() {
        let prompts = parse("\"a\"\n\n{\"prompt\": \"b\", \"more\": 1}\n").unwrap();
        assert_eq!(prompts, ["a", "b"]);
        for (text, part) in [
            ("", "empty"),
            ("\"a\"\nb", "line 2 is not JSON"),
            ("{\"text\": 1}", "line 1"),
            ("\"\"", "line 1"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_prompt() {
        let path = std::env::temp_dir().join(format!("prompts-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "\u{feff}\"a\"\r\n\"b\"\r\n").unwrap();
        let prompts = read(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(prompts.unwrap(), ["a", "b"]);
    }

    #[test]
    fn lengths_are_cut_to_the_context() {
        let read = PromptSource::Read(vec![String::from("a")]);
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
