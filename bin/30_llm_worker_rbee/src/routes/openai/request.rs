//! OpenAI's request bodies as a [`GenerationRequest`]. A field that would change the answer is
//! applied or refused by name; its neutral value is fine. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Shape;
use super::answer::Extras;
use crate::api::fields::{Field, describe, invalid, read_body, read_object};
use crate::chat_template::Message;
use crate::engine::{GenerationRequest, Prompt};
use crate::error::{ApiError, ErrorCode, shorten};
use crate::routes::generation::AS_MANY_AS_FIT;

mod format;
mod messages;

use messages::messages;

/// What is generated for a text when the client names no number, by OpenAI's word.
const DEFAULT_TEXT_TOKENS: u32 = 16;
const DEFAULT_TEMPERATURE: f32 = 1.0;
/// As many of the likeliest tokens as may be asked for, by OpenAI's word.
const MOST_LOGPROBS: u32 = 5;
const MOST_TOP_LOGPROBS: u32 = 20;
/// As many tokens may have a bias.
const MOST_BIASES: usize = 1024;

/// What both kinds know.
const SHARED: [&str; 25] = [
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    // OpenAI has it for chats; vLLM and llama.cpp take it for texts, too.
    "response_format",
    // vLLM's, which benchmarks send.
    "ignore_eos",
    "return_token_ids",
];
const TEXT_ONLY: [&str; 4] = ["prompt", "best_of", "echo", "suffix"];
const CHAT_ONLY: [&str; 16] = [
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "modalities",
    "audio",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
    "chat_template",
    "chat_template_kwargs",
];

/// What would change the answer, and the only values with which it doesn't.
const NEUTRAL: [(&str, &[&str]); 8] = [
    ("n", &["1"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("parallel_tool_calls", &["true", "false"]),
    ("modalities", &["[\"text\"]"]),
];

/// What a completion continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A text or tokens, as they are.
    Prompt(Prompt),
    /// A conversation, which a template turns into text.
    Messages(Vec<Message>),
}

/// A request that keeps every rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The model that it is meant for, if it says.
    pub model: Option<String>,
    /// What to continue.
    pub input: Input,
    /// What the answer has to be, beside text: JSON that follows this schema.
    pub schema: Option<Value>,
    /// Everything else about the generation; its prompt and its grammar are still to be filled in.
    pub generation: GenerationRequest,
    /// Whether the answer comes in chunks.
    pub stream: bool,
    /// What the answer tells beside its text.
    pub extras: Extras,
}

/// Reads and checks a body.
pub fn parse(body: &[u8], shape: Shape) -> Result<Asked, ApiError> {
    let (required, own): (_, &[&str]) = match shape {
        Shape::Text => ("prompt", &TEXT_ONLY),
        Shape::Chat => ("messages", &CHAT_ONLY),
    };
    let fields = read_body(body, required, &[&SHARED[..], own].concat())?;
    let mut asked = Asked {
        model: None,
        input: Input::Messages(Vec::new()),
        schema: None,
        generation: GenerationRequest {
            max_tokens: 0,
            temperature: DEFAULT_TEMPERATURE,
            ..GenerationRequest::default()
        },
        stream: false,
        extras: Extras::default(),
    };
    let mut has_input = false;
    // Clients send null for what they leave out.
    for (name, value) in fields.iter().filter(|(_, value)| value.get() != "null") {
        has_input |= name == required;
        read_field(&mut asked, &Field { name, value }, shape)?;
    }
    if !has_input {
        return Err(invalid(required, format!("{required} is missing")));
    }
    settle_logprobs(&mut asked)?;
    if asked.generation.max_tokens == 0 {
        asked.generation.max_tokens = match shape {
            Shape::Text => DEFAULT_TEXT_TOKENS,
            Shape::Chat => AS_MANY_AS_FIT,
        };
    }
    Ok(asked)
}

fn read_field(asked: &mut Asked, field: &Field, shape: Shape) -> Result<(), ApiError> {
    let generation = &mut asked.generation;
    match field.name {
        "model" => asked.model = Some(field.not_empty_string()?),
        "prompt" => asked.input = Input::Prompt(prompt(field)?),
        "messages" => asked.input = Input::Messages(messages(field)?),
        "max_tokens" | "max_completion_tokens" => {
            // Beyond any context is beyond this one: the engine refuses it with both lengths.
            let count = field.count()?.min(i32::MAX as u32);
            if generation.max_tokens != 0 && generation.max_tokens != count {
                let other = format!("{count} beside {}", generation.max_tokens);
                return Err(field.refuse(&other, "one number of tokens"));
            }
            generation.max_tokens = count;
        }
        "temperature" => generation.temperature = field.temperature()?,
        "top_p" => generation.top_p = Some(field.top_p()?),
        // llama.cpp and vLLM take these two for "off", and their clients send them.
        "top_k" if ["0", "-1"].contains(&field.value.get()) => {}
        "top_k" => generation.top_k = Some(field.count()?),
        "min_p" => {
            let min_p = field.number("from 0 to 1", |p| (0.0..=1.0).contains(&p))?;
            generation.min_p = (min_p > 0.0).then_some(min_p);
        }
        "repetition_penalty" => {
            let penalty = field.number("above 0, up to 2", |p| p > 0.0 && p <= 2.0)?;
            generation.repetition_penalty = Some(penalty.max(f32::MIN_POSITIVE));
        }
        "presence_penalty" => generation.presence_penalty = penalty(field)?,
        "frequency_penalty" => generation.frequency_penalty = penalty(field)?,
        "logit_bias" => generation.logit_bias = biases(field)?,
        "logprobs" if shape == Shape::Chat => {
            if field.boolean()? {
                asked.extras.logprobs.get_or_insert(0);
            }
        }
        "logprobs" => asked.extras.logprobs = Some(field.up_to(MOST_LOGPROBS)?),
        "top_logprobs" => generation.top_logprobs = field.up_to(MOST_TOP_LOGPROBS)? as usize,
        "response_format" => asked.schema = format::schema(field)?,
        "seed" => generation.seed = Some(field.seed()?),
        "stop" => generation.stop = field.stop_strings()?,
        "stream" => asked.stream = field.boolean()?,
        "stream_options" => usage_asked(field, &mut asked.extras)?,
        "ignore_eos" => generation.ignore_end = field.boolean()?,
        "return_token_ids" => asked.extras.token_ids = field.boolean()?,
        // They name somebody or something, and change nothing.
        "user" | "metadata" | "store" | "service_tier" | "safety_identifier"
        | "prompt_cache_key" => {}
        _ => require_neutral(field)?,
    }
    Ok(())
}

