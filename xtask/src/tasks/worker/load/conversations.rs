//! What the streams of a load say where each holds conversations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::tasks::worker::net::http::Request;
use crate::tasks::worker::process::lock::lock;

/// Streams begin so many sessions apart.
const SESSIONS_APART: usize = 7;

/// Conversations: each request has all that was said in its session, answers included.
#[derive(Clone)]
pub struct Sessions {
    /// How many requests each of them has. Not 0.
    pub turns: usize,
    /// What is said turn by turn, session after session. Not empty, and whole sessions.
    pub said: Arc<[String]>,
    /// The request with such a prompt.
    pub request: Arc<dyn Fn(&str) -> Request + Send + Sync>,
}

/// How far each stream is with its sessions.
pub struct Conversations {
    sessions: Sessions,
    of_streams: Mutex<HashMap<u32, Conversation>>,
}

/// The sessions of one stream.
#[derive(Debug, Default)]
struct Conversation {
    /// How many requests were sent so far.
    sent: usize,
    /// All that was said in the last of them, by both sides.
    text: String,
}

impl Conversations {
    /// Nothing is said yet.
    pub fn new(sessions: Sessions) -> Self {
        let of_streams = Mutex::default();
        Self {
            sessions,
            of_streams,
        }
    }

    /// The next turn of a stream's session, or the first of its next session.
    pub fn next_request(&self, stream: u32) -> Request {
        (self.sessions.request)(&self.next_prompt(stream))
    }

    fn next_prompt(&self, stream: u32) -> String {
        let Sessions { turns, said, .. } = &self.sessions;
        let mut of_streams = lock(&self.of_streams);
        let conversation = of_streams.entry(stream).or_default();
        if conversation.sent.is_multiple_of(*turns) {
            conversation.text.clear();
        }
        // No two streams are in the same session, as far as there are enough.
        let first = stream as usize * SESSIONS_APART * turns;
        conversation.text += &said[(first + conversation.sent) % said.len()];
        conversation.sent += 1;
        conversation.text.clone()
    }

    /// An answer belongs to what the next turn begins with. One that failed adds nothing.
    pub fn heard(&self, stream: u32, answer: &str) {
        lock(&self.of_streams).entry(stream).or_default().text += answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::load::calibration_server::CalibrationServer;

    #[test]
    fn a_session_is_one_streams_in_its_order_and_has_its_answers() {
        let conversations = Conversations::new(Sessions {
            turns: 3,
            said: (0..30).map(|number| format!("{number} ")).collect(),
            request: Arc::new(|_| CalibrationServer::request(0)),
        });
        let next = |stream| conversations.next_prompt(stream);
        assert_eq!(next(0), "0 ");
        conversations.heard(0, "answer ");
        assert_eq!(next(1), "21 ");
        assert_eq!(next(0), "0 answer 1 ");
        // It failed, so that nothing was said.
        assert_eq!(next(0), "0 answer 1 2 ");
        assert_eq!(next(1), "21 22 ");
        // Then comes the next session.
        conversations.heard(0, "the last answer ");
        assert_eq!(next(0), "3 ");
        let sessions: Vec<_> = (0..9).map(|_| next(1)).collect();
        assert_eq!(sessions[7..], ["0 ", "0 1 "]);
    }
}
