//! OpenAI's protocol as its reference documents it, spoken by most inference servers: `/v1/models`,
//! `/v1/completions`, `/v1/chat/completions`, their streams and their errors; and `/health`, which isn't
//! OpenAI's and which nearly all of these servers have.
//!
//! Where a server differs by its own documentation, its [`Profile`] names that with the reason.

mod answer;
mod bad;
mod paths;
mod profile;
mod refusal;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

pub use self::answer::read_models;
use self::paths::{CHAT, COMPLETIONS, HEALTH, MODELS};
pub use self::profile::{Difference, Profile};
use super::bodies;
use super::generation::InferenceRequest;
use super::post::Post;
use super::protocol::{
    BadInput, BadRequest, Dialect, GoodInput, Health, HeartbeatPayload, Promise, Readiness, Reason,
    Refusal, expect_status,
};
use crate::tasks::worker::config::target::ProfileName;
use crate::tasks::worker::net::client::{Request, Response};
use crate::tasks::worker::net::stream::{Completion, StreamDecoder, StreamSpelling};
use crate::tasks::worker::record::event::{Heartbeat, Mismatch};
use crate::tasks::worker::record::facts::Phases;

/// The key that a server's clients need.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The environment variable that holds it, which is all that is ever told of it.
    pub variable: String,
    /// The key.
    pub value: String,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({})", self.variable)
    }
}

/// Speaks as OpenAI's clients do.
#[derive(Debug)]
pub struct OpenAi {
    /// What requests call the model.
    model: String,
    api_key: Option<ApiKey>,
    profile: &'static Profile,
    /// A server that answers 404 once has no `/health`: then `/v1/models` says the same.
    lacks_health: AtomicBool,
}

impl OpenAi {
    /// To a server of this kind, which knows the model by this name and wants this key.
    pub fn new(profile: ProfileName, model: &str, api_key: Option<&ApiKey>) -> Self {
        Self {
            model: model.to_owned(),
            api_key: api_key.cloned(),
            profile: Profile::of(profile),
            lacks_health: AtomicBool::new(false),
        }
    }

    /// Asks which models there are.
    pub fn models_request(&self) -> Request {
        self.get(MODELS)
    }

    fn authorization(&self) -> Option<String> {
        let key = self.api_key.as_ref()?;
        Some(format!("Bearer {}", key.value))
    }

    fn get(&self, path: &str) -> Request {
        Request {
            method: "GET",
            path: path.to_owned(),
            authorization: self.authorization(),
            body: None,
        }
    }

    fn body(&self, asked: &InferenceRequest, stream: bool) -> Value {
        let mut body = Map::new();
        body.insert("model".into(), json!(self.model));
        match asked.as_chat {
            true => {
                let message = json!({"role": "user", "content": asked.prompt});
                body.insert("messages".into(), json!([message]));
            }
            false => drop(body.insert("prompt".into(), json!(asked.prompt))),
        }
        let options = [
            ("max_tokens", asked.max_tokens.map(|value| json!(value))),
            ("temperature", asked.temperature.map(|value| json!(value))),
            ("seed", asked.seed.map(|value| json!(value))),
            ("top_p", asked.top_p.map(|value| json!(value))),
            ("top_k", asked.top_k.map(|value| json!(value))),
        ];
        let given = options
            .into_iter()
            .filter_map(|(name, value)| Some((String::from(name), value?)));
        body.extend(given);
        if let Some(stop) = asked.stop_value() {
            body.insert("stop".into(), stop);
        }
        if stream {
            body.insert("stream".into(), json!(true));
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
        Value::Object(body)
    }

    /// How requests begin that no library would send.
    fn post(&self) -> Post {
        Post {
            path: COMPLETIONS,
            authorization: self.authorization(),
        }
    }
}

impl Dialect for OpenAi {
    fn promises(&self, promise: Promise) -> bool {
        match promise {
            Promise::Chat | Promise::Loopback | Promise::OwnProcess => true,
            Promise::SameText => !self.profile.has(Difference::TextVaries),
            Promise::StreamUsage => !self.profile.has(Difference::NoUsageInStreams),
            Promise::Refusal(kind) => !self.bad_requests(kind).is_empty(),
            Promise::CommandLine
            | Promise::Heartbeats
            | Promise::Stages
            | Promise::Logs
            | Promise::EarlyPort
            | Promise::Defaults
            | Promise::TopK
            | Promise::EventPerToken
            | Promise::IdleConnections
            | Promise::Timings
            | Promise::ExactIntegers
            | Promise::NamedErrors
            | Promise::ExitStatus => false,
        }
    }

