//! Where these servers are asked.

pub const HEALTH: &str = "/health";
pub const MODELS: &str = "/v1/models";
pub const COMPLETIONS: &str = "/v1/completions";
pub const CHAT: &str = "/v1/chat/completions";
