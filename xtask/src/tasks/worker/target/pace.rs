//! How fast a worker is, and requests of a known length: what scales checks to fast and slow models.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::auxiliary::AuxiliaryWorker;
use super::dialect::{Completion, FinishReason, InferenceRequest, Reason};
pub use super::known::{KnownRequest, Pace};
use super::subject::Subject;
use crate::tasks::worker::record::event::Mismatch;

/// The longest wait for one answer while a worker's pace isn't known yet.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(60);

/// Tokens of the short request.
const GOLDEN_TOKENS: u32 = 16;

/// How long the long request should take, where the context has room for it.
const LONG_S: f64 = 4.0;

/// More tokens than this are never asked for at once.
const MOST_TOKENS: u32 = 4096;

impl Subject<'_> {
    /// How fast workers like this one are: measured once, on a auxiliary that has nothing else to do.
    pub fn pace(&self, auxiliary: &AuxiliaryWorker) -> Result<&Pace> {
        if let Some(pace) = self.known_pace.get() {
            return Ok(pace);
        }
        let pace = Pace::measure(auxiliary)?;
        Ok(self.known_pace.get_or_init(|| pace))
    }
}

impl Pace {
    /// Asks a worker that has nothing else to do. Fails where it doesn't answer as promised.
    pub fn measure(auxiliary: &AuxiliaryWorker) -> Result<Pace> {
        let request = InferenceRequest::greedy("Once upon a time", GOLDEN_TOKENS);
        // The first request may pay for what is made ready only once.
        ask_alone(auxiliary, &request)?;
        let Some((golden, _)) = ask_alone(auxiliary, &request)? else {
            let expected = format!("an answer of {GOLDEN_TOKENS} tokens");
            return Err(Mismatch::new("a short request", expected, "a refusal").into());
        };
        let mut long = golden.clone();
        for request in endless_requests() {
            let (known, finish_reason) = ask_for_long(auxiliary, request, &golden)?;
            if known.tokens > long.tokens {
                long = known;
            }
            if finish_reason == FinishReason::Length {
                break;
            }
        }
        Ok(Pace { golden, long })
    }
}

/// Requests whose answers go on and on with one model or another, the most repeatable first.
fn endless_requests() -> impl Iterator<Item = InferenceRequest> {
    let greedy = ["Once upon a time", "1, 2, 3, 4, 5, 6,", "a b a b a b a b"];
    let greedy = greedy.map(|prompt| InferenceRequest::greedy(prompt, MOST_TOKENS));
    let hot = (1..=3).map(|seed| InferenceRequest {
        temperature: Some(2.0),
        seed: Some(seed),
        ..InferenceRequest::greedy("Once upon a time", MOST_TOKENS)
    });
    greedy.into_iter().chain(hot)
}

/// Asks for so many tokens that the answer takes long, or for as many as the context has room for.
fn ask_for_long(
    auxiliary: &AuxiliaryWorker,
    mut request: InferenceRequest,
    golden: &KnownRequest,
) -> Result<(KnownRequest, FinishReason)> {
    let enough = |rate: f64| (rate * LONG_S).clamp(GOLDEN_TOKENS.into(), MOST_TOKENS.into()) as u32;
    let mut tokens = enough(golden.tokens_per_s());
    let mut context_is_full = false;
    loop {
        request.max_tokens = Some(tokens);
        match ask_alone(auxiliary, &request)? {
            Some((known, completion)) => {
                // A short request says little about the rate, least of all on a busy machine.
                let more = enough(known.tokens_per_s());
                let is_short = known.took.as_secs_f64() < LONG_S / 2.0 && more > tokens;
                let goes_on = completion.finish_reason == FinishReason::Length;
                if context_is_full || !is_short || !goes_on {
                    return Ok((known, completion.finish_reason));
                }
                tokens = more;
            }
            None if tokens <= GOLDEN_TOKENS => {
                let expected = format!("an answer of {tokens} tokens");
                return Err(Mismatch::new("a request", expected, "a refusal").into());
            }
            None => {
                context_is_full = true;
                tokens = (tokens * 3 / 4).max(GOLDEN_TOKENS);
            }
        }
    }
}

/// One answer with its time; `None` where the worker says that the context lacks the room.
fn ask_alone(
    auxiliary: &AuxiliaryWorker,
    request: &InferenceRequest,
) -> Result<Option<(KnownRequest, Completion)>> {
    let sent = Instant::now();
    let dialect = auxiliary.dialect();
    let asked = dialect.inference_request(request, false);
    let response = auxiliary.ask(&asked, UNKNOWN_LIMIT)?;
    if dialect
        .read_refusal(&response, Reason::ContextExceeded)
        .is_ok()
    {
        return Ok(None);
    }
    let completion = dialect.read_completion(&response)?;
    let known = KnownRequest {
        request: request.clone(),
        text: completion.text.clone().unwrap_or_default(),
        tokens: completion.tokens()?,
        took: sent.elapsed(),
    };
    Ok(Some((known, completion)))
}
