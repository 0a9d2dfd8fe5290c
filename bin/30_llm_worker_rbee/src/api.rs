//! The body of an inference request: bytes in, a validated request or a refusal out. Pure.
//!
//! Read by hand and not by a derived deserialiser, because a derived one takes the last of two
//! equal fields, rounds large numbers, and names types in Rust's words and not in JSON's.

use crate::engine::GenerationRequest;
use crate::error::ApiError;

pub(crate) mod fields;
mod number;

use fields::{Field, invalid, read_body};

/// What is generated when the client names no number.
pub const DEFAULT_MAX_TOKENS: u32 = 128;
/// The temperature when the client names none.
pub const DEFAULT_TEMPERATURE: f32 = 0.7;
/// As many stop strings as a request may carry.
pub const MAX_STOP_STRINGS: usize = 16;

/// Every field that a request may carry; any other is refused.
const FIELDS: [&str; 8] = [
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "stream",
];

/// A request that keeps every rule of the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceRequest {
    /// What the engine needs to know.
    pub generation: GenerationRequest,
    /// Whether tokens go out as they are made.
    pub stream: bool,
}

/// Reads and checks a body.
pub fn parse_inference_request(body: &[u8]) -> Result<InferenceRequest, ApiError> {
    let fields = read_body(body, "prompt", &FIELDS)?;
    let mut request = InferenceRequest {
        generation: GenerationRequest {
            max_tokens: DEFAULT_MAX_TOKENS,
            temperature: DEFAULT_TEMPERATURE,
            ..GenerationRequest::default()
        },
        stream: false,
    };
    let generation = &mut request.generation;
    let mut has_prompt = false;
    for (name, value) in &fields {
        let field = Field { name, value };
        match name.as_str() {
            "prompt" => {
                generation.prompt = field.not_empty_string()?.into();
                has_prompt = true;
            }
            // Beyond any context is beyond this one: the engine refuses it with both lengths.
            "max_tokens" => generation.max_tokens = field.count()?.min(i32::MAX as u32),
            "temperature" => generation.temperature = field.temperature()?,
            "top_p" => generation.top_p = Some(field.top_p()?),
            "top_k" => generation.top_k = Some(field.count()?),
            "seed" => generation.seed = Some(field.seed()?),
            "stop" => generation.stop = field.stop_strings()?,
            "stream" => request.stream = field.boolean()?,
            // `read_body` let nothing else through.
            _ => {}
        }
    }
    if !has_prompt {
        return Err(invalid(
            "prompt",
            "prompt is missing: a string, not empty, is required",
        ));
    }
    Ok(request)
}

#[cfg(test)]
mod tests;
