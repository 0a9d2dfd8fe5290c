//! OpenAI's request bodies as a [`GenerationRequest`]. A field that would change the answer is
//! applied or refused by name; its neutral value is fine. Pure.

use serde_json::value::RawValue;

use super::Shape;
use super::answer::Extras;
use crate::api::fields::{Field, describe, invalid, read_body, read_object};
use crate::chat_template::Message;
use crate::engine::{GenerationRequest, Prompt};
use crate::error::{ApiError, ErrorCode};
use crate::routes::generation::AS_MANY_AS_FIT;

/// What is generated for a text when the client names no number, by OpenAI's word.
const DEFAULT_TEXT_TOKENS: u32 = 16;
const DEFAULT_TEMPERATURE: f32 = 1.0;

/// What both kinds know.
const SHARED: [&str; 24] = [
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
    // vLLM's, which benchmarks send.
    "ignore_eos",
    "return_token_ids",
];
const TEXT_ONLY: [&str; 4] = ["prompt", "best_of", "echo", "suffix"];
const CHAT_ONLY: [&str; 17] = [
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "response_format",
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
const NEUTRAL: [(&str, &[&str]); 14] = [
    ("n", &["1"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("presence_penalty", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("logit_bias", &["{}"]),
    ("logprobs", &["false"]),
    ("top_logprobs", &["0"]),
    ("response_format", &["{\"type\":\"text\"}"]),
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
    /// Everything else about the generation; its prompt is still to be filled in.
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
        read_field(&mut asked, &Field { name, value })?;
    }
    if !has_input {
        return Err(invalid(required, format!("{required} is missing")));
    }
    if asked.generation.max_tokens == 0 {
        asked.generation.max_tokens = match shape {
            Shape::Text => DEFAULT_TEXT_TOKENS,
            Shape::Chat => AS_MANY_AS_FIT,
        };
    }
    Ok(asked)
}

fn read_field(asked: &mut Asked, field: &Field) -> Result<(), ApiError> {
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

fn messages(field: &Field) -> Result<Vec<Message>, ApiError> {
    const ALLOWED: &str = "an array of messages, not empty";
    let items = field.items(ALLOWED)?;
    if items.is_empty() {
        return Err(field.refuse("an empty array", ALLOWED));
    }
    let read = |(at, item): (usize, &&RawValue)| message(&format!("messages[{at}]"), item);
    items.iter().enumerate().map(read).collect()
}

fn message(place: &str, value: &RawValue) -> Result<Message, ApiError> {
    let whole = Field { name: place, value };
    if !value.get().starts_with('{') {
        return Err(whole.refuse(&describe(value.get()), "an object with role and content"));
    }
    let fields = read_object(
        value,
        &["role", "content", "refusal", "tool_calls", "audio"],
    )?;
    let mut message = Message {
        role: String::new(),
        content: String::new(),
    };
    let mut has_content = false;
    for (name, value) in fields.iter().filter(|(_, value)| value.get() != "null") {
        let place = format!("{place}.{name}");
        let field = Field {
            name: &place,
            value,
        };
        match name.as_str() {
            "role" => message.role = role(&field)?,
            "content" => {
                message.content = content(&field)?;
                has_content = true;
            }
            _ => {
                let said = format!("{place}: this worker doesn't support it");
                return Err(ApiError::on_field(ErrorCode::Unsupported, place, said));
            }
        }
    }
    match has_content && !message.role.is_empty() {
        true => Ok(message),
        false => Err(whole.refuse("a message without them", "an object with role and content")),
    }
}

fn role(field: &Field) -> Result<String, ApiError> {
    let role = field.string()?;
    match role.as_str() {
        // A new name for the same thing, which no template knows.
        "developer" => Ok("system".to_owned()),
        "system" | "user" | "assistant" => Ok(role),
        _ => Err(field.refuse(
            &describe(field.value.get()),
            "system, developer, user or assistant",
        )),
    }
}

/// A text, or parts that are texts.
fn content(field: &Field) -> Result<String, ApiError> {
    const ALLOWED: &str = "a string or an array of parts of type text";
    if !field.value.get().starts_with('[') {
        return field.string_from(field.value.get(), ALLOWED);
    }
    let mut whole = String::new();
    for part in field.items(ALLOWED)? {
        if !part.get().starts_with('{') {
            return Err(field.refuse(&describe(part.get()), ALLOWED));
        }
        let name = format!("{}[].type", field.name);
        let fields = read_object(part, &["type", "text", "image_url", "input_audio", "file"])?;
        let of = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| *value)
        };
        match (of("type"), of("text")) {
            (Some(kind), Some(text)) if kind.get() == "\"text\"" => {
                whole.push_str(&field.string_from(text.get(), ALLOWED)?);
            }
            (kind, _) => {
                let got = kind.map_or("none".to_owned(), |kind| describe(kind.get()));
                let said = format!("{name}: got {got}, this worker supports text");
                return Err(ApiError::on_field(ErrorCode::Unsupported, name, said));
            }
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
