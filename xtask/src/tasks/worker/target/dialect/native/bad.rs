//! The catalog of requests that the contract refuses, and of those at the edge that it takes.

mod bodies;
mod fields;
mod http;
mod order;
mod post;

pub use self::bodies::framing;
pub use self::post::POST;
use crate::tasks::worker::target::dialect::protocol::{BadInput, BadRequest, GoodInput};

/// Requests that have to be refused.
pub fn requests(kind: BadInput) -> Vec<BadRequest> {
    match kind {
        BadInput::Malformed => bodies::malformed(),
        BadInput::MediaType => bodies::media_types(),
        BadInput::TooLarge => bodies::too_large(),
        BadInput::Absurd => bodies::absurd(),
        BadInput::Field => fields::invalid(),
        BadInput::BeyondContext => fields::beyond_context(),
        BadInput::UnknownPath => http::unknown_paths(),
        BadInput::WrongMethod => http::wrong_methods(),
        BadInput::ForeignHost => http::foreign_hosts(),
        BadInput::Order => order::pairs(),
    }
}

/// Requests at the edge that have to be taken.
pub fn requests_to_take(kind: GoodInput) -> Vec<(String, Vec<u8>)> {
    match kind {
        GoodInput::Field => fields::to_take(),
        GoodInput::Body => bodies::to_take(),
        GoodInput::Spelling => fields::spellings(),
    }
}
