//! What a worker answers when nothing disturbs it, and how long that takes: the texts that later answers
//! are held against, and the pace that scales requests and waits to fast and slow models.

use std::time::Duration;

use anyhow::Result;

use super::dialect::{Completion, FinishReason, InferenceRequest, Promise, Reason};
use super::worker::WorkerHandle;
use crate::tasks::worker::record::event::Mismatch;

/// A request may take so many times as long as an undisturbed one, on a busy machine,
const SLACK_FACTOR: f64 = 15.0;

/// and this much longer for what doesn't scale with the model.
const SLACK_S: f64 = 10.0;

/// The longest wait for an answer while a worker's pace isn't known.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(120);

/// Tokens of the worker under test's own reference,
const TOKENS: u32 = 24;

/// which is long enough to be cut and searched with so many pieces,
const LONG_ENOUGH: usize = 10;

/// and of its short one, which is asked for again and again.
const SHORT_TOKENS: u32 = 4;

/// What follows the user's prompt where its answer is too short. All in ASCII.
const PROMPTS: [&str; 3] = [
    "Once upon a time",
    "The capital of France is",
    "1, 2, 3, 4, 5,",
];

/// Tokens of an auxiliary worker's short reference.
const ALONE_TOKENS: u32 = 16;

/// How long its long one should take, where the context has room for it.
const LONG_S: f64 = 4.0;

/// More tokens than this are never asked for at once.
const MOST_TOKENS: u32 = 4096;

/// A request whose answer is known.
#[derive(Debug, Clone)]
pub struct Reference {
    /// What is asked.
    pub request: InferenceRequest,
    /// What every worker with this model answers.
    pub text: String,
    /// The same in the pieces in which it was streamed; none where it came as a whole.
    pub pieces: Vec<String>,
    /// What the end of the answer said.
    pub completion: Completion,
    /// How many tokens it has.
    pub tokens: u64,
    /// How long it took a worker that had nothing else to do.
    pub took: Duration,
    /// Whether later answers have to say the same.
    is_binding: bool,
}

/// A long and a short one.
#[derive(Debug, Clone)]
pub struct References {
    /// The one to go by.
    pub long: Reference,
    /// A quick one, to be asked again and again.
    pub short: Reference,
}

impl References {
    /// Those of the worker under test. Asks until an answer is long enough, or else takes the longest.
    pub fn of_first(worker: &WorkerHandle, prompt: &str) -> Result<Self> {
        let request = InferenceRequest::greedy(prompt, TOKENS);
        let mut long = Reference::streamed(worker, request, UNKNOWN_LIMIT)?;
        for prompt in PROMPTS {
            if long.pieces.len() >= LONG_ENOUGH {
                break;
            }
            let request = InferenceRequest::greedy(prompt, TOKENS);
            let other = Reference::streamed(worker, request, UNKNOWN_LIMIT)?;
            if other.pieces.len() > long.pieces.len() {
                long = other;
            }
        }
        let request = InferenceRequest::greedy(&long.request.prompt, SHORT_TOKENS);
        let short = Reference::whole(worker, request, UNKNOWN_LIMIT)?;
        Ok(Self { long, short })
    }

    /// Those of a worker that has nothing else to do: the long one keeps it busy for about four
    /// seconds, or as long as its context allows. Fails where it doesn't answer as promised.
    pub fn of_idle(worker: &WorkerHandle) -> Result<Self> {
        let request = InferenceRequest::greedy("Once upon a time", ALONE_TOKENS);
        // The first request may pay for what is made ready only once.
        Reference::where_it_fits(worker, &request)?;
        let Some(short) = Reference::where_it_fits(worker, &request)? else {
            let expected = format!("an answer of {ALONE_TOKENS} tokens");
            return Err(Mismatch::new("a short request", expected, "a refusal").into());
        };
        let mut long = short.clone();
        for request in endless_requests() {
            let known = ask_for_long(worker, request, &short)?;
            let goes_on = known.goes_on();
            if known.tokens > long.tokens {
                long = known;
            }
            if goes_on {
                break;
            }
        }
        Ok(Self { long, short })
    }
}

impl Reference {
    /// Asks for a whole answer.
    pub fn whole(
        worker: &WorkerHandle,
        request: InferenceRequest,
        limit: Duration,
    ) -> Result<Self> {
        let (completion, took) = worker.infer_timed(&request, limit)?;
        Ok(Self::of_completion(worker, request, completion, took))
    }

    /// One answer with its time; `None` where the worker says that the context lacks the room.
    pub fn where_it_fits(
        worker: &WorkerHandle,
        request: &InferenceRequest,
    ) -> Result<Option<Self>> {
        let dialect = worker.dialect();
        let asked = dialect.inference_request(request, false);
        let response = worker.ask_good(&asked, UNKNOWN_LIMIT)?;
        let refused = dialect.read_refusal(&response, Reason::ContextExceeded);
        if refused.is_ok() {
            return Ok(None);
        }
        let took = response.received - response.sent;
        let completion = dialect.read_completion(&response)?;
        completion.tokens()?;
        let known = Self::of_completion(worker, request.clone(), completion, took);
        Ok(Some(known))
    }

