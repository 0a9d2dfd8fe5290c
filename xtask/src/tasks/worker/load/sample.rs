//! One request of a load, taken apart: what measures are computed from.

use std::time::{Duration, Instant};

use super::generator::Turn;
use crate::tasks::worker::net::recording::Recording;
use crate::tasks::worker::net::stream::{Piece, StreamError, StreamSpelling};
use crate::tasks::worker::record::bench::RequestOutcome;

/// One request of a load.
#[derive(Debug, Clone)]
pub struct RequestSample {
    /// Which stream sent it; the arrival's number in an open loop.
    pub stream: u32,
    /// The intended start; only in an open loop.
    pub scheduled: Option<Instant>,
    /// t0: just before its first byte was written.
    pub sent: Instant,
    /// Each read that brought tokens: its time since t0, and how many tokens.
    pub chunks: Vec<(Duration, u32)>,
    /// Whether that is known of each, and not only of all together.
    pub knows_chunks: bool,
    /// From t0 to the terminal event, or to the failure.
    pub took: Duration,
    /// The text of all tokens.
    pub text: String,
    /// Tokens in the prompt, as the worker counts them; 0 where it doesn't say.
    pub prompt_tokens: u64,
    /// How long it waited for its turn, as the worker says, in milliseconds.
    pub queue_ms: Option<f64>,
    /// What became of it.
    pub outcome: RequestOutcome,
}

impl RequestSample {
    /// Takes a recording apart, by the rules of streams. `name` says what was asked.
    pub fn of(
        recording: &Recording,
        turn: Turn,
        name: &str,
        spelling: &dyn StreamSpelling,
    ) -> Self {
        let reader = recording.reader(name, spelling);
        let mut sample = Self {
            stream: turn.stream,
            scheduled: turn.scheduled,
            sent: recording.sent,
            chunks: chunks(reader.pieces(), recording.sent),
            knows_chunks: true,
            took: recording.over - recording.sent,
            text: String::new(),
            prompt_tokens: 0,
            queue_ms: None,
            outcome: RequestOutcome::Valid,
        };
        match reader.finish(recording.broken()) {
            Ok(answer) => {
                sample.took = answer.ended - answer.sent;
                sample.text = answer.text();
                sample.prompt_tokens = answer.completion.prompt_tokens.unwrap_or_default();
                sample.queue_ms = answer.completion.phases.map(|phases| phases.queue_ms);
                sample.knows_chunks = answer.has_piece_per_token();
                if !sample.knows_chunks {
                    spread(
                        &mut sample.chunks,
                        answer.completion.tokens.unwrap_or_default(),
                    );
                }
            }
            Err(error) => sample.outcome = outcome(error),
        }
        sample
    }

    /// Tokens that came.
    pub fn tokens(&self) -> u64 {
        let tokens = self.chunks.iter().map(|(_, tokens)| u64::from(*tokens));
        tokens.sum()
    }
}

/// Gives so many tokens to chunks, to each as its number of pieces has it.
fn spread(chunks: &mut [(Duration, u32)], tokens: u64) {
    let pieces: u64 = chunks.iter().map(|(_, pieces)| u64::from(*pieces)).sum();
    let (mut seen, mut given) = (0, 0);
    for (_, count) in chunks {
        seen += u64::from(*count);
        let due = tokens * seen / pieces.max(1);
        *count = (due - given) as u32;
        given = due;
    }
}

/// Each read that brought text, with the number of its pieces.
fn chunks(pieces: &[Piece], sent: Instant) -> Vec<(Duration, u32)> {
    let mut chunks: Vec<(Duration, u32)> = Vec::new();
    for piece in pieces {
        let since = piece.at - sent;
        match chunks.last_mut() {
            // One read brought both.
            Some((last, count)) if *last == since => *count += 1,
            _ => chunks.push((since, 1)),
        }
    }
    chunks
}

fn outcome(error: StreamError) -> RequestOutcome {
    match error {
        StreamError::NoAnswer(no_answer) => RequestOutcome::Failed {
            reason: no_answer.cause,
        },
        StreamError::Refused { status, said, .. } => RequestOutcome::Failed {
            reason: format!("status {status}{said}"),
        },
        StreamError::Broken(mismatch) => RequestOutcome::Failed {
            reason: mismatch.got,
        },
        StreamError::Invalid(mismatch) => RequestOutcome::Invalid {
            reason: mismatch.to_string(),
        },
    }
}
