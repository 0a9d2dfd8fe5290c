//! How a protocol of inference servers spells what they are asked and what they say. Pure.
//!
//! Everything above this floor asks a [`Dialect`] for a request or for the meaning of an answer, and
//! for a [`Promise`] where protocols differ; nobody above it knows a path or a field's name. Reading
//! is strict: what the protocol promises and an answer lacks is a [`Mismatch`]. Nothing here is
//! shared with the worker, so that a mistake on one side can't hide the same mistake on the other.

mod bad;
mod bodies;
mod by_hand;
mod fields;
mod generation;
mod native;
mod openai;
mod post;
mod protocol;

pub use self::by_hand::ByHand;
pub use self::generation::InferenceRequest;
pub use self::openai::ApiKey;
pub use self::protocol::{
    BadInput, BadRequest, BeatState, Dialect, GoodInput, Health, HeartbeatPayload, Promise,
    Readiness, Reason, Refusal,
};
use crate::tasks::worker::config::target::ProfileName;
use crate::tasks::worker::net::client::{Request, Response};
pub use crate::tasks::worker::net::stream::{Completion, FinishReason};
use crate::tasks::worker::record::event::Mismatch;

/// The contract of this repository's worker: CONTRACT.md.
pub fn native() -> &'static dyn Dialect {
    &native::Native
}

/// Asks such a server for its models.
pub fn openai_models(api_key: Option<&ApiKey>) -> Request {
    openai::OpenAi::new(ProfileName::Openai, "", api_key).models_request()
}

/// The name of the first of them; why it isn't told to those who have this key, if that is why.
pub fn read_first_model(
    response: &Response,
    api_key: Option<&ApiKey>,
) -> Result<Result<String, Mismatch>, String> {
    let asked = openai::OpenAi::new(ProfileName::Openai, "", api_key);
    match asked.shut_out(response) {
        Some(reason) => Err(reason),
        None => Ok(openai::read_models(response)),
    }
}

/// OpenAI's protocol, to servers of this kind that know the model by this name and want this key.
///
/// A run has one, which lives as long as the process.
pub fn openai(profile: ProfileName, model: &str, api_key: Option<&ApiKey>) -> &'static dyn Dialect {
    Box::leak(Box::new(openai::OpenAi::new(profile, model, api_key)))
}