/// The number of the likeliest is told in one field with completions, and in two with chats.
fn settle_logprobs(asked: &mut Asked) -> Result<(), ApiError> {
    let top = &mut asked.generation.top_logprobs;
    match &mut asked.extras.logprobs {
        Some(likeliest) => {
            *likeliest = (*likeliest).max(*top as u32);
            *top = *likeliest as usize;
            Ok(())
        }
        None if *top > 0 => {
            let message = format!("top_logprobs: got {top}, it needs logprobs, which must be true");
            Err(invalid("top_logprobs", message))
        }
        None => Ok(()),
    }
}

fn penalty(field: &Field) -> Result<f32, ApiError> {
    field.number("from -2 to 2", |p| (-2.0..=2.0).contains(&p))
}

/// What is added to the logits of tokens, by their numbers; whether there are such tokens is for the
/// model to know.
fn biases(field: &Field) -> Result<Vec<(u32, f32)>, ApiError> {
    const ALLOWED: &str = "an object of up to 1024 numbers from -100 to 100, by numbers of tokens";
    let members = field.members(ALLOWED)?;
    if members.len() > MOST_BIASES {
        return Err(field.refuse(&format!("{} numbers", members.len()), ALLOWED));
    }
    let mut biases = BTreeMap::new();
    for (name, value) in &members {
        let of_token = format!("logit_bias.{}", shorten(name));
        let bias = Field {
            name: &of_token,
            value,
        };
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let token = is_number.then(|| name.parse::<u32>().ok()).flatten();
        let Some(token) = token else {
            return Err(field.refuse(&format!("the name {}", shorten(name)), ALLOWED));
        };
        let bias = bias.number("from -100 to 100", |b| (-100.0..=100.0).contains(&b))?;
        if biases.insert(token, bias).is_some() {
            return Err(field.refuse(&format!("token {token} twice"), ALLOWED));
        }
    }
    Ok(biases.into_iter().collect())
}

fn require_neutral(field: &Field) -> Result<(), ApiError> {
    let allowed = NEUTRAL
        .iter()
        .find(|(name, _)| *name == field.name)
        .map_or(&[][..], |(_, allowed)| allowed);
    let compact: String = field.value.get().split_whitespace().collect();
    if allowed.contains(&compact.as_str()) {
        return Ok(());
    }
    let name = field.name;
    let got = describe(field.value.get());
    let message = match allowed {
        [] => format!("{name}: this worker doesn't support it"),
        _ => format!(
            "{name}: got {got}, this worker supports {}",
            allowed.join(" and ")
        ),
    };
    Err(ApiError::on_field(ErrorCode::Unsupported, name, message))
}

fn usage_asked(field: &Field, extras: &mut Extras) -> Result<(), ApiError> {
    if !field.value.get().starts_with('{') {
        return Err(field.refuse(&describe(field.value.get()), "an object"));
    }
    let allowed = [
        "include_usage",
        "include_obfuscation",
        "continuous_usage_stats",
    ];
    for (name, value) in read_object(field.value, &allowed)? {
        let is_set = Field { name: &name, value }.boolean()?;
        match name.as_str() {
            "include_usage" => extras.usage = is_set,
            "continuous_usage_stats" => extras.usage_so_far = is_set,
            _ => {}
        }
    }
    // As vLLM has it: the one without the other means nothing.
    extras.usage_so_far &= extras.usage;
    Ok(())
}

/// A text, or the tokens of one; alone in an array is fine, too.
fn prompt(field: &Field) -> Result<Prompt, ApiError> {
    const ALLOWED: &str = "one prompt: a string, not empty, or an array of tokens";
    let raw = field.value.get();
    if !raw.starts_with('[') {
        return Ok(field.not_empty_string()?.into());
    }
    let items = field.items(ALLOWED)?;
    let single = |value| Field {
        name: field.name,
        value,
    };
    match items[..] {
        [] => Err(field.refuse("an empty array", ALLOWED)),
        [text] if text.get().starts_with('"') => Ok(single(text).not_empty_string()?.into()),
        [tokens] if tokens.get().starts_with('[') => {
            tokens_of(field, &single(tokens).items(ALLOWED)?)
        }
        [first, ..] if first.get().starts_with(['"', '[']) => {
            Err(field.refuse(&format!("{} prompts", items.len()), ALLOWED))
        }
        _ => tokens_of(field, &items),
    }
}

fn tokens_of(field: &Field, items: &[&RawValue]) -> Result<Prompt, ApiError> {
    let token = |value: &&RawValue| {
        let name = field.name;
        Field { name, value }.token()
    };
    let tokens = items.iter().map(token).collect::<Result<Vec<_>, _>>()?;
    match tokens.is_empty() {
        true => Err(field.refuse("an empty array", "at least one token")),
        false => Ok(Prompt::Tokens(tokens)),
    }
}

#[cfg(test)]
mod tests;