    fn differences(&self) -> Vec<String> {
        self.profile.told()
    }

    fn health_request(&self) -> Request {
        let has_health = !self.lacks_health.load(Ordering::Relaxed);
        self.get(if has_health { HEALTH } else { MODELS })
    }

    fn ready_request(&self) -> Request {
        self.health_request()
    }

    /// Many servers tell their health, and which models they have, without a key: only an inference asks
    /// for it, and before it looks at the body.
    fn knock(&self) -> Option<Request> {
        Some(Request {
            method: "POST",
            path: COMPLETIONS.to_owned(),
            authorization: self.authorization(),
            body: Some(("application/json", b"{}".to_vec())),
        })
    }

    fn shut_out(&self, response: &Response) -> Option<String> {
        let said = match response.status {
            401 | 403 => refusal::in_short(&response.body),
            _ => return None,
        };
        let (what, next) = match &self.api_key {
            Some(ApiKey { variable, .. }) => (
                format!("refuses the key in {variable} (--api-key-env)"),
                format!("put the server's own key into {variable}"),
            ),
            None => (
                String::from("asks for an API key"),
                String::from("--api-key-env NAME, with the key in the variable NAME"),
            ),
        };
        let (request, status) = (&response.request, response.status);
        Some(format!(
            "the server {what}: {request} was answered with {status}{said}\n  try: {next}"
        ))
    }

    fn inference_request(&self, request: &InferenceRequest, stream: bool) -> Request {
        let body = self.body(request, stream).to_string().into_bytes();
        Request {
            method: "POST",
            path: String::from(if request.as_chat { CHAT } else { COMPLETIONS }),
            authorization: self.authorization(),
            body: Some(("application/json", body)),
        }
    }

    /// What a body says here is each server's own matter.
    fn read_health(&self, response: &Response) -> Result<Health, Mismatch> {
        let status = match self.read_ready(response)? {
            Readiness::Ready => "healthy",
            Readiness::NotReady(_) => "loading",
        };
        Ok(Health {
            status: status.to_owned(),
            model_loaded: status == "healthy",
            worker_id: None,
        })
    }

    fn read_ready(&self, response: &Response) -> Result<Readiness, Mismatch> {
        if response.status == 404 && response.request.ends_with(HEALTH) {
            self.lacks_health.store(true, Ordering::Relaxed);
            return Ok(Readiness::NotReady(format!("there is no {HEALTH}")));
        }
        expect_status(response, &[200, 503])?;
        if response.status == 503 {
            return Ok(Readiness::NotReady(String::from("loading")));
        }
        if response.request.ends_with(MODELS) {
            answer::read_models(response)?;
        }
        Ok(Readiness::Ready)
    }

    fn read_completion(&self, response: &Response) -> Result<Completion, Mismatch> {
        answer::read(response)
    }

    fn read_phases(&self, _: &Value) -> Option<Phases> {
        None
    }

    fn read_refusal(&self, response: &Response, reason: Reason) -> Result<Refusal, Mismatch> {
        refusal::read(response, reason)
    }

    fn read_error(&self, response: &Response) -> Result<Refusal, Mismatch> {
        refusal::read_error(response)
    }

    fn read_heartbeat(&self, request: &Heartbeat) -> Result<HeartbeatPayload, Mismatch> {
        let place = format!("request #{} to the hive", request.number);
        let got = format!("{} {}", request.method, request.path);
        Err(Mismatch::new(place, "none: the protocol has none", got))
    }

    fn bad_requests(&self, kind: BadInput) -> Vec<BadRequest> {
        bad::requests(&self.post(), self.profile, kind)
    }

    fn good_requests(&self, kind: GoodInput) -> Vec<(String, Vec<u8>)> {
        bad::requests_to_take(&self.post(), kind)
    }

    fn broken_framing(&self) -> Vec<(&'static str, Vec<u8>)> {
        bodies::framing(&self.post())
    }

    fn half_a_request(&self) -> Vec<u8> {
        bodies::half_a_request(&self.post())
    }
}

impl StreamSpelling for OpenAi {
    fn decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream::OpenAiDecoder::new(
            self.promises(Promise::StreamUsage),
        ))
    }

    fn has_event_per_token(&self) -> bool {
        false
    }

    fn error_in_short(&self, body: &[u8]) -> String {
        refusal::in_short(body)
    }
}