    fn of_completion(
        worker: &WorkerHandle,
        request: InferenceRequest,
        completion: Completion,
        took: Duration,
    ) -> Self {
        Self {
            text: completion.text.clone().unwrap_or_default(),
            pieces: Vec::new(),
            tokens: completion.tokens.unwrap_or_default(),
            completion,
            took,
            request,
            is_binding: worker.dialect().promises(Promise::SameText),
        }
    }

    fn streamed(worker: &WorkerHandle, request: InferenceRequest, limit: Duration) -> Result<Self> {
        let answer = worker.infer_streamed_within(&request, limit)?;
        Ok(Self {
            text: answer.text(),
            tokens: answer.tokens(),
            took: answer.ended - answer.sent,
            pieces: answer.pieces.into_iter().map(|piece| piece.text).collect(),
            completion: answer.completion,
            request,
            is_binding: worker.dialect().promises(Promise::SameText),
        })
    }

    /// Whether only its limit has ended it.
    fn goes_on(&self) -> bool {
        self.completion.finish_reason == FinishReason::Length
    }

    /// How long one token takes, prompt and all.
    pub fn token_s(&self) -> f64 {
        self.took.as_secs_f64().max(1e-4) / self.tokens.max(1) as f64
    }

    /// The longest wait for its answer beside `others` of its kind.
    pub fn limit(&self, others: u32) -> Duration {
        self.limit_of(0, others)
    }

    /// The longest wait for an answer of so many tokens beside `others` of its kind.
    pub fn limit_of(&self, tokens: u32, others: u32) -> Duration {
        let alone_s = self
            .took
            .as_secs_f64()
            .max(self.token_s() * f64::from(tokens));
        Duration::from_secs_f64(SLACK_S + SLACK_FACTOR * alone_s * f64::from(others + 1))
    }

    /// The longest that it may take when nothing holds it up.
    pub fn limit_alone(&self) -> Duration {
        self.took * 5 + Duration::from_millis(1500)
    }

    /// How many tokens take about this long, within bounds.
    pub fn tokens_in(&self, time: Duration, least: u32, most: u32) -> u32 {
        let tokens = time.as_secs_f64() / self.token_s();
        (tokens.min(f64::from(most)) as u32).clamp(least, most)
    }

    /// The same request, cut so that it takes about this long.
    pub fn lasting(&self, time: Duration) -> InferenceRequest {
        let most = (self.tokens as u32).max(2);
        InferenceRequest {
            max_tokens: Some(self.tokens_in(time, 2, most)),
            ..self.request.clone()
        }
    }

    /// Whether any text will do.
    fn is_excused(&self, got: &str) -> bool {
        !self.is_binding && !got.is_empty()
    }

    /// Fails with a [`Mismatch`] unless this is the text.
    pub fn expect(&self, place: &str, got: &str) -> Result<(), Mismatch> {
        if got == self.text || self.is_excused(got) {
            return Ok(());
        }
        let expected = format!("the same text as before, `{}`", self.text);
        Err(Mismatch::new(place, expected, format!("`{got}`")))
    }

    /// Fails with a [`Mismatch`] unless this is the beginning of the text.
    pub fn expect_beginning(&self, place: &str, got: &str) -> Result<(), Mismatch> {
        // Where a character is cut by the last token, what stands for it isn't in the longer text.
        let whole = got.trim_end_matches('\u{fffd}');
        if self.is_excused(got) || (!whole.is_empty() && self.text.starts_with(whole)) {
            return Ok(());
        }
        let expected = format!("the beginning of `{}`", self.text);
        Err(Mismatch::new(place, expected, format!("`{got}`")))
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
    worker: &WorkerHandle,
    mut request: InferenceRequest,
    short: &Reference,
) -> Result<Reference> {
    let long = Duration::from_secs_f64(LONG_S);
    let enough = |known: &Reference| known.tokens_in(long, ALONE_TOKENS, MOST_TOKENS);
    let mut tokens = enough(short);
    let mut context_is_full = false;
    loop {
        request.max_tokens = Some(tokens);
        match Reference::where_it_fits(worker, &request)? {
            Some(known) => {
                // A short request says little about the rate, least of all on a busy machine.
                let more = enough(&known);
                let is_short = known.took.as_secs_f64() < LONG_S / 2.0 && more > tokens;
                // One that is cut without a word has filled the context.
                let is_cut = known.goes_on() && known.tokens < u64::from(tokens);
                if context_is_full || is_cut || !is_short || !known.goes_on() {
                    return Ok(known);
                }
                tokens = more;
            }
            None if tokens <= ALONE_TOKENS => {
                let expected = format!("an answer of {tokens} tokens");
                return Err(Mismatch::new("a request", expected, "a refusal").into());
            }
            None => {
                context_is_full = true;
                tokens = (tokens * 3 / 4).max(ALONE_TOKENS);
            }
        }
    }
}
